"""The grid: a YAML file becomes papermill runs of the numbered notebooks, each done once.

    name: quickstart
    defaults: {parameter: value}
    sweep:
      - {draw: [0, 1], classifier: probe, arms: [real, lora], ratios: [1, 4]}

Lists over the parameters of CROSSED are crossed; `arms` and `ratios` go whole into one run.
"""

import functools
import itertools
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import yaml

from . import ROOT, StudyError, arms, cells, domains, mini, params, store

REPORTED = 200  # images of a pool that notebook 05 looks at: enough for its figures, and quick
CROSSED = ("domain", "rare_class", "n_real", "draw", "seed", "backbone", "mode", "classifier")
STAGES = {"adapter": "02_lora_finetuning", "pool": "03_generation", "cells": "04_classifier_sweep", "report": "05_diversity_analysis"}


@dataclass(frozen=True)
class Node:
    """One papermill run: a notebook and the parameters that it takes."""

    stage: str
    parameters: tuple  # sorted (name, canonical JSON of the value): hashable

    @property
    def values(self) -> dict:
        return {name: json.loads(text) for name, text in self.parameters}

    @property
    def title(self) -> str:
        shown = ("domain", "rare_class", "n_real", "draw", "seed", "classifier", "mode")
        return " ".join(str(v) if k in ("domain", "classifier", "mode") else f"{k} {v}" for k, v in self.values.items() if k in shown and v != "")


def read(path: Path) -> tuple[str, list[dict]]:
    """Name and crossed parameter maps of a grid file. Raises StudyError naming what is wrong in it."""
    try:
        data = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such grid file; see notebooks/grids/") from error
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict) or set(data) != {"name", "defaults", "sweep"}:
        raise StudyError(f"{path}: a grid file has exactly the keys name, defaults and sweep")
    runs = []
    for entry in data["sweep"]:
        merged = {**(data["defaults"] or {}), **entry}
        lists = {k: v for k, v in merged.items() if k in CROSSED and isinstance(v, list)}
        for values in itertools.product(*lists.values()):
            run = {k: params.value(k, v) for k, v in {**merged, **dict(zip(lists, values))}.items()}
            for name in run.get("arms", []):
                arms.get(name)
            if run.get("domain", params.default("domain")) not in domains.SHEETS:
                raise StudyError(f"{path}: unknown domain '{run['domain']}': known are {', '.join(domains.SHEETS)}")
            runs.append(run)
    return str(data["name"]), runs


def nodes(runs: list[dict]) -> list[Node]:
    """The notebook runs of a grid in an order in which each finds what it needs, without repeats.

    A pool is made once, as large as the largest ratio of any run asks.
    """
    adapters, pools, rest = [], {}, []
    for run in runs:
        used = {arms.get(name).images for name in run.get("arms", params.default("arms"))}
        if used & set(arms.POOLS):
            adapters.append(_node("adapter", run))
            pool = _node("pool", run | {"n_images": 1})
            n = round(max(run.get("ratios", params.default("ratios"))) * run.get("n_real", params.default("n_real")))
            pools[pool] = max(n, pools.get(pool, 0))
        rest.append(_node("cells", run))
    made = [_node(stage, dict(pool.values) | {"n_images": size}) for pool, n in pools.items() for stage, size in (("pool", n), ("report", min(n, REPORTED)))]
    ordered = [*adapters, *(n for n in made if n.stage == "pool"), *rest, *(n for n in made if n.stage == "report")]
    return list(dict.fromkeys(ordered))


def _node(stage: str, run: dict) -> Node:
    taken = {name: run[name] for name in declared(STAGES[stage]) if name in run}
    return Node(stage, tuple(sorted((k, json.dumps(v)) for k, v in taken.items())))


@functools.cache
def declared(notebook: str) -> tuple[str, ...]:
    """Names in a notebook's parameter cell."""
    for cell in nbformat.read(_source(notebook), as_version=4).cells:
        if "parameters" in cell.metadata.get("tags", []):
            return tuple(params.names_set(cell.source))
    raise StudyError(f"{_source(notebook)}: no cell is tagged 'parameters'")


def _source(notebook: str) -> Path:
    return ROOT / "notebooks" / f"{notebook}.ipynb"


@functools.cache
def _data_hash(domain: str, rare_class: str, protocol: str, folder: str, common_class: str, group_pattern: str, view: str) -> str:
    own = {"folder": folder, "common_class": common_class, "group_pattern": group_pattern, "view": view}
    return domains.load(domain, rare_class, protocol, **own).data_hash


def request(node: Node) -> dict:
    """What determines a run: the notebook's text, its parameters, the data, the backbone and every stage's version."""
    v = node.values
    task = [v.get(name, params.default(name)) for name in ("domain", "rare_class", "protocol", "folder", "common_class", "group_pattern", "view")]
    return {
        "notebook": STAGES[node.stage], "source": store.sha256(_source(STAGES[node.stage])), "parameters": v,
        "data": _data_hash(*task), "base": store.sha256(mini.weights()), "stages": store.STAGES,
    }


def finished(node: Node) -> Path | None:
    """Folder of a finished run whose every result is still whole, or None."""
    folder = store.find("run", request(node))
    if folder is None:
        return None
    for thing in store.manifest(folder)["things"]:
        if fault := store.damage(store.root() / thing):
            warnings.warn(f"{thing} is damaged ({fault}): {STAGES[node.stage]} ({node.title}) runs again")
            shutil.rmtree(folder)
            return None
    return folder


def execute(node: Node) -> Path:
    """Run a node's notebook through papermill; its executed copy and the list of things it used are kept.

    Raises StudyError with the notebook's own last line where it fails; the failed copy is kept too.
    """
    def build(folder):
        target = folder / f"{STAGES[node.stage]}.ipynb"
        with tempfile.NamedTemporaryFile("r", suffix=".txt") as record:
            os.environ["FSL_RECORD"] = record.name
            try:
                papermill.execute_notebook(_source(STAGES[node.stage]), target, node.values, kernel_name="python3",
                                           progress_bar=False, cwd=ROOT / "notebooks")
            except papermill.PapermillExecutionError as error:
                kept = store.root() / "failed" / f"{STAGES[node.stage]}-{store.key('run', request(node))[:12]}.ipynb"
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(target, kept)
                what = error.evalue if error.ename == "StudyError" else f"{error.ename}: {error.evalue}"
                raise StudyError(f"{STAGES[node.stage]} ({node.title}) failed: {what} [see {kept}]") from error
            finally:
                del os.environ["FSL_RECORD"]
            return {"things": sorted(set(record.read().split()))}

    return store.make("run", request(node), build)


def run(path: Path) -> Iterator[dict]:
    """Run a grid's nodes one after the other; yields {stage, title, state, seconds, folder} before and after each."""
    for node in nodes(read(path)[1]):
        row = {"stage": node.stage, "title": node.title}
        if folder := finished(node):
            yield row | {"state": "done", "seconds": 0.0, "folder": folder}
            continue
        yield row | {"state": "running", "seconds": 0.0, "folder": None}
        begin = time.perf_counter()
        folder = execute(node)
        yield row | {"state": "ran", "seconds": time.perf_counter() - begin, "folder": folder}


def publish(folders: list[Path], out: Path) -> pd.DataFrame:
    """Gather what runs made: tables/cells.csv, scores.parquet and pools.csv, and the figures of notebooks 03 and 05.

    Then notebook 06 draws the result figures from the tables. Returns the cells.
    """
    things = sorted({thing for folder in folders for thing in store.manifest(folder)["things"]})
    of = {stage: [t.split("/")[1] for t in things if t.startswith(f"{stage}/")] for stage in ("cell", "report", "figure")}
    table = cells.gather(of["cell"], out / "tables")
    reports = [json.loads((store.root() / "report" / key / "report.json").read_text()) for key in of["report"]]
    if reports:
        frame = pd.DataFrame(reports).sort_values(["domain", "draw", "pool"])
        store.write_whole(out / "tables" / "pools.csv", lambda partial: frame.to_csv(partial, index=False, lineterminator="\n"))
    for key in of["figure"]:
        folder = store.root() / "figure" / key
        for name in store.manifest(folder)["files"]:
            store.write_whole(out / "figures" / name, lambda partial: shutil.copyfile(folder / name, partial))
    _draw_figures(out)
    return table


def _draw_figures(out: Path) -> None:
    """Run notebook 06 on out/tables into out/figures, unless it ran on these very tables and its figures are there."""
    tables, figures = out / "tables", out / "figures"
    wanted = {"notebook": "06_paper_figures", "source": store.sha256(_source("06_paper_figures")), "out": str(out),
              "tables": {p.name: store.sha256(p) for p in sorted(tables.iterdir())}}
    done = store.find("run", wanted)
    if done and all((figures / name).is_file() for name in store.manifest(done)["figures"]):
        return
    if done:
        shutil.rmtree(done)

    def build(folder):
        target = folder / "06_paper_figures.ipynb"
        try:
            papermill.execute_notebook(_source("06_paper_figures"), target, {"tables": str(tables), "figures": str(figures)},
                                       kernel_name="python3", progress_bar=False, cwd=ROOT / "notebooks")
        except papermill.PapermillExecutionError as error:
            raise StudyError(f"06_paper_figures failed: {error.ename}: {error.evalue} [tables: {tables}]") from error
        return {"figures": sorted(p.name for p in figures.iterdir())}

    store.make("run", wanted, build)
