"""One chain from an image file to pixels, the same for real and synthetic images.

decode -> grey or RGB of 8 bits -> antialiased resize to a square -> uint8 [C, S, S].
"""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from fsl_utils import StudyError
from fsl_utils.data import decoding
from fsl_utils.steps import bar


def to_array(image: Image.Image, size: int) -> np.ndarray:
    """Resize to size x size (bicubic, antialiased by PIL) and return uint8 [C, size, size]."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def chain(pixels: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Painted RGB images, uint8 [N, H, W, 3], as real ones -> uint8 [N, channels, size, size]."""
    return np.stack(
        [
            to_array(Image.fromarray(p).convert("L" if channels == 1 else "RGB"), size)
            for p in pixels
        ]
    )


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 [N, C, S, S] -> [N, C, size, size], as real images are resized."""
    if pixels.shape[-1] == size:
        return pixels
    return np.stack(
        [
            to_array(Image.fromarray(p[0] if len(p) == 1 else np.moveaxis(p, 0, -1)), size)
            for p in pixels
        ]
    )


def read_all(
    paths: list[Path],
    size: int,
    channels: int,
    progress: bool = True,
    out: np.ndarray | None = None,
    levels: decoding.Levels | None = None,
) -> np.ndarray:
    """Decode many images on all cores: uint8 [N, C, size, size] in the order of `paths`.

    out: an array to write into. levels: of 16-bit files (see `decoding.decode`). Raises one
    StudyError that counts and names the unreadable files.
    """
    if out is None:
        out = np.empty((len(paths), channels, size, size), np.uint8)

    def read(i):
        out[i] = to_array(decoding.decode(paths[i], channels, levels), size)

    each(read, range(len(paths)), "decoding", progress)
    return out


def each(work, items, title: str, progress: bool = True) -> None:
    """Call `work(item)` on all cores and raise one StudyError that counts and names what failed.

    Threads do: PIL releases the interpreter lock while it decodes and resizes.
    """
    faults = []

    def careful(item):
        try:
            work(item)
        except StudyError as error:
            faults.append(str(error))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(careful, items)
        deque(bar(done, len(items), title, "image") if progress else done, maxlen=0)
    if faults:
        faults.sort()
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise StudyError(
            f"{len(faults)} of {len(items)} images cannot be read: {'; '.join(faults[:3])}{more}"
        )
