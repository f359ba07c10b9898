"""Speed of the grid: `python tests/benchmarks/bench_grid.py [--small] [PART ...]`; about 8 minutes
on two idle cores.

Prints, beside what was promised: the engine's overhead a notebook against papermill alone, the time
for a node already done, 10,000 done cells (seconds, megabytes), two one-thread workers against one,
and a graph of dummy nodes with the milliseconds that the scheduler spends on each.
"""

import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import dummies

from fsl_utils import ROOT, files, params, store
from fsl_utils.study import costs, grid, notebooks, runs

# Core-seconds of a probe notebook, against which an overhead is held.
NODE = costs.SHIPPED["cells probe at 64"][0]


def alone(nodes: list) -> float:
    """Seconds of the notebooks of `nodes` under papermill alone, one after the other."""
    import papermill

    begin = time.perf_counter()
    for node in nodes:
        source = notebooks.source(grid.STAGES[node.stage])
        papermill.execute_notebook(
            source,
            store.root() / f"{node.stage}.ipynb",
            node.values,
            kernel_name="python3",
            progress_bar=False,
            cwd=source.parent,
        )
    return time.perf_counter() - begin


def engined(nodes: list, workers: int) -> float:
    """Seconds of `nodes` under the engine, the cluster's start left out."""
    from fsl_utils.study import engine

    with engine.cluster(workers) as client:
        client.submit(
            lambda: __import__("fsl_utils.study.engine"), pure=False
        ).result()  # a worker's imports are no node's
        begin = time.perf_counter()
        *_, ended = engine.run(nodes, client, threads=1)
    faults = [error for error in ended.values() if isinstance(error, BaseException)]
    if faults:
        raise faults[0]
    return time.perf_counter() - begin


def overhead(folder: Path, draws: int) -> None:
    with dummies.taken(dummies.write(folder / "notebooks")):
        nodes, rounds = dummies.nodes(range(draws)), []
        for number in range(3):  # interleaved, so that other work on the machine meets both
            os.environ["FSL_STORE"] = str(folder / f"alone{number}")
            store.root().mkdir()
            one = alone(nodes)
            os.environ["FSL_STORE"] = str(folder / f"engine{number}")
            rounds.append((engined(nodes, 1) - one) / len(nodes))
        each = statistics.median(rounds)
        print(
            f"overhead a notebook: {each:.2f} s = {each / NODE:.1%} of a notebook of {NODE:.0f} s "
            "(promised: 5 %)"
        )
        begin = time.perf_counter()
        assert len(runs.finished(nodes)) == len(nodes)
        done = (time.perf_counter() - begin) / len(nodes) * 1000
        print(f"a node already done: {done:.1f} ms (promised: 200 ms)")


def workers(folder: Path, draws: int, seconds: float) -> None:
    with dummies.taken(dummies.write(folder / "notebooks", busy=seconds)):
        spent = {}
        for number in (1, 2):
            os.environ["FSL_STORE"] = str(folder / f"store{number}")
            spent[number] = engined(dummies.nodes(range(draws)), number)
    print(
        f"{4 * draws} notebooks of {seconds:g} s: one worker {spent[1]:.1f} s, two "
        f"{spent[2]:.1f} s: {spent[1] / spent[2]:.2f}x (promised: 1.7x)"
    )


def recognised(folder: Path, n: int) -> None:
    """n done cells, each with a run of its own (the worst case: a run holds many), looked through
    by a fresh process."""
    files.sync = lambda path: None  # the benchmark's own set-up need not survive a power cut
    os.environ["FSL_STORE"] = str(folder / "store")
    scores = hashlib.sha256(b"").digest() * 1000  # 32 KB, as the scores of 600 images
    with dummies.taken(dummies.write(folder / "notebooks")):
        base = {name: params.default(name) for name in params.TABLE} | {
            "arms": ["real"],
            "ratios": [1.0],
        }
        nodes = grid.nodes([base | {"draw": draw} for draw in range(n)])
        for node in nodes:
            cell = store.make(
                "cell",
                {"draw": node.values["draw"]},
                lambda out: (out / "scores.parquet").write_bytes(scores) and None,
            )
            store.make(
                "run",
                runs.RunRequest.of(node).params(),
                lambda out, cell=cell: (
                    (out / "04_classifier_sweep.ipynb").write_bytes(scores)
                    and {"things": [f"cell/{cell.name}"]}
                ),
            )
    code = f"""
import sys, time, resource
sys.path.insert(0, {str(ROOT / "tests")!r})
begin = time.perf_counter()
import dummies
from pathlib import Path
from fsl_utils import params
from fsl_utils.study import grid, runs
with dummies.taken(Path({str(folder / "notebooks")!r})):
    base = {{name: params.default(name) for name in params.TABLE}}
    base |= {{"arms": ["real"], "ratios": [1.0]}}
    nodes = grid.nodes([base | {{"draw": draw}} for draw in range({n})])
    assert len(runs.finished(nodes)) == {n}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{n} done cells: {{time.perf_counter() - begin:.1f}} s, {{time.process_time():.1f}} s of "
      f"processor, {{peak:.0f}} MB (promised for 10000: 10 s, 500 MB)")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def graph(folder: Path, draws: int) -> None:
    """Dask's and the driver's share of a node: nodes that do nothing at all, on two workers within
    this process."""
    from distributed import Client

    from fsl_utils.study import engine, worker

    os.environ["FSL_STORE"] = str(folder / "store")
    done, worker.execute = worker.execute, lambda *_: None
    with (
        dummies.taken(dummies.write(folder / "notebooks")),
        Client(
            processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as client,
    ):
        nodes = dummies.nodes(range(draws))
        begin, processor = time.perf_counter(), time.process_time()
        *_, ended = engine.run(nodes, client, threads=1)
        wall, processor = time.perf_counter() - begin, time.process_time() - processor
    worker.execute = done
    assert all(isinstance(ended[node], Path) for node in nodes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    each = processor / len(nodes)
    print(
        f"{len(nodes)} dummy nodes: {wall:.1f} s, {1000 * each:.1f} ms of processor a node, "
        f"{peak:.0f} MB; one scheduler keeps {NODE / each:.0f} workers busy with notebooks of "
        f"{NODE:.0f} s"
    )


def main(small: bool, parts: list[str]) -> None:
    work = {
        "graph": lambda path: graph(path, 20 if small else 1000),
        "recognised": lambda path: recognised(path, 300 if small else 10_000),
        "overhead": lambda path: overhead(path, 1 if small else 4),
        "workers": lambda path: workers(path, 2, 1 if small else 10),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in parts or work:
            (Path(folder) / name).mkdir()
            work[name](Path(folder) / name)
            sys.stdout.flush()


if __name__ == "__main__":
    main("--small" in sys.argv[1:], [name for name in sys.argv[1:] if name != "--small"])
