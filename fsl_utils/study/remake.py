"""One published cell made again from its grid file, and compared with what was published."""

from pathlib import Path

import pandas as pd

from fsl_utils import StudyError, store
from fsl_utils.analysis.tables import read_results
from fsl_utils.study import grid, publish


def published(tables: Path, start: str) -> tuple[pd.Series, pd.DataFrame]:
    """A row of cells.csv and its rows of scores.parquet, by the first digits of its key, as the
    CSV of every figure names it.

    Raises StudyError where no cell or more than one begins so.
    """
    table, scores = read_results(tables)
    found = table[table["cell"].str.startswith(start)]
    if len(found) != 1:
        raise StudyError(
            f"{tables / 'cells.csv'}: {len(found)} cells begin with '{start}': "
            "give the digits of one, from its column 'cell'"
        )
    return found.iloc[0], scores[scores["cell"] == found["cell"].iloc[0]]


def nodes(runs: list[dict], cell: pd.Series) -> list[grid.Node]:
    """The notebook runs that make a published cell, with its arm and ratio alone: adapter and pool
    where it has them, then the sweep.

    Raises StudyError where no run of the grid makes it: other data, weights or settings give
    another key.
    """
    for run in runs:
        found = [
            node
            for node in grid.nodes([run | {"arms": [cell["arm"]], "ratios": [cell["ratio"]]}])
            if node.stage != "report"
        ]
        if cell["cell"] in publish.keys(found[-1]):
            return found
    raise StudyError(
        f"no run of this grid file makes cell {cell['cell'][:12]} with these data, weights and "
        "settings: it is from another file, or something has changed since"
    )


def compared(scores: pd.DataFrame, made: Path) -> dict:
    """Largest difference of a score between published `scores` (a cell's rows) and a cell's folder
    in the store, and the PR-AUC that was made."""
    again = pd.read_parquet(made / "scores.parquet").set_index("image")["score"]
    apart = (scores.set_index(scores["image"].astype(str))["score"] - again).abs()
    return {"score": apart.max(skipna=False), "pr_auc": store.manifest(made)["metrics"]["pr_auc"]}
