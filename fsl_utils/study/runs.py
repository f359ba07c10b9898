"""A node's run: what determines it, and whether it is finished and all its results are there."""

import functools
import json
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from fsl_utils import ROOT, StudyError, store
from fsl_utils.generator import settings
from fsl_utils.generator.settings import FineTuning
from fsl_utils.request import Request
from fsl_utils.study import grid, notebooks

# What `publish` reads from the store, and so must be sure of.
PUBLISHED = ("cell", "report", "figure")


@dataclass(frozen=True)
class RunRequest(Request):
    """All that determines a notebook's run: code, parameters, data, backbone, fine-tuning."""

    stage: ClassVar[str] = "run"
    notebook: str
    code: str  # hex SHA-256, see `notebooks.read`
    parameters: str  # canonical JSON
    data: str
    base: str
    tuning: FineTuning

    @classmethod
    def of(cls, node: grid.Node) -> "RunRequest":
        """The run of a node, with the notebook, data and weights as they are now."""
        notebook, values = grid.STAGES[node.stage], node.values
        code = notebooks.read(notebooks.source(notebook))[1]
        data = _data_hash(*(values[name] for name in grid.TASK))
        backbone = values["backbone"]
        changed = {name: values[name] for name in ("preset", "diversity") if name in values}
        tuning = settings.of(values["domain"], backbone, **changed)
        base = _base(backbone, tuning.quantise)
        return cls(notebook, code, node.parameters, data, base, tuning)

    @property
    def values(self) -> dict:
        """The notebook's parameters."""
        return json.loads(self.parameters)

    def params(self) -> dict:
        """Its key in the store is the hash of this."""
        return {
            "notebook": self.notebook,
            "code": self.code,
            "parameters": self.values,
            "data": self.data,
            "base": self.base,
            "tuning": asdict(self.tuning),
            "stages": store.STAGES,
        }

    @property
    def name(self) -> str:
        """Short name of a run, for its marker and its failed copy."""
        return f"{self.notebook}-{self.key[:12]}"


@functools.cache
def _data_hash(*task: str) -> str:
    return grid.task(dict(zip(grid.TASK, task))).data_hash


def _base(backbone: str, quantise: str) -> str:
    """What names the backbone's weights. For a mini without its module, which takes 700 MB."""
    if backbone.startswith("mini"):
        shipped = ROOT / "fsl_utils" / "generator" / "weights" / f"{backbone}.safetensors"
        variable = f"FSL_{backbone.upper()}"
        path = Path(os.environ.get(variable) or shipped)
        if not path.is_file():
            raise StudyError(
                f"{path}: the weights of {backbone} are not there; leave {variable} unset"
            )
        return _hash(path, os.stat(path).st_mtime_ns)
    from fsl_utils.generator import backbones

    return backbones.identity(backbone, quantise)


@functools.cache
def _hash(path: Path, changed: int) -> str:
    return store.sha256(path)


def finished(nodes: list[grid.Node]) -> dict[grid.Node, Path]:
    """Folders of those runs that are finished and all of whose results are there.

    What is read next, by `publish`, is read here too and its hash compared. Of the rest (images,
    features, pools, adapters: gigabytes in a large study) existence and sizes are looked at: each
    notebook that reads them compares hashes.
    """
    looked: dict[str, str | None] = {}  # what several runs share is looked at once

    def fault(folder: Path) -> str | None:
        if damage := store.damage(folder, quick=True):
            return damage
        for thing in store.manifest(folder)["things"]:
            if thing not in looked:
                quick = thing.split("/")[0] not in PUBLISHED
                looked[thing] = store.damage(store.root() / thing, quick)
            if looked[thing]:
                return f"{thing}: {looked[thing]}"
        return None

    done = {}
    for node in nodes:
        folder = RunRequest.of(node).place
        if not folder.exists():
            continue
        if damage := fault(folder):
            warnings.warn(
                f"{grid.STAGES[node.stage]} ({node.title}) runs again, "
                f"its result is damaged ({damage})",
                stacklevel=2,
            )
            looked.clear()
            store.remove(folder, fault)
            continue
        done[node] = folder
    return done
