"""From finished runs to tables and figures: what a reader of results/ gets."""

import json
import shutil
from pathlib import Path

import pandas as pd
import papermill

from . import StudyError, cells, grid, store


def tables(folders: list[Path], out: Path) -> pd.DataFrame:
    """Gather what runs made: tables/cells.csv, scores.parquet and pools.csv, and the figures of notebooks 03 and 05. Returns the cells.

    The same runs give the same bytes, but for cells.csv's column train_seconds, which is a measurement.
    Raises StudyError where no run made a cell.
    """
    things = sorted({thing for folder in folders for thing in store.manifest(folder)["things"]})
    of = {stage: [t.split("/")[1] for t in things if t.startswith(f"{stage}/")] for stage in grid.PUBLISHED}
    if not of["cell"]:
        raise StudyError("no cell is finished yet: there is nothing to publish")
    table = cells.gather(of["cell"], out / "tables")
    reports = [json.loads((store.root() / "report" / key / "report.json").read_text()) for key in of["report"]]
    if reports:
        frame = pd.DataFrame(reports).sort_values(["domain", "rare_class", "draw", "pool"])
        store.write_whole(out / "tables" / "pools.csv", lambda partial: frame.to_csv(partial, index=False, lineterminator="\n"))
    for key in of["figure"]:
        folder = store.root() / "figure" / key
        for name in store.manifest(folder)["files"]:
            store.write_whole(out / "figures" / name, lambda partial: shutil.copyfile(folder / name, partial))
    return table


def figures(out: Path) -> None:
    """Run notebook 06 on out/tables into out/figures, unless it ran on these very tables and its figures are there."""
    source = grid.source("06_paper_figures")
    wanted = {"notebook": "06_paper_figures", "source": store.sha256(source), "out": str(out),
              "tables": {p.name: store.sha256(p) for p in sorted((out / "tables").iterdir())}}
    done = store.find("run", wanted)
    if done and all((out / "figures" / name).is_file() for name in store.manifest(done)["figures"]):
        return
    if done:
        shutil.rmtree(done)

    def build(folder):
        try:
            papermill.execute_notebook(source, folder / source.name, {"tables": str(out / "tables"), "figures": str(out / "figures")},
                                       kernel_name="python3", progress_bar=False, cwd=source.parent)
        except papermill.PapermillExecutionError as error:
            raise StudyError(f"06_paper_figures failed: {error.ename}: {error.evalue} [tables: {out / 'tables'}]") from error
        return {"figures": sorted(p.name for p in (out / "figures").iterdir())}

    store.make("run", wanted, build)


def cost(folders: list[Path], before: set[Path]) -> pd.DataFrame:
    """Where the time went, one row a stage: runs made now and before (those in `before`), seconds, processor seconds and
    peak memory (bytes) of those made now, and how many of the things that they needed were in the store already (`hits` of `things`)."""
    rows = []
    for folder in folders:
        record = store.manifest(folder)
        stage = next(stage for stage, notebook in grid.STAGES.items() if notebook == record["params"]["notebook"])
        now = folder not in before
        rows.append({"stage": stage, "now": now, "before": not now, "seconds": now * record["seconds"], "cpu_seconds": now * record["cpu_seconds"],
                     "peak_memory": now * record["peak_memory"],
                     "hits": now * (len(record["things"]) - len(record["made"])), "things": now * len(record["things"])})
    stages = pd.DataFrame(rows).groupby("stage")
    frame = stages.sum().assign(peak_memory=stages["peak_memory"].max())
    return frame.reindex([stage for stage in grid.STAGES if stage in frame.index])
