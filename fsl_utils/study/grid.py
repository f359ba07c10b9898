"""The grid: a YAML file becomes a graph of papermill runs of the numbered notebooks, each done once.

    name: quickstart
    defaults: {parameter: value}
    sweep:
      - {draw: [0, 1], classifier: probe, arms: [real, lora], ratios: [1, 4]}

Lists over the parameters of CROSSED are crossed; `arms` and `ratios` go whole into one run.
What runs the graph is in `engine`. Nothing here imports torch: a driver of thousands of nodes stays small.
"""

import functools
import itertools
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

from fsl_utils import ROOT, StudyError, params, store
from fsl_utils.classifier import arms, classifiers
from fsl_utils.data import domains, partitions
from fsl_utils.data.datasets import registry

NOTEBOOKS = ROOT / "notebooks"
REPORTED = 200  # images of a pool that notebook 05 looks at: enough for its figures, and quick
CROSSED = ("domain", "rare_class", "n_real", "draw", "seed", "backbone", "mode", "classifier")
STAGES = {
    "adapter": "02_lora_finetuning",
    "pool": "03_generation",
    "cells": "04_classifier_sweep",
    "report": "05_diversity_analysis",
}
TASK = ("domain", "rare_class", "protocol", "folder", "common_class", "group_pattern", "view")
PUBLISHED = (
    "cell",
    "report",
    "figure",
)  # what `publish` reads from the store, and so must be sure of


@dataclass(frozen=True)
class Node:
    """One papermill run: a notebook, the parameters that it takes, and the runs that it needs done before."""

    stage: str
    parameters: tuple  # sorted (name, canonical JSON of the value): hashable
    needs: tuple["Node", ...] = ()

    @property
    def values(self) -> dict:
        return {name: json.loads(text) for name, text in self.parameters}

    @property
    def title(self) -> str:
        """What tells this run from others of its stage, in words."""
        v = self.values
        named = [
            v["domain"],
            v["rare_class"],
            *(f"{name} {v[name]}" for name in ("n_real", "draw", "seed")),
            v.get("mode"),
            v.get("classifier"),
        ]
        return " ".join(word for word in named if word)


def read(path: Path) -> tuple[str, list[dict]]:
    """Name and crossed parameter maps of a grid file, every parameter given. Raises StudyError naming what is wrong in it."""
    try:
        data = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such grid file; see notebooks/grids/") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict) or set(data) != {"name", "defaults", "sweep"}:
        raise StudyError(f"{path}: a grid file has exactly the keys name, defaults and sweep")
    if (
        not isinstance(data["defaults"] or {}, dict)
        or not isinstance(data["sweep"], list)
        or not all(isinstance(e, dict) for e in data["sweep"])
    ):
        raise StudyError(f"{path}: defaults is a map of parameters, and sweep a list of such maps")
    if not data["sweep"]:
        raise StudyError(
            f"{path}: sweep is empty: give it one map of parameters or more ('- {{}}' runs the defaults)"
        )
    runs = []
    for number, entry in enumerate(data["sweep"], 1):
        try:
            runs += _crossed({**(data["defaults"] or {}), **entry})
        except StudyError as error:
            raise StudyError(f"{path}: entry {number} of sweep: {error}") from error
    return str(data["name"]), runs


def _crossed(merged: dict) -> list[dict]:
    lists = {
        name: given for name, given in merged.items() if name in CROSSED and isinstance(given, list)
    }
    for name in (name for name, given in lists.items() if not given):
        raise StudyError(f"{name} is an empty list")
    runs = []
    for values in itertools.product(*lists.values()):
        run = {
            name: params.value(name, given)
            for name, given in {**merged, **dict(zip(lists, values))}.items()
        }
        run = {name: params.default(name) for name in params.TABLE} | run
        for name in run["arms"]:
            arms.get(name)
        registry.get(run["domain"])
        classifiers.get(run["classifier"]).check(run["init"])
        if not planned(run):
            raise StudyError(
                f"nothing to run: {run['classifier']} with arms {run['arms']} at ratios {run['ratios']} has no cell"
            )
        runs.append(run)
    return runs


def check(runs: list[dict]) -> None:
    """Whether the data are at hand and have the shots that each run asks for. Raises StudyError where not."""
    for run in {
        json.dumps([run[name] for name in (*TASK, "draw", "n_real")]): run for run in runs
    }.values():
        partitions.draw(task(run).table, run["draw"], run["n_real"])


def task(run: dict) -> domains.Domain:
    """The domain that a run's parameters name."""
    return _task(*(run[name] for name in TASK))


@functools.lru_cache(
    maxsize=8
)  # runs of one task stand together; a table of 100,000 images takes memory
def _task(
    domain: str,
    rare_class: str,
    protocol: str,
    folder: str,
    common_class: str,
    group_pattern: str,
    view: str,
) -> domains.Domain:
    return domains.load(
        domain,
        rare_class,
        protocol,
        folder=folder,
        common_class=common_class,
        group_pattern=group_pattern,
        view=view,
    )


@functools.cache
def _data_hash(*task: str) -> str:
    return _task(*task).data_hash


def planned(run: dict) -> list[tuple[str, float]]:
    """(arm, ratio) of the cells of a run, before it is known whether a draw has the images for each."""
    return arms.planned(run["arms"], run["ratios"], run["classifier"])


def nodes(runs: list[dict]) -> list[Node]:
    """The notebook runs of a grid, without repeats, each after those that it needs.

    What the file lists first comes first, from adapter to cells, and the pool reports at the end. A pool is made
    once, as large as the largest ratio of any run asks; images of the backbone alone need no adapter.
    """
    sizes = {}
    for run in runs:
        most = max((ratio for name, ratio in planned(run) if arms.get(name).source.tuned), default=None)
        if most is not None:
            pool = _node("pool", run | {"n_images": 1})
            sizes[pool] = max(round(most * run["n_real"]), sizes.get(pool, 1))
    ordered, reports = {}, {}
    for run in runs:
        needs = ()
        if any(arms.get(name).source.tuned for name, _ in planned(run)):
            adapter = _node("adapter", run)
            size = sizes[_node("pool", run | {"n_images": 1})]
            pool = _node("pool", run | {"n_images": size}, adapter)
            ordered |= {adapter: None, pool: None}
            if size > 1:
                reports[_node("report", run | {"n_images": min(size, REPORTED)}, pool)] = None
            needs = (pool,)
        ordered[_node("cells", run, *needs)] = None
    return [*ordered, *reports]


def _node(stage: str, run: dict, *needs: Node) -> Node:
    return Node(
        stage,
        tuple(sorted((name, json.dumps(run[name])) for name in declared(STAGES[stage]))),
        needs,
    )


@functools.cache
def declared(notebook: str) -> tuple[str, ...]:
    """Names in a notebook's parameter cell."""
    for cell in nbformat.read(source(notebook), as_version=4).cells:
        if "parameters" in cell.metadata.get("tags", []):
            return tuple(params.names_set(cell.source))
    raise StudyError(f"{source(notebook)}: no cell is tagged 'parameters'")


def source(notebook: str) -> Path:
    """The file of a numbered notebook."""
    return NOTEBOOKS / f"{notebook}.ipynb"


def request(node: Node) -> dict:
    """What determines a run: the notebook's text, its parameters, the data, the backbone and every stage's version."""
    v = node.values
    return {
        "notebook": STAGES[node.stage],
        "source": _hash(source(STAGES[node.stage])),
        "parameters": v,
        "data": _data_hash(*(v[name] for name in TASK)),
        "base": _base(v["backbone"]),
        "stages": store.STAGES,
    }


def name(wanted: dict) -> str:
    """Short name of a run (what `request` returned), for its marker and its failed copy."""
    return f"{wanted['notebook']}-{store.key('run', wanted)[:12]}"


def _base(backbone: str) -> str:
    """What names the backbone's weights. For mini without its module, which takes 700 MB of torch and diffusers."""
    if backbone == "mini":
        return _hash(
            Path(
                os.environ.get("FSL_MINI")
                or ROOT / "fsl_utils" / "generator" / "weights" / "mini.safetensors"
            )
        )
    from fsl_utils.generator import backbones

    return backbones.identity(backbone)


def _hash(path: Path) -> str:
    return _hash_of(path, os.stat(path).st_mtime_ns)


@functools.cache
def _hash_of(path: Path, changed: int) -> str:
    return store.sha256(path)


def finished(nodes: list[Node]) -> dict[Node, Path]:
    """Folders of those runs that are finished and all of whose results are there.

    What is read next, by `publish`, is read here too and its hash compared. Of the rest (images, features, pools,
    adapters: gigabytes in a large study) existence and sizes are looked at: each notebook that reads them compares hashes.
    """
    looked = {}  # what several runs share is looked at once

    def fault(folder: Path) -> str | None:
        if found := store.damage(folder, quick=True):
            return found
        for thing in store.manifest(folder)["things"]:
            if thing not in looked:
                looked[thing] = store.damage(
                    store.root() / thing, quick=thing.split("/")[0] not in PUBLISHED
                )
            if looked[thing]:
                return f"{thing}: {looked[thing]}"
        return None

    done = {}
    for node in nodes:
        folder = store.place("run", request(node))
        if not folder.exists():
            continue
        if found := fault(folder):
            warnings.warn(
                f"{STAGES[node.stage]} ({node.title}) runs again, its result is damaged ({found})"
            )
            looked.clear()
            store.remove(folder, fault)
            continue
        done[node] = folder
    return done
