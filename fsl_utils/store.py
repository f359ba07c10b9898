"""Finished work on disk, under the hash of what determines it: asked twice, it runs once.

A finished thing is a folder `<store>/<stage>/<key>/` with a `manifest.json`. It is
written beside its place and renamed into it, so it is there whole or not at all;
the manifest holds each file's SHA-256, so damage is noticed and the thing made again.
Two writers of one thing need no lock: the first rename wins and both are the same.
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
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from . import ROOT, StudyError

# Raise a stage's number when its results change; what was stored under the old one is left alone.
STAGES = {"images": 1, "features": 1, "adapter": 1, "pool": 1, "cell": 1, "report": 1, "figure": 1, "run": 1}

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
    shutil.rmtree(folder, ignore_errors=True)
    return None


def damage(folder: Path) -> str | None:
    """What is wrong with a finished folder, or None."""
    try:
        files = manifest(folder)["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return "manifest.json is missing or unreadable"
    for name, digest in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if sha256(path) != digest:
            return f"{name} has changed"
    return None


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
                "stage": stage, "key": folder.name, "stage_version": STAGES[stage], "params": params,
                **provenance(), "threads": _threads(), **context, **facts,
                "seconds": round(time.perf_counter() - start, 3),
                "files": {str(p.relative_to(scratch)): sha256(p) for p in sorted(scratch.rglob("*")) if p.is_file()},
            }
            write_text(scratch / "manifest.json", json.dumps(record, indent=1))
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(scratch, folder)
            except OSError as error:  # another writer was first: theirs is the same thing
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or damage(folder):
                    raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _record(folder)
    return folder


def _record(folder: Path) -> None:
    """Append 'stage/key' to the file that FSL_RECORD names: the grid learns there what a notebook run used and made."""
    if path := os.environ.get("FSL_RECORD"):
        with open(path, "a") as file:
            file.write(f"{folder.parent.name}/{folder.name}\n")


@contextmanager
def disk_full_explained():
    """Turn 'no space left' into a StudyError that says where and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StudyError(
            f"disk full while writing to {root()}: free some space or point FSL_STORE elsewhere, "
            "then run again; finished work is kept"
        ) from error


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
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@functools.cache
def provenance() -> dict:
    """Versions, git commit and machine, for the manifest."""
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {
        "commit": commit or None, "versions": versions, "python": platform.python_version(),
        "machine": platform.machine(),
    }


def _threads() -> int:
    torch = sys.modules.get("torch")  # not imported for this: it takes 400 MB, and decoding does without
    return torch.get_num_threads() if torch else os.cpu_count()
