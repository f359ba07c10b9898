"""Reading results, checked: `cells.csv` (one row a cell), `scores.parquet` (one a cell and image).

A *study* is the set of cells that may be averaged: one task, protocol, size, shots, classifier and,
for arms with a pool, one backbone, mode and base.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from fsl_utils import StudyError, metrics
from fsl_utils.analysis import determinants

TASK_COLUMNS = [
    *("domain", "rare_class", "protocol", "image_size", "n_real"),
    *("classifier", "classifier_size", "classifier_channels", "init", "evaluated_on"),
]
# Empty base: the arm has no pool, and its backbone and mode mean nothing.
POOL_COLUMNS = ["backbone", "mode", "base"]
# What is averaged and compared in a study.
UNIT_COLUMNS = ["draw", "fold", "seed", "arm", "ratio", "synthetic_weight"]
COUNTS = ["n_test", "n_test_rare", "n_test_groups"]
METRIC_COLUMNS = ["prevalence", "threshold", "f1_all_positive", *metrics.METRICS]
WHOLE = ["image_size", "classifier_size", "classifier_channels", "n_real", "draw", "seed", *COUNTS]
NUMBERS = [*WHOLE, "ratio", "synthetic_weight", *METRIC_COLUMNS]
CELL_COLUMNS = list(
    dict.fromkeys(
        ["cell", *TASK_COLUMNS, *POOL_COLUMNS, "pool", *UNIT_COLUMNS, *NUMBERS, "train_seconds"]
    )
)
# Columns that tables published before lack, and what they would have held. fold: the outer fold
# that was test, 0 to 4, where evaluated_on is `fold`.
ADDED_COLUMNS = {"fold": "", "classifier_channels": "1", "synthetic_weight": "0"}
SCORE_COLUMNS = ["cell", "image", "group", "partition", "label", "score"]
# `choosing`: the few validation images that thresholds and ratios may be chosen by.
SCORED_ON = {"validation": ("choosing", "validation"), "test": ("test",), "fold": ("test",)}


def read_results(tables: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells (CELL_COLUMNS) of a results folder and their per-image scores (SCORE_COLUMNS).

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


def read_several(folders: list[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`read_results` of several folders together; a cell that several hold counts once."""
    read = [read_results(folder) for folder in folders]
    cells, scores = (pd.concat(parts, ignore_index=True) for parts in zip(*read))
    return cells.drop_duplicates("cell"), scores.drop_duplicates(["cell", "image"])


def _checked_cells(cells: pd.DataFrame, path: Path) -> pd.DataFrame:
    cells = cells.assign(
        **{name: value for name, value in ADDED_COLUMNS.items() if name not in cells}
    )
    if "classifier_size" not in cells and "image_size" in cells:
        cells["classifier_size"] = cells["image_size"]  # they were one
    _check_columns(cells, CELL_COLUMNS, path)
    if cells.empty:
        raise StudyError(f"{path} has no rows: run the sweep first")
    cells = cells[CELL_COLUMNS].copy()
    for name in [*NUMBERS, "train_seconds"]:
        try:  # float() is exact: a threshold is one of the scores
            cells[name] = [float(text or "nan") for text in cells[name]]
        except ValueError as error:
            raise StudyError(
                f"{path}: column {name} holds something that is no number ({error}); "
                "make the table again"
            ) from error
    for name, valid in _rules(cells).items():
        if not valid.all():
            row = int(np.flatnonzero(~valid.to_numpy(bool))[0])
            raise StudyError(
                f"{path}, line {row + 2}: {name} is {cells[name].iloc[row]!r}, which cannot be; "
                "make the table again"
            )
    cells = cells.astype(dict.fromkeys(WHOLE, int))
    cells.loc[cells["base"] == "", POOL_COLUMNS] = ""
    _check_doubles(cells, path)
    return cells


def _rules(cells: pd.DataFrame) -> dict[str, pd.Series]:
    """Column -> whether each value of it can be."""
    on_fold = cells["evaluated_on"] == "fold"
    rules = {
        "cell": cells["cell"].str.fullmatch("[0-9a-f]{64}"),
        "base": cells["base"].str.fullmatch("([0-9a-f]{12})?"),
        "protocol": cells["protocol"].isin(["group", "image"]),
        "evaluated_on": cells["evaluated_on"].isin(list(SCORED_ON)),
        "fold": cells["fold"].str.fullmatch("[0-9]") & on_fold | (cells["fold"] == "") & ~on_fold,
        "synthetic_weight": cells["synthetic_weight"].between(0, 1),
        "ratio": (cells["ratio"] >= 0) & np.isfinite(cells["ratio"]),
    }
    for name in WHOLE:
        rules[name] = (cells[name] >= 0) & (cells[name] % 1 == 0)
    for name in METRIC_COLUMNS:  # those of the threshold are empty where none was chosen
        rules[name] = cells[name].between(0, 1) | (cells[name].isna() & ("threshold" in name))
    return rules


def _check_doubles(cells: pd.DataFrame, path: Path) -> None:
    same_settings = [*TASK_COLUMNS, *POOL_COLUMNS, *UNIT_COLUMNS]
    for what, columns in {"key": ["cell"], "settings": same_settings}.items():
        double = cells[cells.duplicated(columns, keep=False)].sort_values(columns, kind="stable")
        if len(double):
            words = ", ".join(
                f"{name} {v}" for name, v in double[columns].iloc[0].items() if v != ""
            )
            raise StudyError(
                f"{path}: lines {double.index[0] + 2} and {double.index[1] + 2} have the same "
                f"{what} ({words}): keep one of the two"
            )


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
                f"{path}: {(~valid).sum()} rows have an impossible {name} (first: {row[name]} for "
                f"image {row['image']} of cell {str(row['cell'])[:12]}); make that cell again"
            )
    double = scores[scores.duplicated(["cell", "image"])]
    if len(double):
        row = double.iloc[0]
        raise StudyError(
            f"{path}: image {row['image']} is scored twice in cell {row['cell'][:12]}; "
            "make the table again"
        )
    return scores[SCORE_COLUMNS]


def _check_columns(frame: pd.DataFrame, columns: list[str], path: Path) -> None:
    missing = [name for name in columns if name not in frame]
    unknown = [name for name in frame if name not in columns]
    if missing or unknown:
        raise StudyError(
            f"{path}: columns missing: {missing or 'none'}; unknown: {unknown or 'none'}; "
            "make the table again"
        )


def _check_agreement(cells: pd.DataFrame, scores: pd.DataFrame, paths: list[Path]) -> None:
    """Every cell has scores, every score a cell, and the metrics are those of the scores."""
    known, scored = set(cells["cell"]), set(scores["cell"].unique())
    for only, here, there in ((known - scored, *paths), (scored - known, *paths[::-1])):
        if only:
            raise StudyError(
                f"{len(only)} cells of {here.name} are not in {there} (first: {min(only)[:12]}): "
                "the two files are of different runs"
            )
    images = Images(scores)
    ones = np.ones((images.n_groups, 1))
    for row in cells.itertuples():
        labels, values, groups = images.evaluated(row.cell, row.evaluated_on)
        if labels.min(initial=1) or not labels.max(initial=0):
            raise StudyError(
                f"{paths[1]}: cell {row.cell[:12]} is evaluated on {row.evaluated_on} "
                "but has no images of both classes there"
            )
        computed = {
            "n_test": len(labels),
            "n_test_rare": labels.sum(),
            "n_test_groups": len(np.unique(groups)),
            "prevalence": labels.mean(),
            "f1_all_positive": 2 * labels.sum() / (len(labels) + labels.sum()),
        }
        for name in metrics.METRICS:
            weighted = metrics.weighted(name, labels, values, groups, ones, row.threshold)
            computed[name] = weighted[0]
        for name, value in computed.items():
            told = getattr(row, name)
            if not np.isclose(told, value, rtol=0, atol=1e-6, equal_nan=True):
                raise StudyError(
                    f"{paths[0]}: {name} of cell {row.cell[:12]} is {told:.6g}, but its scores "
                    f"give {value:.6g}: one of the two was changed by hand; make the cell again"
                )


class Images:
    """Per-image scores as arrays, by cell. A group has the same number in all cells."""

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

    Cells without a pool belong to every study of their task. An arm with a `synthetic_weight` is
    another recipe, so another arm: it is named by it.
    """
    named = cells["arm"] + cells["synthetic_weight"].map(" at weight {:g}".format)
    cells = cells.assign(arm=named.where(cells["synthetic_weight"] > 0, cells["arm"]))
    parts = []
    for _, task in cells.groupby(TASK_COLUMNS, sort=True):
        plain, pooled = task[task["base"] == ""], task[task["base"] != ""]
        pools = [part for _, part in pooled.groupby(POOL_COLUMNS, sort=True)] or [pooled]
        parts += [pd.concat([plain, part]) for part in pools]
    return [part.sort_values(["arm", "ratio", "draw", "fold", "seed"]) for part in parts]


def setting(cells: pd.DataFrame) -> dict:
    """The one task and pool setting of a study.

    Raises StudyError where cells differ in it: they are never averaged in silence.
    """
    if cells.empty:
        raise StudyError("no cells are left: nothing in the tables fits what was asked for")
    pooled = cells[cells["base"] != ""]
    one = {}
    for name in [*TASK_COLUMNS, *POOL_COLUMNS]:
        values = sorted((pooled if name in POOL_COLUMNS else cells)[name].unique())
        if len(values) > 1:
            raise StudyError(
                f"cells of different {name} ({', '.join(map(str, values[:4]))}) are never "
                f"averaged: keep one, as in cells[cells['{name}'] == {values[0]!r}], "
                "or split_studies(cells)"
            )
        one[name] = values[0] if values else ""
    return one


def largest_errors(scores: pd.DataFrame, cell: str, count: int = 8) -> pd.DataFrame:
    """The `count` images a cell is most wrong about: rare ones scored low, common ones high."""
    ours = scores[scores["cell"] == cell]
    error = (ours["score"] - ours["label"]).abs()
    return ours.assign(error=error, cells=cell[:12]).nlargest(count, "error")
