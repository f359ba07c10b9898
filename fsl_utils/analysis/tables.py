"""Reading results: `cells.csv` (one row a cell) and `scores.parquet` (one row a cell and image), checked, and the studies in them.

A *study* is the set of cells that may be averaged: one task, protocol, size, shots, classifier and, for arms
with a pool, one backbone, mode and base.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from fsl_utils import StudyError, metrics
from fsl_utils.analysis import determinants

TASK_COLUMNS = [
    "domain",
    "rare_class",
    "protocol",
    "image_size",
    "n_real",
    "classifier",
    "init",
    "evaluated_on",
]
POOL_COLUMNS = [
    "backbone",
    "mode",
    "base",
]  # empty base: the arm has no pool, and its backbone and mode mean nothing
PARAMETER_COLUMNS = ["cell", *TASK_COLUMNS, *POOL_COLUMNS, "pool", "draw", "seed", "arm", "ratio"]
METRIC_COLUMNS = [
    "prevalence",
    "pr_auc",
    "pr_auc_balanced",
    "auroc",
    "f1",
    "recall",
    "precision",
    "threshold",
    "f1_at_threshold",
    "recall_at_threshold",
    "precision_at_threshold",
    "f1_all_positive",
]
COUNTS = ["n_test", "n_test_rare", "n_test_groups"]
CELL_COLUMNS = [*PARAMETER_COLUMNS, *COUNTS, *METRIC_COLUMNS, "train_seconds"]
SCORE_COLUMNS = ["cell", "image", "group", "partition", "label", "score"]
# `choosing`: the few validation images that thresholds and ratios may be chosen by.
SCORED_ON = {"validation": ("choosing", "validation"), "test": ("test",)}


def read_results(tables: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells (columns CELL_COLUMNS) and their per-image scores (columns SCORE_COLUMNS) of a results folder.

    Raises StudyError where a file is missing or its values are impossible, doubled, or contradict
    each other: a table edited by hand is noticed, because every metric is computed again from the
    scores, and every setting is part of the cell's key. `cells.attrs["not_checkable"]`: how many
    rows were published before keys could be checked (see `determinants`).
    """
    tables = Path(tables)
    paths = [tables / "cells.csv", tables / "scores.parquet"]
    for path in paths:
        if not path.is_file():
            raise StudyError(
                f"{path} is not there: run `make study` (or the sweep notebooks) to make the tables"
            )
    try:
        cells = pd.read_csv(paths[0], dtype=str, keep_default_na=False)
        scores = pd.read_parquet(paths[1])
    except (ValueError, OSError) as error:  # pandas' and pyarrow's errors are ValueErrors
        raise StudyError(
            f"{tables}: a table cannot be read ({str(error).splitlines()[0]}); make it again"
        ) from error
    cells, scores = _checked_cells(cells, paths[0]), _checked_scores(scores, paths[1])
    _check_agreement(cells, scores, paths)
    cells.attrs["not_checkable"] = determinants.check(cells, tables)
    return cells, scores


def _checked_cells(cells: pd.DataFrame, path: Path) -> pd.DataFrame:
    _check_columns(cells, CELL_COLUMNS, path)
    if cells.empty:
        raise StudyError(f"{path} has no rows: run the sweep first")
    cells = cells[CELL_COLUMNS].copy()
    for name in [
        "image_size",
        "n_real",
        "draw",
        "seed",
        "ratio",
        *COUNTS,
        *METRIC_COLUMNS,
        "train_seconds",
    ]:
        try:
            cells[name] = [
                float(text or "nan") for text in cells[name]
            ]  # exact: a threshold is one of the scores
        except ValueError as error:
            raise StudyError(
                f"{path}: column {name} holds something that is no number ({error}); make the table again"
            ) from error
    whole = ["image_size", "n_real", "draw", "seed", *COUNTS]
    chosen = [
        name for name in METRIC_COLUMNS if "threshold" in name
    ]  # empty where no threshold was chosen
    rules = {
        "cell": cells["cell"].str.fullmatch("[0-9a-f]{64}"),
        "base": cells["base"].str.fullmatch("([0-9a-f]{12})?"),
        "protocol": cells["protocol"].isin(["group", "image"]),
        "evaluated_on": cells["evaluated_on"].isin(list(SCORED_ON)),
        "ratio": (cells["ratio"] >= 0) & np.isfinite(cells["ratio"]),
        **{
            name: cells[name].notna() & (cells[name] >= 0) & (cells[name] % 1 == 0)
            for name in whole
        },
        **{
            name: cells[name].between(0, 1) | (cells[name].isna() & (name in chosen))
            for name in METRIC_COLUMNS
        },
    }
    for name, valid in rules.items():
        if not valid.all():
            row = int(np.flatnonzero(~valid.to_numpy(bool))[0])
            raise StudyError(
                f"{path}, line {row + 2}: {name} is {cells[name].iloc[row]!r}, which cannot be; make the table again"
            )
    cells = cells.astype({name: int for name in whole}).astype({"ratio": float})
    cells.loc[cells["base"] == "", POOL_COLUMNS] = ""
    for what, columns in (
        ("the same key", ["cell"]),
        ("the same settings", [*TASK_COLUMNS, *POOL_COLUMNS, "draw", "seed", "arm", "ratio"]),
    ):
        double = cells.duplicated(columns, keep=False)
        if double.any():
            first, second = (
                cells.index[double][:2]
                if what == "the same key"
                else cells[double].sort_values(columns).index[:2]
            )
            raise StudyError(
                f"{path}: lines {first + 2} and {second + 2} have {what} ({_words(cells.loc[first, columns])}): keep one of the two"
            )
    return cells


def _checked_scores(scores: pd.DataFrame, path: Path) -> pd.DataFrame:
    _check_columns(scores, SCORE_COLUMNS, path)
    known = {name for parts in SCORED_ON.values() for name in parts}
    rules = {
        "score": scores["score"].between(0, 1),
        "label": scores["label"].isin([0, 1]),
        "partition": scores["partition"].isin(known),
    }
    for name, valid in rules.items():
        if not valid.all():
            row = scores[~valid].iloc[0]
            raise StudyError(
                f"{path}: {int((~valid).sum())} rows have an impossible {name} (first: {row[name]} for image {row['image']} "
                f"of cell {str(row['cell'])[:12]}); make that cell again"
            )
    if scores.duplicated(["cell", "image"]).any():
        row = scores[scores.duplicated(["cell", "image"])].iloc[0]
        raise StudyError(
            f"{path}: image {row['image']} is scored twice in cell {row['cell'][:12]}; make the table again"
        )
    return scores[SCORE_COLUMNS]


def _check_columns(frame: pd.DataFrame, columns: list[str], path: Path) -> None:
    missing, unknown = (
        [c for c in columns if c not in frame],
        [c for c in frame if c not in columns],
    )
    if missing or unknown:
        raise StudyError(
            f"{path}: columns missing: {missing or 'none'}; unknown: {unknown or 'none'}; make the table again"
        )


def _check_agreement(cells: pd.DataFrame, scores: pd.DataFrame, paths: list[Path]) -> None:
    """Every cell has scores, every score a cell, and the metrics are those of the scores."""
    known, scored = set(cells["cell"]), set(scores["cell"].unique())
    for only, here, there in ((known - scored, *paths), (scored - known, *paths[::-1])):
        if only:
            raise StudyError(
                f"{len(only)} cells of {here.name} are not in {there} (first: {min(only)[:12]}): the two files are of different runs"
            )
    images = Images(scores)
    for row in cells.itertuples():
        labels, values, groups = images.evaluated(row.cell, row.evaluated_on)
        if labels.min(initial=1) or not labels.max(initial=0):
            raise StudyError(
                f"{paths[1]}: cell {row.cell[:12]} is evaluated on {row.evaluated_on} but has no images of both classes there"
            )
        found = {
            "n_test": len(labels),
            "n_test_rare": labels.sum(),
            "n_test_groups": len(np.unique(groups)),
            "prevalence": labels.mean(),
        }
        ones = np.ones((images.n_groups, 1))
        found |= {
            m: metrics.weighted(m, labels, values, groups, ones, row.threshold)[0]
            for m in metrics.METRICS
        }
        for name, value in found.items():
            told = getattr(row, name)
            if not (abs(told - value) < 1e-6 or (np.isnan(told) and np.isnan(value))):
                raise StudyError(
                    f"{paths[0]}: {name} of cell {row.cell[:12]} is {told:.6g}, but its scores give {value:.6g}: "
                    "one of the two was changed by hand; make the cell again"
                )


class Images:
    """Per-image scores as arrays, by cell. Groups are numbered over all cells: the same group, the same number."""

    def __init__(self, scores: pd.DataFrame):
        cell, self.names = pd.factorize(scores["cell"])
        self.groups, self.group_names = pd.factorize(scores["group"], sort=True)
        self.n_groups = len(self.group_names)
        self.labels, self.scores = scores["label"].to_numpy(int), scores["score"].to_numpy(float)
        self.partition = scores["partition"].to_numpy(object)
        order = np.argsort(cell, kind="stable")
        self.rows = dict(zip(self.names, np.split(order, np.flatnonzero(np.diff(cell[order])) + 1)))

    def of(self, cell: str, partitions: tuple[str, ...]) -> np.ndarray:
        """Row numbers of a cell's images in these partitions."""
        rows = self.rows[cell]
        return rows[np.isin(self.partition[rows], partitions)]

    def evaluated(self, cell: str, on: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, scores and group numbers, each [N], of the images that a cell is evaluated on."""
        rows = self.of(cell, SCORED_ON[on])
        return self.labels[rows], self.scores[rows], self.groups[rows]


def split_studies(cells: pd.DataFrame) -> list[pd.DataFrame]:
    """Split the cells into studies: the sets within which averages mean something.

    Cells without a pool belong to every study of their task.
    """
    found = []
    for _, task in cells.groupby(TASK_COLUMNS, sort=True):
        plain, pooled = task[task["base"] == ""], task[task["base"] != ""]
        pools = [part for _, part in pooled.groupby(POOL_COLUMNS, sort=True)] or [pooled]
        found += [
            pd.concat([plain, part]).sort_values(["arm", "ratio", "draw", "seed"]) for part in pools
        ]
    return found


def slug(where: dict) -> str:
    """A study's name for files: its setting (of `setting`), joined by '_'."""
    parts = [
        where["domain"],
        where["rare_class"],
        f"n{where['n_real']}",
        f"{where['image_size']}px",
        where["classifier"],
        where["init"],
        where["backbone"],
        where["mode"],
        where["evaluated_on"],
        "by_image" if where["protocol"] == "image" else "",
    ]
    return "_".join(str(part).replace(" ", "-") for part in parts if part)


def setting(cells: pd.DataFrame) -> dict:
    """The one task and pool setting of a study. Raises StudyError where cells differ: they are never averaged in silence."""
    if cells.empty:
        raise StudyError("no cells are left: nothing in the tables fits what was asked for")
    pooled = cells[cells["base"] != ""]
    found = {}
    for name in [*TASK_COLUMNS, *POOL_COLUMNS]:
        values = sorted((pooled if name in POOL_COLUMNS else cells)[name].unique())
        if len(values) > 1:
            raise StudyError(
                f"cells of different {name} ({', '.join(map(str, values[:4]))}) are never averaged: "
                f"keep one, as in cells[cells['{name}'] == {values[0]!r}], or split them with tables.studies"
            )
        found[name] = values[0] if values else ""
    return found


def _words(row: pd.Series) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.items() if value != "")


def largest_errors(scores: pd.DataFrame, cell: str, count: int = 8) -> pd.DataFrame:
    """The `count` images a cell is most wrong about: common ones scored high, rare ones scored low."""
    ours = scores[scores["cell"] == cell]
    error = (ours["score"] - ours["label"]).abs()
    return ours.assign(error=error, cells=cell[:12]).nlargest(count, "error")
