"""Notebooks that do next to nothing, for tests and benchmarks of the engine: each stage looks for
what it needs in the store and makes its own.

A file <store>/<word>-<stage>-<draw> tells one of them to misbehave: `fail`, `hang`, `die`,
`die_once`, `kill` its worker, `full` disk.
As a script it is a driver of a grid of them: `python dummies.py NOTEBOOKS DRAWS processes|threads`.
"""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import nbformat

from fsl_utils import params
from fsl_utils.study import grid, notebooks, runs

NEEDS = {"adapter": None, "pool": "adapter", "cells": "pool", "report": "pool"}
BODY = """
import errno, hashlib, os, signal, time
from fsl_utils import StudyError, store
stage, need, made = {stage!r}, {need!r}, {made!r}
own = {{"draw": draw, "n_real": n_real, "classifier": classifier if stage == "cells" else ""}}
told = lambda word: (store.root() / f"{{word}}-{{stage}}-{{draw}}").exists()
before = {{**own, "classifier": ""}}
assert need is None or store.find(need, before), f"{{stage}} ran before {{need}}"
if told("fail"): raise StudyError("this draw was told to fail")
if told("die"): os._exit(9)
if told("die_once"): (store.root() / f"die_once-{{stage}}-{{draw}}").unlink(); os._exit(9)
if told("kill"): os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)
while told("hang"): time.sleep(.1)
def build(folder):
    if told("full"): raise OSError(errno.ENOSPC, "No space left on device")
    for i in range({files}):
        text = hashlib.sha256(f"{{stage}} {{own}} {{i}}".encode()).hexdigest()
        (folder / f"{{i}}.txt").write_text(text)
        time.sleep({pause})
end = time.process_time() + {busy}
while time.process_time() < end: sum(range(10_000))
store.make(made, own, build)
os.environ["OMP_NUM_THREADS"], os.getcwd()
"""


def write(folder: Path, pause: float = 0.0, busy: float = 0.0) -> Path:
    """The four notebooks in `folder`; `pause`: seconds between two of the three files that each
    writes; `busy`: processor seconds that it burns."""
    folder.mkdir(parents=True, exist_ok=True)
    given = "\n".join(f"{name} = {params.default(name)!r}" for name in params.TABLE)
    for stage, notebook in grid.STAGES.items():
        body = BODY.format(
            stage=stage,
            need=NEEDS[stage],
            made=stage.removesuffix("s"),
            files=3,
            pause=pause,
            busy=busy,
        )
        write_one(folder / f"{notebook}.ipynb", given, body)
    return folder


def write_one(path: Path, given: str, body: str) -> None:
    """A notebook of two cells: its parameters and what it does."""
    cells = [
        nbformat.v4.new_code_cell(f"# Parameters\n{given}", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(body),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    text = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    for i, cell in enumerate(text.cells):
        cell["id"] = str(i)
    nbformat.write(text, path)


@contextmanager
def taken(folder: Path):
    """The grid takes its notebooks from `folder`, and needs no data."""
    before = notebooks.FOLDER, runs._data_hash
    notebooks.FOLDER, runs._data_hash = folder, lambda *task: "data"
    try:
        yield
    finally:
        notebooks.FOLDER, runs._data_hash = before


def nodes(draws, **more) -> list[grid.Node]:
    """The graph of some draws: adapter, pool, cells and report of each."""
    base = {name: params.default(name) for name in params.TABLE} | {
        "arms": ["real", "lora"],
        "ratios": [1.0],
    }
    return grid.nodes(
        [
            base | {"draw": draw, "classifier": c}
            for draw in draws
            for c in more.get("classifier", ["probe"])
        ]
    )


def table(root: Path) -> str:
    """Every cell of the store with its content, sorted: the same however often a run was killed."""
    return json.dumps(
        {str(p.relative_to(root)): p.read_text() for p in sorted((root / "cell").glob("*/*.txt"))},
        indent=1,
    )


def driver(folder: Path, draws: int, processes: bool) -> None:
    from distributed import Client

    from fsl_utils.study import engine

    with taken(folder):
        graph = nodes(range(draws))
        with (
            engine.cluster(2)
            if processes
            else Client(
                processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None
            ) as client
        ):
            print("started", flush=True)
            for ended in engine.run(graph, client, threads=1):
                print(len(ended), flush=True)
    failed = [str(error) for error in ended.values() if isinstance(error, BaseException)]
    sys.exit("; ".join(failed) or 0)


if __name__ == "__main__":
    driver(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "processes")
