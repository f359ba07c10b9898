"""The grid: a YAML file becomes a graph of runs of the numbered notebooks, each done once.

    name: quickstart
    defaults: {parameter: value}
    sweep:
      - {draw: [0, 1], classifier: probe, arms: [real, lora], ratios: [1, 4]}

Lists over the parameters of CROSSED are crossed; `arms` and `ratios` go whole into one run. What
runs the graph is in `engine`. Nothing here imports torch: a driver of many nodes stays small.
"""

import functools
import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from fsl_utils import StudyError, files, params
from fsl_utils.classifier import arms, classifiers
from fsl_utils.data import domains, partitions
from fsl_utils.data.datasets import registry
from fsl_utils.generator import settings
from fsl_utils.study import notebooks, untold, yaml_file

REPORTED = 200  # images of a pool that notebook 05 looks at: enough for its figures, and quick
CROSSED = (
    "domain",
    "rare_class",
    "n_real",
    "draw",
    "seed",
    "backbone",
    "mode",
    "classifier",
    "fold",
    "synthetic_weight",
)
STAGES = {
    "adapter": "02_lora_finetuning",
    "pool": "03_generation",
    "cells": "04_classifier_sweep",
    "report": "05_diversity_analysis",
}
MOST = 1_000_000  # runs of a file
LOOKED = 200  # draws that are made before a grid begins, 10 ms each
# That each paints; a mini paints no other size.
PIXELS = {"mini": 64, "mini128": 128, "sd15": 512, "flux2-klein-4b": 512, "flux2-dev": 512}
TASK = (
    "domain",
    "rare_class",
    "protocol",
    "folder",
    "common_class",
    "group_pattern",
    "view",
    "fold",
)


@dataclass(frozen=True)
class Node:
    """One run: a notebook's stage, its parameters, and the runs that it needs done before."""

    stage: str
    parameters: str  # canonical JSON: hashable
    needs: tuple["Node", ...] = ()

    @functools.cached_property
    def values(self) -> dict:
        """The parameters, read once: a plan of 10,000 nodes asks eight times for each."""
        return json.loads(self.parameters)

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


class GridFile(params.Strict):
    """A grid file's keys."""

    name: str = Field(
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="up to 64 letters, digits, '.', '_' and '-'; it names a folder of results",
    )
    defaults: dict[str, Any] | None = Field(description="a map of parameters")
    sweep: list[dict[str, Any]] = Field(
        min_length=1,
        description="a list of maps of parameters, one or more ('- {}' runs the defaults)",
    )


def read(path: Path) -> tuple[str, list[dict]]:
    """Name and crossed parameter maps of a grid file, every parameter given.

    Raises StudyError naming what is wrong in it, before a large crossing is built.
    """
    content = yaml_file.read(path)
    with yaml_file.named(path):
        if not isinstance(content, dict):
            raise StudyError("a grid file has the keys name, defaults and sweep")
        file = params.checked(GridFile, content, "key")
        entries = [{**(file.defaults or {}), **entry} for entry in file.sweep]
        if sum(math.prod(map(len, _lists(entry).values())) for entry in entries) > MOST:
            raise StudyError(f"its lists cross to more than {MOST:,} runs")
    runs = []
    for number, entry in enumerate(entries, 1):
        with yaml_file.named(f"{path}: entry {number} of sweep"):
            runs += _crossed(entry)
    with yaml_file.named(path):
        untold.check(runs)
    return file.name, runs


def _lists(entry: dict) -> dict[str, list]:
    return {name: entry[name] for name in CROSSED if isinstance(entry.get(name), list)}


def _crossed(entry: dict) -> list[dict]:
    lists = _lists(entry)
    for name in (name for name, given in lists.items() if not given):
        raise StudyError(f"{name} is an empty list")
    return [
        _checked({**entry, **dict(zip(lists, values))})
        for values in itertools.product(*lists.values())
    ]


def _checked(given: dict) -> dict:
    """A run with every parameter. Raises StudyError where they do not fit one another."""
    run = params.checked(params.Parameters, given).model_dump()
    for name in run["arms"]:
        arms.get(name)
    registry.get(run["domain"])
    classifiers.get(run["classifier"]).check(run["init"])
    if not planned(run):
        raise StudyError(
            f"nothing to run: {run['classifier']} with arms {params.shown(run['arms'])} "
            f"at ratios {params.shown(run['ratios'])} has no cell"
        )
    if (run["evaluate_on"] == "fold") != (run["fold"] >= 0) and run["evaluate_on"] != "validation":
        raise StudyError(
            f"evaluate_on is {run['evaluate_on']} and fold {run['fold']}: "
            "'fold' needs a fold from 0 to 4, 'test' needs -1"
        )
    size, backbone = run["image_size"], run["backbone"]
    settings.of(run["domain"], backbone, run["preset"], diversity=run["diversity"])
    paints = any(arms.get(name).source.pools for name, _ in planned(run))
    if paints and (
        size > PIXELS[backbone] or (backbone.startswith("mini") and size != PIXELS[backbone])
    ):
        raise StudyError(
            f"image_size is {size}, but {backbone} paints {PIXELS[backbone]} pixels: "
            f"set image_size: {PIXELS[backbone]}"
        )
    if run["folder"]:  # notebooks run in a folder of their own
        run["folder"] = str(files.absolute(run["folder"]))
    return run


def check(runs: list[dict]) -> list[domains.Domain]:
    """The domains of a grid. Raises StudyError where data are not at hand, or a draw lacks the
    shots that a run asks for.

    Looks at LOOKED draws at most: those of a larger grid are told by their own notebooks.
    """
    most: dict[str, dict] = {}
    for run in runs:
        draw = json.dumps([run[name] for name in (*TASK, "draw")])
        most[draw] = max(run, most.get(draw, run), key=lambda run: run["n_real"])
    looked = list(most.values())[:LOOKED]
    for run in looked:
        partitions.draw(task(run).table, run["draw"], run["n_real"])
    for run in runs:
        if registry.get(run["domain"]).sealed:
            task(run).need_open(run["evaluate_on"])
    return list({id(domain): domain for domain in map(task, looked)}.values())


def absent(runs: list[dict]) -> list[str]:
    """Data sets of a grid that were not fetched yet."""
    names = dict.fromkeys(run["domain"] for run in runs)
    return [
        name
        for name in names
        if registry.get(name).fetch and not (registry.data_root() / name).is_dir()
    ]


def task(run: dict) -> domains.Domain:
    """The domain that a run's parameters name."""
    # Only what scores on real images knows of a seal; adapters and pools are the same either way.
    return _task(*(run[name] for name in TASK), run.get("open_sealed", False))


# Runs of one task stand together; a table of 100,000 images takes memory.
@functools.lru_cache(maxsize=8)
def _task(
    domain: str,
    rare_class: str,
    protocol: str,
    folder: str,
    common_class: str,
    group_pattern: str,
    view: str,
    fold: int,
    open_sealed: bool,
) -> domains.Domain:
    return domains.load(
        domain,
        rare_class,
        protocol,
        folder=folder,
        common_class=common_class,
        group_pattern=group_pattern,
        view=view,
        fold=fold,
        open_sealed=open_sealed,
    )


def planned(run: dict) -> list[tuple[str, float]]:
    """(arm, ratio) of the cells of a run, whether or not a draw has the images for each."""
    return classifiers.get(run["classifier"]).planned(run["arms"], run["ratios"])


def nodes(runs: list[dict]) -> list[Node]:
    """The notebook runs of a grid, without repeats, each after those that it needs.

    What the file lists first comes first, from adapter to cells, and the pool reports at the end.
    A pool is made once, as large as the largest ratio of any run asks; images of the backbone
    alone need no adapter.
    """
    sizes = {}
    for run in runs:
        looked = [
            arms.get(name).source.candidates(round(ratio * run["n_real"]))
            for name, ratio in planned(run)
            if arms.get(name).source.tuned
        ]
        if looked:
            pool = _node("pool", run | {"n_images": 1})
            sizes[pool] = max(*looked, sizes.get(pool, 1))
    ordered, reports = {}, {}
    for run in runs:
        needs: tuple[Node, ...] = ()
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
    given = {name: run[name] for name in notebooks.declared(STAGES[stage])}
    return Node(stage, json.dumps(given, sort_keys=True), needs)
