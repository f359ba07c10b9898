"""Finished work on disk, under the hash of what determines it: asked twice, it runs once.

A finished thing is a folder `<store>/<stage>/<key>/` with a manifest (see `manifests`). It is
written beside its place and renamed into it, so it is there whole or not at all; the manifest holds
each file's SHA-256, so damage is noticed and the thing made again. Many writers of one thing, on
one machine or on a shared file system, need no lock: the first rename wins and all are the same.
What is damaged leaves its place by a rename too, so that nobody removes what another just made.

A store is a folder with the file MARK in it. Nothing is written to, or removed from, a folder that
holds other things and no such file.
"""

import os
import re
import tempfile
import time
import uuid
import warnings
from contextlib import suppress
from pathlib import Path

from fsl_utils import ROOT, StudyError, files, manifests
from fsl_utils.files import sha256, write_text, write_whole
from fsl_utils.manifests import canonical

__all__ = ["canonical", "sha256", "write_text", "write_whole"]  # callers take them from here

# Raise a stage's number when its results change; what was stored under the old one is left alone.
STAGES = {
    "images": 1,
    "features": 1,
    "prompts": 1,
    "adapter": 1,
    "pool": 3,
    "filter": 1,
    "verdicts": 1,
    "cell": 2,
    "report": 3,
    "figure": 1,
    "run": 1,
    "evidence": 1,
}

MARK = ".fsl_store"
OWN = ("tmp", "work", "running", "failed", "notebooks", "hashes", "partitions")  # beside the stages
HASHED = re.compile(r"[0-9a-f]{12}")  # in every name that the store gives
LEFT = re.compile(r"[a-z]+-[0-9a-f]{16}-[0-9a-f]{8}(\.record)?")  # names given in tmp/


def root() -> Path:
    """Folder of the store: `FSL_STORE`, else `store/` in the clone."""
    return files.absolute(os.environ.get("FSL_STORE") or ROOT / "store")


def opened() -> Path:
    """`root()`, made where it is not there: call it before anything is written to it.

    An empty folder becomes a store, and so does one that holds a store's work alone. Raises
    StudyError for any other folder, for a file, and where the store's own folders are links.
    """
    folder = root()
    with files.explained(folder):
        if not (folder / MARK).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            if stranger := _stranger(folder):
                raise StudyError(
                    f"FSL_STORE is {folder}, which is no store but holds other things "
                    f"({stranger}): give a new or an empty folder; a store of before becomes one "
                    f"by an empty file {MARK} in it"
                )
            write_text(folder / MARK, "Work of fsl_utils: see fsl_utils/store.py.\n")
    for name in OWN:
        _own(folder / name)
    return folder


def _own(folder: Path) -> None:
    if folder.is_symlink():
        raise StudyError(f"{folder} is a link: remove it, the store writes there itself")


def _stranger(folder: Path) -> str:
    """Something in `folder` that an empty folder or a store would not hold, '' if there is none."""
    names = sorted(os.listdir(folder))
    if MARK in names:  # another process was first
        return ""
    names = [name for name in names if not name.endswith(MARK)]  # and this one is about to be
    work = []
    for name in names:
        if name not in (*STAGES, *OWN) or not (folder / name).is_dir():
            return name
        work += [f"{name}/{entry}" for entry in os.listdir(folder / name)]
    if not work:  # folders of such names alone may be anybody's
        return "".join(names[:1])
    return next((path for path in work if not HASHED.search(path)), "")


def key(stage: str, params: dict) -> str:
    """Hex SHA-256 that names a thing: its stage, the stage's version and all that determines it."""
    return manifests.digest(manifests.determinant(stage, STAGES[stage], params))


def place(stage: str, params: dict) -> Path:
    """Where the thing lies or would lie."""
    return root() / stage / key(stage, params)


def find(stage: str, params: dict) -> Path | None:
    """Folder of a finished, undamaged thing, or None. A damaged one is removed with a warning."""
    folder = place(stage, params)
    if not os.path.lexists(folder):
        return None
    fault = damage(folder)
    if fault is None:
        _record(folder)
        return folder
    text = f"{folder} is damaged ({fault}); it is removed and will be made again"
    warnings.warn(text, stacklevel=2)
    remove(folder)
    return None


def damage(folder: Path, quick: bool = False) -> str | None:
    """What is wrong with a finished folder, or None.

    `quick` looks at sizes alone and reads no file but the manifest: whoever goes on to read the
    files must look for himself.
    """
    record, fault = manifests.read(folder)
    if fault:
        return fault
    for name, digest in record["files"].items():
        try:
            if quick:
                changed = os.stat(folder / name).st_size != record["bytes"][name]
            else:
                changed = sha256(folder / name) != digest
        except OSError:
            return f"{name} is missing or unreadable"
        if changed:
            return f"{name} has changed"
    return None


def manifest(folder: Path) -> dict:
    """The manifest of a finished folder. Raises StudyError where it is damaged."""
    record, fault = manifests.read(folder)
    if fault:
        raise StudyError(
            f"{folder} is damaged ({fault}): run the same command again, then it is made anew"
        )
    return record


def remove(folder: Path, fault=damage) -> None:
    """Take a folder with a fault out of its place; a whole one that is there by now stays."""
    aside = opened() / "tmp" / f"damaged-{folder.name[:16]}-{uuid.uuid4().hex[:8]}"
    moved = aside / folder.parent.name / folder.name  # a manifest is checked against its place
    with files.explained(root()):
        moved.parent.mkdir(parents=True)
        with suppress(FileNotFoundError):  # another remover was first
            os.rename(folder, moved)
            if fault(moved) is None:
                with suppress(OSError):
                    os.rename(moved, folder)
    files.discard(aside)


def make(stage: str, params: dict, build, **context) -> Path:
    """Return the finished folder of (stage, params), calling `build(folder)` if it is not there.

    `build` writes its files into the folder it is given and may return a dict of facts for the
    manifest. `context` (device, seeds, ...) is recorded but not part of the key. Raises StudyError
    where the disk is full or the store cannot be written; what was finished before stays.
    """
    if found := find(stage, params):
        return found
    folder = place(stage, params)
    scratch = opened() / "tmp" / f"{stage}-{folder.name[:16]}-{uuid.uuid4().hex[:8]}"
    try:
        with files.explained(root()):
            scratch.mkdir(parents=True)
            start = time.perf_counter()
            facts = build(scratch)
            record = {
                "stage": stage,
                "key": folder.name,
                "stage_version": STAGES[stage],
                "params": params,
                **manifests.provenance(),
                "threads": manifests.threads(),
                **context,
                **(facts if isinstance(facts, dict) else {}),
                "seconds": round(time.perf_counter() - start, 3),
            }
            _finish(scratch, record, folder)
    finally:
        files.discard(scratch)
    _record(folder, "made")
    return folder


def _finish(scratch: Path, record: dict, folder: Path) -> None:
    """Write the manifest and move the whole into its place, content first."""
    paths = sorted(path for path in scratch.rglob("*") if path.is_file())
    for path in paths:
        files.sync(path)
    record |= {
        "bytes": {str(path.relative_to(scratch)): path.stat().st_size for path in paths},
        "files": {str(path.relative_to(scratch)): sha256(path) for path in paths},
    }
    write_text(scratch / manifests.NAME, manifests.sealed(record))
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(scratch, folder)
    except OSError:  # another writer was first (theirs is the same), or NFS answers twice
        if damage(folder):
            raise
    files.sync(folder.parent)


def _record(folder: Path, what: str = "found") -> None:
    """Append 'found' or 'made' and 'stage/key' to the file that FSL_RECORD names: the grid learns
    there what a notebook did."""
    if path := os.environ.get("FSL_RECORD"):
        with open(path, "a") as file:
            file.write(f"{what} {folder.parent.name}/{folder.name}\n")


def clock() -> float | None:
    """Now, in seconds, by the clock that dates the store's files, whatever this machine's says;
    None where no file can be written."""
    with suppress(OSError), tempfile.TemporaryFile(dir=root()) as file:
        return os.fstat(file.fileno()).st_mtime
    return None


def sweep(age: float = 2 * 86400) -> None:
    """Remove what killed writers left, if nobody has written to it for `age` seconds: in tmp/ what
    bears a name that `make` and `remove` give, elsewhere halves of files that `write_whole` began.
    """
    folder = opened()
    left = [path for path in (folder / "tmp").glob("*") if LEFT.fullmatch(path.name)]
    for place in (*(folder / name for name in OWN), *(folder / "work").glob("*")):
        if not place.is_symlink():
            left += [path for path in place.glob(".*") if files.PARTIAL.fullmatch(path.name)]
    now = clock()
    if now is None:
        return
    for path in left:
        with suppress(FileNotFoundError):  # its writer has just finished
            inside = () if path.is_symlink() else path.rglob("*")
            if max(part.lstat().st_mtime for part in (path, *inside)) < now - age:
                files.discard(path)


def work_folder(stage: str, params: dict) -> Path:
    """Folder for checkpoints of an unfinished thing; its maker removes it when done."""
    folder = opened() / "work" / f"{stage}-{key(stage, params)[:32]}"
    _own(folder)
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
