"""Finished work on disk, under the hash of what determines it: asked twice, it runs once.

A finished thing is a folder `<store>/<stage>/<key>/` with a `manifest.json`. It is
written beside its place and renamed into it, so it is there whole or not at all;
the manifest holds each file's SHA-256, so damage is noticed and the thing made again.
Many writers of one thing, on one machine or on a shared file system, need no lock: the first
rename wins and all are the same. Files reach the disk before the rename does (fsync), and what
is damaged leaves its place by a rename too, so that nobody removes what another just made.
"""

import errno
import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import uuid
import warnings
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fsl_utils import ROOT, StudyError

# Raise a stage's number when its results change; what was stored under the old one is left alone.
STAGES = {
    "images": 1,
    "features": 1,
    "prompts": 1,
    "adapter": 1,
    "pool": 2,
    "filter": 1,
    "verdicts": 1,
    "cell": 1,
    "report": 2,
    "figure": 1,
    "run": 1,
}

_PACKAGES = ("torch", "torchvision", "diffusers", "peft", "numpy", "scikit-learn")


def root() -> Path:
    """Folder of the store: `FSL_STORE`, else `store/` in the clone."""
    return Path(os.environ.get("FSL_STORE") or ROOT / "store").expanduser().absolute()


def canonical(params: dict) -> str:
    """Canonical JSON of `params`: sorted keys, no spaces, no NaN. Lists keep their order."""
    return json.dumps(params, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key(stage: str, params: dict) -> str:
    """Hex SHA-256 that names a thing: its stage, the stage's version and all that determines it."""
    text = canonical({"stage": stage, "version": STAGES[stage], "params": params})
    return hashlib.sha256(text.encode()).hexdigest()


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def place(stage: str, params: dict) -> Path:
    """Where the thing lies or would lie."""
    return root() / stage / key(stage, params)


def find(stage: str, params: dict) -> Path | None:
    """Folder of a finished, undamaged thing, or None. A damaged one is removed with a warning."""
    folder = place(stage, params)
    if not folder.exists():
        return None
    fault = damage(folder)
    if fault is None:
        _record(folder)
        return folder
    warnings.warn(f"{folder} is damaged ({fault}); it is removed and will be made again")
    remove(folder)
    return None


def damage(folder: Path, quick: bool = False) -> str | None:
    """What is wrong with a finished folder, or None. `quick` looks at sizes alone and reads no file but the
    manifest: whoever goes on to read the files must look for himself."""
    try:
        record = manifest(folder)
        files, sizes = record["files"], record.get("bytes") if quick else None
    except (OSError, ValueError, KeyError, TypeError):
        return "manifest.json is missing or unreadable"
    for name, digest in files.items():
        try:
            changed = (
                os.stat(folder / name).st_size != sizes[name]
                if sizes
                else sha256(folder / name) != digest
            )
        except OSError:
            return f"{name} is missing or unreadable"
        if changed:
            return f"{name} has changed"
    return None


def remove(folder: Path, fault=damage) -> None:
    """Take a folder with a fault out of its place. If another writer has put a whole one there since, it stays."""
    aside = root() / "tmp" / f"damaged-{folder.name[:16]}-{uuid.uuid4().hex[:8]}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(folder, aside)
    except FileNotFoundError:
        return
    if fault(aside) is None:
        with suppress(OSError):
            os.rename(aside, folder)
    shutil.rmtree(aside, ignore_errors=True)


def manifest(folder: Path) -> dict:
    """The manifest of a finished folder."""
    return json.loads((folder / "manifest.json").read_text())


def make(stage: str, params: dict, build, **context) -> Path:
    """Return the finished folder of (stage, params), calling `build(folder)` only if it is not there.

    `build` writes its files into the folder it is given and may return a dict of facts
    for the manifest. `context` (device, seeds, ...) is recorded but not part of the key.
    Raises StudyError where the disk is full; what was finished before stays.
    """
    if found := find(stage, params):
        return found
    folder = place(stage, params)
    scratch = root() / "tmp" / f"{stage}-{folder.name[:16]}-{uuid.uuid4().hex[:8]}"
    try:
        with disk_full_explained():
            scratch.mkdir(parents=True)
            start = time.perf_counter()
            facts = build(scratch)
            facts = facts if isinstance(facts, dict) else {}
            record = {
                "stage": stage,
                "key": folder.name,
                "stage_version": STAGES[stage],
                "params": params,
                **provenance(),
                "threads": _threads(),
                **context,
                **facts,
                "seconds": round(time.perf_counter() - start, 3),
            }
            files = sorted(p for p in scratch.rglob("*") if p.is_file())
            for path in files:
                _sync(path)
            record |= {
                "bytes": {str(p.relative_to(scratch)): p.stat().st_size for p in files},
                "files": {str(p.relative_to(scratch)): sha256(p) for p in files},
            }
            write_text(scratch / "manifest.json", json.dumps(record, indent=1))
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(scratch, folder)
            except (
                OSError
            ):  # another writer was first (theirs is the same thing), or NFS answers twice
                if damage(folder):
                    raise
            _sync(folder.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _record(folder, "made")
    return folder


def _sync(path: Path) -> None:
    """Have a file's content, or a folder's list of names, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _record(folder: Path, what: str = "found") -> None:
    """Append 'found' or 'made' and 'stage/key' to the file that FSL_RECORD names: the grid learns there what a notebook did."""
    if path := os.environ.get("FSL_RECORD"):
        with open(path, "a") as file:
            file.write(f"{what} {folder.parent.name}/{folder.name}\n")


@contextmanager
def disk_full_explained():
    """Turn 'no space left' into a StudyError that says where and what to do."""
    try:
        yield
    except (
        Exception
    ) as error:  # safetensors has an error of its own, which carries the system's words
        if getattr(error, "errno", None) not in (
            errno.ENOSPC,
            errno.EDQUOT,
        ) and "No space left" not in str(error):
            raise
        raise StudyError(
            f"disk full while writing to {root()}: free some space or point FSL_STORE elsewhere, "
            "then run again; finished work is kept"
        ) from error


def sweep(age: float = 2 * 86400) -> None:
    """Remove what killed writers left in tmp/: whatever nobody has written to for `age` seconds."""
    for folder in (root() / "tmp").glob("*"):
        with suppress(FileNotFoundError):  # its writer has just finished
            if max(p.stat().st_mtime for p in (folder, *folder.rglob("*"))) < time.time() - age:
                shutil.rmtree(folder, ignore_errors=True)


def work_folder(stage: str, params: dict) -> Path:
    """Folder for checkpoints of an unfinished thing; its maker removes it when done."""
    folder = root() / "work" / f"{stage}-{key(stage, params)[:32]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_whole(path, lambda partial: partial.write_text(text))


def write_whole(path: Path, write) -> None:
    """Call `write(partial_path)` and move the result into place, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        with disk_full_explained():
            write(partial)
            _sync(partial)
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@functools.cache
def provenance() -> dict:
    """Versions, git commit and machine, for the manifest."""
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {
        "commit": commit or None,
        "versions": versions,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def _threads() -> int:
    torch = sys.modules.get(
        "torch"
    )  # not imported for this: it takes 400 MB, and decoding does without
    return torch.get_num_threads() if torch else os.cpu_count()
