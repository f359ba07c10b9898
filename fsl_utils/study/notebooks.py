"""The numbered notebooks as programs: their parameters, what of them determines a run, a snapshot.

What counts is the code and its tags, without the parameters' defaults: each run says its own.
Outputs, execution counts, cell ids and text may change, as they do when a notebook is opened.
"""

import functools
import hashlib
import json
import os
from pathlib import Path

from fsl_utils import ROOT, StudyError, params, store

FOLDER = ROOT / "notebooks"
PARAMETERS = "parameters"  # the tag of the cell that papermill looks for


def source(notebook: str) -> Path:
    """The file of a numbered notebook."""
    return FOLDER / f"{notebook}.ipynb"


def declared(notebook: str) -> tuple[str, ...]:
    """Names in a notebook's parameter cell."""
    return read(source(notebook))[0]


def read(path: Path) -> tuple[tuple[str, ...], str]:
    """Names in a notebook's parameter cell, and a hex SHA-256 of its code."""
    return _read(path, os.stat(path).st_mtime_ns)


@functools.cache
def _read(path: Path, changed: int) -> tuple[tuple[str, ...], str]:
    names, code = None, []
    for cell in _cells(path):
        tags = sorted(cell["metadata"].get("tags", []))
        source = "".join(cell["source"])
        if PARAMETERS in tags:
            names = tuple(params.names_set(source))
        elif cell["cell_type"] == "code":
            code.append([source, tags])
    if names is None:
        raise StudyError(f"{path}: no cell is tagged '{PARAMETERS}'")
    return names, hashlib.sha256(json.dumps(code).encode()).hexdigest()


def _cells(path: Path) -> list[dict]:
    """A notebook's cells as they lie in the file. nbformat would check them against its schema, and
    takes longer to import than all else here.
    """
    try:
        return json.loads(path.read_text())["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path}: not a notebook of format 4; check the file out again") from error


def snapshot(notebook: str) -> Path:
    """A copy of a notebook in the store: what begins with it is not moved by edits."""
    path = store.opened() / "notebooks" / f"{notebook}-{read(source(notebook))[1][:12]}.ipynb"
    store.write_text(path, source(notebook).read_text())
    return path
