"""From finished runs to tables and figures: what a reader of results/ gets."""

import functools
import json
import re
import shutil
import tempfile
from collections.abc import Set
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from fsl_utils import StudyError, store
from fsl_utils.analysis import determinants
from fsl_utils.analysis.tables import read_results
from fsl_utils.classifier import cells, plan
from fsl_utils.data import partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.pools.reports import ReportRequest
from fsl_utils.study import grid, notebooks


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
    """Those runs whose cells or report do not stand in out/tables yet, with what they need, and
    the keys of what these runs make and does stand there."""
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


def tables(
    folders: list[Path],
    out: Path,
    kept: Set[str] = frozenset(),
    replace: bool = False,
) -> pd.DataFrame:
    """Gather what runs made: tables/cells.csv, scores.parquet and pools.csv, and the figures of
    notebooks 03 and 05 for one draw (`first_draws`; the others' stay in the store).

    kept: keys of cells and reports that stand in these tables and stay there. The same runs give
    the same bytes, but for the column train_seconds of cells.csv, which is a measurement. Returns
    the cells. Raises StudyError where no run made a cell, where others that stand in these tables
    would be lost and `replace` does not say that they may, or where the new tables could not be
    read: then the old ones stay as they are.
    """
    things = sorted({thing for folder in folders for thing in store.manifest(folder)["things"]})
    cell_keys, report_keys = (
        [thing.split("/")[1] for thing in things if thing.startswith(f"{stage}/")]
        for stage in ("cell", "report")
    )
    lost = standing(out) - kept - {*cell_keys, *report_keys}
    if lost and not replace:
        raise StudyError(
            f"{out / 'tables'} has {len(lost)} cells and reports that are not among these results: "
            "take another --out, or let them go with --replace"
        )
    kept = kept - {*cell_keys, *report_keys}
    before = None
    if kept:
        found, scores = read_results(out / "tables")
        before = found[found["cell"].isin(kept)], scores[scores["cell"].isin(kept)]
    if not cell_keys and before is None:
        raise StudyError("no cell is finished yet: there is nothing to publish")
    with tempfile.TemporaryDirectory() as made:
        _write_determinants(cell_keys, out / "tables", Path(made), before)
        table = cells.gather(cell_keys, Path(made), before)
        try:
            read_results(Path(made))
        except StudyError as error:
            raise StudyError(
                f"{out / 'tables'} stays as it is, for with these cells it could not be read "
                f"({str(error).replace(made + '/', '')}): take another --out"
            ) from error
        for path in Path(made).iterdir():
            store.write_whole(out / "tables" / path.name, functools.partial(shutil.copyfile, path))
    _write_pools(report_keys, out / "tables" / "pools.csv", kept)
    _copy_figures([thing for thing in things if thing.startswith("figure/")], out / "figures")
    return table


def _write_determinants(keys: list[str], old: Path, new: Path, before: tuple | None) -> None:
    texts = {key: determinants.of(store.root() / "cell" / key) for key in keys}
    known = determinants.read(old)
    if texts or known:
        texts |= {key: known.get(key, "") for key in before[0]["cell"]} if before else {}
        determinants.write(new, texts)


def _write_pools(keys: list[str], path: Path, kept: Set[str]) -> None:
    reports = [
        json.loads((store.root() / "report" / key / "report.json").read_text()) for key in keys
    ]
    if kept and path.is_file():
        standing = pd.read_csv(path)
        reports = standing[standing["report"].isin(kept)].to_dict("records") + reports
    if reports:
        frame = pd.DataFrame(reports).sort_values(["domain", "rare_class", "draw", "pool"])
        text = frame.to_csv(index=False, lineterminator="\n")
        store.write_text(path, text)


def _copy_figures(things: list[str], folder: Path) -> None:
    paths = {
        name: store.root() / thing / name
        for thing in things
        for name in store.manifest(store.root() / thing)["files"]
        if Path(name).name == name
    }
    there = [path.name for path in folder.glob("*")]
    for name in sorted(first_draws([*paths, *there]) & paths.keys()):
        store.write_whole(folder / name, functools.partial(shutil.copyfile, paths[name]))


def first_draws(names: list[str]) -> set[str]:
    """Of file names that differ in their draw alone, that of the least draw: what is shown of each
    pool would else be megabytes a draw."""
    least = {}
    for name in names:
        number = int((re.search(r"_draw(\d+)_", name) or [0, 0])[1])
        every = re.sub(r"_draw\d+_", "_", name)
        least[every] = min(least.get(every, (number, name)), (number, name))
    return {name for _, name in least.values()}


def of_cells(keys: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Finished cells and their scores, checked as `read_results` does; no table stays on disk."""
    with tempfile.TemporaryDirectory() as folder:
        cells.gather(keys, Path(folder))
        return read_results(Path(folder))


def figures(out: Path) -> None:
    """Run notebook 06 on out/tables into out/figures, unless it ran on these very tables and its
    figures are there."""
    source = notebooks.source("06_paper_figures")
    request = {
        "notebook": source.stem,
        "code": notebooks.read(source)[1],
        "out": str(out),
        "tables": {p.name: store.sha256(p) for p in sorted((out / "tables").iterdir())},
    }
    done = store.find("run", request)
    if done and all((out / "figures" / name).is_file() for name in store.manifest(done)["figures"]):
        return
    if done:
        shutil.rmtree(done)

    def build(folder):
        # papermill takes seconds to import: a finished grid does without
        from fsl_utils.study import kernels

        parameters = {"tables": str(out / "tables"), "figures": str(out / "figures")}
        try:
            kernels.run(source, folder / source.name, parameters, {})
        except kernels.FAILURES as error:
            raise StudyError(
                f"{source.stem} failed: {kernels.reason(error)} [tables: {out / 'tables'}]"
            ) from None
        drawn = (path for path in (out / "figures").rglob("*") if path.is_file())
        return {"figures": sorted(str(path.relative_to(out / "figures")) for path in drawn)}

    store.make("run", request, build)


def cost(folders: list[Path], before: set[Path]) -> pd.DataFrame:
    """Where the time went, one row a stage: runs made now and before (those in `before`), seconds,
    processor seconds and peak memory (bytes) of those made now, and how many of the things that
    they needed were in the store already (`hits` of `things`)."""
    stages = {notebook: stage for stage, notebook in grid.STAGES.items()}
    rows = []
    for folder in folders:
        record, now = store.manifest(folder), folder not in before
        rows.append(
            {
                "stage": stages[record["params"]["notebook"]],
                "now": now,
                "before": not now,
                "seconds": now * record["seconds"],
                "cpu_seconds": now * record["cpu_seconds"],
                "peak_memory": now * record["peak_memory"],
                "hits": now * (len(record["things"]) - len(record["made"])),
                "things": now * len(record["things"]),
            }
        )
    if not rows:
        return pd.DataFrame()
    groups = pd.DataFrame(rows).groupby("stage")
    frame = groups.sum().assign(peak_memory=groups["peak_memory"].max())
    return frame.reindex([stage for stage in grid.STAGES if stage in frame.index])
