"""Manifests: what a finished folder says of itself, and how that is held.

A folder `<stage>/<key>` carries `manifest.json`. Its key is the hash of the stage, the stage's
version and the params in it, so none of these can change unnoticed; a digest at its end covers
every byte before it, so nothing else can. Manifests of stores made before there was a digest count
as damaged: what they tell of is made again.
"""

import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

from fsl_utils import ROOT
from fsl_utils.files import plain

NAME = "manifest.json"
FIELDS = {"stage": str, "key": str, "stage_version": int, "params": dict, "bytes": dict}
FIELDS |= {"files": dict, "seconds": float}
_PACKAGES = ("torch", "torchvision", "diffusers", "peft", "numpy", "scikit-learn")


def canonical(params: dict) -> str:
    """Canonical JSON of `params`: sorted keys, no spaces, no NaN. Lists keep their order."""
    return json.dumps(params, sort_keys=True, separators=(",", ":"), allow_nan=False)


def determinant(stage: str, stage_version: int, params: dict) -> str:
    """The text whose SHA-256 is a thing's key: its stage, the stage's version, its params."""
    return canonical({"stage": stage, "version": stage_version, "params": params})


def digest(text: str) -> str:
    """Hex SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(record: dict) -> str:
    """A manifest's text: JSON that ends with the digest of all before it."""
    return _seal(json.dumps(record, indent=1).removesuffix("\n}"))


def _seal(body: str) -> str:
    return f'{body},\n "digest": "{digest(body)}"\n}}'


def read(folder: Path) -> tuple[dict, str]:
    """The manifest of a finished folder and '', or {} and what is wrong with it."""
    try:
        with plain(folder / NAME) as file:
            text = file.read().decode()
    except (OSError, ValueError):
        return {}, f"{NAME} is missing or unreadable"
    body, mark, _ = text.rpartition(',\n "digest": ')
    if not mark:
        return {}, f"{NAME} has no digest, as in stores made before there was one, or is cut"
    if text != _seal(body):
        return {}, f"{NAME} has changed"
    record = json.loads(text)
    if any(not isinstance(record.get(name), kind) for name, kind in FIELDS.items()):
        return {}, f"{NAME} lacks a field"
    key = digest(determinant(record["stage"], record["stage_version"], record["params"]))
    if not key == record["key"] == folder.name or record["stage"] != folder.parent.name:
        return {}, f"{NAME} is that of another thing"
    if record["files"].keys() != record["bytes"].keys() or not all(map(_inside, record["files"])):
        return {}, f"{NAME} names files that cannot be"
    return record, ""


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


@functools.cache
def provenance() -> dict:
    """Versions, git commit and machine, for the manifest."""
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    versions: dict[str, str | None] = {}
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


def threads() -> int:
    """Threads that torch computes with, or the machine's cores where nothing needed torch."""
    torch = sys.modules.get("torch")  # not imported for this: it takes 400 MB
    return torch.get_num_threads() if torch else os.cpu_count() or 1
