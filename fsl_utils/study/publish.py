"""From finished runs to tables and figures: what a reader of results/ gets."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import papermill

from fsl_utils import StudyError, store
from fsl_utils.analysis import determinants
from fsl_utils.analysis.tables import read_results
from fsl_utils.classifier import cells, plan
from fsl_utils.data import partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.pools.reports import ReportRequest
from fsl_utils.study import grid, worker


def keys(node: grid.Node) -> list[str]:
    """Keys of the cells, or of the report, that a run makes; none for an adapter or a pool."""
    v = SimpleNamespace(**node.values)
    if node.stage not in ("cells", "report"):
        return []
    domain = grid.task(node.values)
    task = FewShotTask(domain, partitions.draw(domain.table, v.draw, v.n_real))
    requests = plan.cells(task, v) if node.stage == "cells" else [ReportRequest.of(task, v)]
    return [request.key for request in requests]


def standing(out: Path) -> set[str]:
    """Keys of the cells and reports in out/tables."""
    have = set()
    for name, column in (("cells.csv", "cell"), ("pools.csv", "report")):
        if (out / "tables" / name).is_file():
            have |= set(pd.read_csv(out / "tables" / name)[column])
    return have


def missing(nodes: list[grid.Node], out: Path) -> tuple[list[grid.Node], set[str]]:
    """Those runs whose cells or report do not stand in out/tables yet, with what they need, and the keys of what these runs make and does stand there."""
    have = standing(out)
    made = {node: keys(node) for node in nodes}
    needed, left = set(), [node for node in nodes if made[node] and not have.issuperset(made[node])]
    while left:
        node = left.pop()
        needed.add(node)
        left += node.needs
    return [node for node in nodes if node in needed], have & {
        key for found in made.values() for key in found
    }


def tables(folders: list[Path], out: Path, kept: set[str] = frozenset()) -> pd.DataFrame:
    """Gather what runs made: tables/cells.csv, scores.parquet and pools.csv, and the figures of notebooks 03 and 05 for one draw
    (`first_draws`; the others' stay in the store). Returns the cells.

    kept: keys of cells and reports that stand in these tables and stay there. The same runs give the same bytes, but for cells.csv's column train_seconds, which is a measurement.
    Raises StudyError where no run made a cell.
    """
    things = sorted({thing for folder in folders for thing in store.manifest(folder)["things"]})
    of = {
        stage: [t.split("/")[1] for t in things if t.startswith(f"{stage}/")]
        for stage in ("cell", "report")
    }
    before = None
    kept = kept - {*of["cell"], *of["report"]}
    if kept:
        found, scores = read_results(out / "tables")
        before = found[found["cell"].isin(kept)], scores[scores["cell"].isin(kept)]
    if not of["cell"] and before is None:
        raise StudyError("no cell is finished yet: there is nothing to publish")
    texts = {key: determinants.of(store.root() / "cell" / key) for key in of["cell"]}
    known = determinants.read(out / "tables")
    if texts or known:
        texts |= {key: known.get(key, "") for key in before[0]["cell"]} if before else {}
        determinants.write(out / "tables", texts)
    table = cells.gather(of["cell"], out / "tables", before)
    reports = [
        json.loads((store.root() / "report" / key / "report.json").read_text())
        for key in of["report"]
    ]
    if kept and (out / "tables" / "pools.csv").is_file():
        standing = pd.read_csv(out / "tables" / "pools.csv")
        reports = standing[standing["report"].isin(kept)].to_dict("records") + reports
    if reports:
        frame = pd.DataFrame(reports).sort_values(["domain", "rare_class", "draw", "pool"])
        store.write_whole(
            out / "tables" / "pools.csv",
            lambda partial: frame.to_csv(partial, index=False, lineterminator="\n"),
        )
    made = {
        name: store.root() / thing / name
        for thing in things
        if thing.startswith("figure/")
        for name in store.manifest(store.root() / thing)["files"]
    }
    there = [path.name for path in (out / "figures").glob("*")]
    for name in sorted(first_draws([*made, *there]) & made.keys()):
        store.write_whole(
            out / "figures" / name, lambda partial: shutil.copyfile(made[name], partial)
        )
    return table


def first_draws(names: list[str]) -> set[str]:
    """Of file names that differ in their draw alone, the one of the least draw: what is shown of each pool would else be megabytes a draw."""
    least = {}
    for name in names:
        number = int((re.search(r"_draw(\d+)_", name) or [0, 0])[1])
        every = re.sub(r"_draw\d+_", "_", name)
        least[every] = min(least.get(every, (number, name)), (number, name))
    return {name for _, name in least.values()}


def figures(out: Path) -> None:
    """Run notebook 06 on out/tables into out/figures, unless it ran on these very tables and its figures are there."""
    source = grid.source("06_paper_figures")
    wanted = {
        "notebook": "06_paper_figures",
        "source": store.sha256(source),
        "out": str(out),
        "tables": {p.name: store.sha256(p) for p in sorted((out / "tables").iterdir())},
    }
    done = store.find("run", wanted)
    if done and all((out / "figures" / name).is_file() for name in store.manifest(done)["figures"]):
        return
    if done:
        shutil.rmtree(done)

    def build(folder):
        try:
            papermill.execute_notebook(
                worker.literal(source),
                worker.literal(folder / source.name),
                {"tables": str(out / "tables"), "figures": str(out / "figures")},
                kernel_name="python3",
                progress_bar=False,
                cwd=source.parent,
                extra_arguments=worker.QUIET,
            )
        except papermill.PapermillExecutionError as error:
            raise StudyError(
                f"06_paper_figures failed: {error.ename}: {error.evalue} [tables: {out / 'tables'}]"
            ) from error
        return {"figures": sorted(p.name for p in (out / "figures").iterdir())}

    store.make("run", wanted, build)


def cost(folders: list[Path], before: set[Path]) -> pd.DataFrame:
    """Where the time went, one row a stage: runs made now and before (those in `before`), seconds, processor seconds and
    peak memory (bytes) of those made now, and how many of the things that they needed were in the store already (`hits` of `things`)."""
    rows = []
    for folder in folders:
        record = store.manifest(folder)
        stage = next(
            stage
            for stage, notebook in grid.STAGES.items()
            if notebook == record["params"]["notebook"]
        )
        now = folder not in before
        rows.append(
            {
                "stage": stage,
                "now": now,
                "before": not now,
                "seconds": now * record["seconds"],
                "cpu_seconds": now * record["cpu_seconds"],
                "peak_memory": now * record["peak_memory"],
                "hits": now * (len(record["things"]) - len(record["made"])),
                "things": now * len(record["things"]),
            }
        )
    stages = pd.DataFrame(
        rows,
        columns=[
            "stage",
            "now",
            "before",
            "seconds",
            "cpu_seconds",
            "peak_memory",
            "hits",
            "things",
        ],
    ).groupby("stage")
    frame = stages.sum().assign(peak_memory=stages["peak_memory"].max())
    return frame.reindex([stage for stage in grid.STAGES if stage in frame.index])
