"""What the store remembers of files and their pixels, and whether they have changed since."""

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fsl_utils import files, store
from fsl_utils.data import images
from fsl_utils.data.decoding import Levels

_TICK = 2_000_000_000  # ns, of the coarsest file systems


def stamp(path: Path) -> list[int]:
    """What tells a file from any other content that had its name: size, times of change, inode.

    A swap or `cp -p` keeps size and modification time; it does not keep the rest.
    """
    s = os.stat(path)
    return [s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino]


def settled(stamp: list[int]) -> bool:
    """Whether a file changed long enough ago for its next change to show: ticks are coarse."""
    return max(stamp[1:3]) < time.time_ns() - _TICK


def recall(memo: Path):
    """What `remember` wrote, or None where it is missing or damaged."""
    try:
        digest, text = memo.read_text().split("\n", 1)
    except (OSError, ValueError):
        return None
    return json.loads(text) if hashlib.sha256(text.encode()).hexdigest() == digest else None


def remember(memo: Path, value) -> None:
    """Keep a JSON value beside a digest of itself."""
    text = json.dumps(value)
    files.write_text(memo, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")


def data_hash(paths: list[Path], names: list[str]) -> str:
    """Hex SHA-256 over the images' names and contents, whatever their order or place on disk.

    Hashing 100,000 files takes a while, so the store remembers the result under each file's stamp.
    """
    order = sorted(range(len(names)), key=names.__getitem__)
    stamps = [stamp(paths[i]) for i in order]
    known_by = json.dumps([(names[i], str(paths[i]), *s) for i, s in zip(order, stamps)])
    memo = store.opened() / "hashes" / f"{hashlib.sha256(known_by.encode()).hexdigest()}.txt"
    if known := recall(memo):
        return known
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(pool.map(files.sha256, [paths[i] for i in order]))
    total = hashlib.sha256(
        "".join(f"{names[i]}\0{d}\n" for i, d in zip(order, digests)).encode()
    ).hexdigest()
    if all(map(settled, stamps)):
        remember(memo, total)
    return total


def pixels(
    paths: list[Path],
    names: list[str],
    data_hash: str,
    size: int,
    channels: int,
    levels: Levels | None = None,
) -> np.ndarray:
    """The decoded images, memory-mapped from the store: read-only uint8 [N, C, size, size].

    `data_hash` stands for all that determines their pixels, `levels` included.
    """
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
        images.read_all(paths, size, channels, out=out, levels=levels)
        out.flush()

    folder = store.make("images", params, build)
    return np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
