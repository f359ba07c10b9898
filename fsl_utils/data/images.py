"""One chain from an image file to pixels, the same for real and synthetic images.

decode -> grey or RGB -> 8 bits -> antialiased resize to a square -> uint8 [C, S, S].
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from fsl_utils import StudyError, store


def decode(path: Path, channels: int) -> Image.Image:
    """Read one image as 8-bit grey (channels=1) or RGB (channels=3).

    16-bit images are scaled by their full range (65535 -> 255), never by their own
    contrast, so that two images stay comparable. Raises StudyError naming the file
    where it is empty, truncated, not an image, has 32 bits a pixel, or more pixels than
    PIL's bomb limit.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(f"{image.width}x{image.height}")
            image.load()
            if image.mode.startswith("I;16"):
                image = Image.fromarray(np.rint(np.asarray(image) / 257.0).astype(np.uint8))
            elif image.mode in ("I", "F"):
                raise StudyError(
                    f"{path}: 32 bits a pixel, of unknown range; save it with 8 or 16 bits"
                )
            return image.convert("L" if channels == 1 else "RGB")
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such image") from error
    except Image.DecompressionBombError as error:
        raise StudyError(f"{path}: too many pixels ({error}); scale it down") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise StudyError(f"{path}: not a readable image ({error}); replace or remove it") from error


def any_colour(paths: list[Path]) -> bool:
    """Whether any of up to 50 images, spread evenly over `paths`, is in colour by its header."""

    def colour(path):
        try:
            with Image.open(path) as image:
                return image.mode not in ("1", "L", "LA", "I", "F") and not image.mode.startswith(
                    "I;16"
                )
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return False  # decoding will name it

    return any(colour(paths[i]) for i in np.unique(np.linspace(0, len(paths) - 1, 50).astype(int)))


def to_array(image: Image.Image, size: int) -> np.ndarray:
    """Resize to size x size (bicubic, antialiased by PIL) and return uint8 [C, size, size]."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def chain(pixels: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Painted RGB images, uint8 [N, H, W, 3], through the chain of real ones -> uint8 [N, channels, size, size]."""
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
) -> np.ndarray:
    """Decode many images on all cores: uint8 [N, C, size, size] in the order of `paths`, into `out` if given.

    Raises one StudyError that counts and names the unreadable files.
    """
    if out is None:
        out = np.empty((len(paths), channels, size, size), np.uint8)

    def read(i):
        out[i] = to_array(decode(paths[i], channels), size)

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
        list(
            tqdm(
                pool.map(careful, items),
                total=len(items),
                desc=title,
                unit="image",
                mininterval=1,
                disable=not progress,
            )
        )
    if faults:
        faults.sort()
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise StudyError(
            f"{len(faults)} of {len(items)} images cannot be read: {'; '.join(faults[:3])}{more}"
        )


def data_hash(paths: list[Path], names: list[str]) -> str:
    """Hex SHA-256 over the images' names and contents, whatever their order or place on disk.

    Hashing 100,000 files takes a while, so the result is remembered in the store
    under each file's size and time of change.
    """
    order = sorted(range(len(names)), key=names.__getitem__)
    stats = [
        (names[i], str(paths[i]), (s := os.stat(paths[i])).st_size, s.st_mtime_ns) for i in order
    ]
    memo = (
        store.opened() / "hashes" / f"{hashlib.sha256(json.dumps(stats).encode()).hexdigest()}.txt"
    )
    if memo.is_file() and len(text := memo.read_text()) == 64:
        return text
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(pool.map(store.sha256, [paths[i] for i in order]))
    total = hashlib.sha256(
        "".join(f"{names[i]}\0{d}\n" for i, d in zip(order, digests)).encode()
    ).hexdigest()
    store.write_text(memo, total)
    return total


def cached(
    paths: list[Path], names: list[str], data_hash: str, size: int, channels: int
) -> np.ndarray:
    """The decoded images, memory-mapped from the store: read-only uint8 [N, C, size, size]."""
    params = {
        "data": data_hash,
        "names": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "size": size,
        "channels": channels,
    }

    def build(folder):
        out = np.lib.format.open_memmap(
            folder / "images.npy", "w+", np.uint8, (len(paths), channels, size, size)
        )
        read_all(paths, size, channels, out=out)
        out.flush()

    folder = store.make("images", params, build)
    return np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
