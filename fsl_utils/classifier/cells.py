"""Cells: one trained classifier each, scored on real images, kept in the store."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from fsl_utils import StudyError, metrics, params, store
from fsl_utils.classifier import adaptive, classifiers, plan
from fsl_utils.classifier.material import Material
from fsl_utils.data.tasks import FewShotTask

KEY_COLUMNS = [
    "domain",
    "rare_class",
    "protocol",
    "image_size",
    "classifier_size",
    "classifier_channels",
    "n_real",
    "draw",
    "fold",
    "seed",
    "backbone",
    "mode",
    "arm",
    "ratio",
    "synthetic_weight",
    "classifier",
    "init",
]
COLUMNS = [
    "cell",
    *KEY_COLUMNS,
    "evaluated_on",
    "n_test",
    "n_test_rare",
    "n_test_groups",
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
    "train_seconds",
    "base",
    "pool",
]

TEXTS = ("cell", "image", "group", "partition")  # columns of scores.parquet that repeat a few words


def run(task: FewShotTask, p) -> Iterator[dict]:
    """Train and score every planned cell that is not in the store; yields each as a row of
    cells.csv.
    """
    planned = plan.cells(task, p)
    material = Material(task, p, planned, params.device(p.device))
    for cell in planned:
        folder = cell.make(
            lambda out, cell=cell: _build(out, cell, material), device=material.device
        )
        yield row(folder)


def row(folder: Path) -> dict:
    """A finished cell as a row of cells.csv."""
    facts = store.manifest(folder)
    cell, result = facts["params"], facts["metrics"]
    values = {
        "cell": facts["key"],
        **{k: cell.get(k, "") for k in KEY_COLUMNS},
        "evaluated_on": cell["evaluate_on"],
        **result,
        "train_seconds": facts["train_seconds"],
        "base": cell.get("base", "")[:12],
        "pool": cell["pools"].get("rare") or cell["pools"].get("base", ""),
    }
    return {name: values[name] for name in COLUMNS}


def _build(folder: Path, cell: plan.CellRequest, material: Material) -> dict:
    """Train one classifier, score it, write scores.parquet; returns the facts for the manifest."""
    begin, before = time.perf_counter(), material.spent["fetching"]
    if cell.source.chooses:
        table, facts = adaptive.choose(cell, lambda other: _table(other, material))
    else:
        scores = classifiers.get(cell.classifier).scores(cell, material)
        table = _scored(cell, material.evaluated, scores)
        facts = cell.source.facts(material, cell.n) if cell.n else {}
    fetching = material.spent["fetching"] - before
    seconds = round(time.perf_counter() - begin - fetching, 3)
    table.to_parquet(folder / "scores.parquet", index=False)
    return {"metrics": _metrics(cell, table), "train_seconds": seconds, **facts}


def _table(cell: plan.CellRequest, material: Material) -> pd.DataFrame:
    """The scores of a cell, trained where it is not in the store."""
    folder = cell.make(lambda out: _build(out, cell, material), device=material.device)
    return pd.read_parquet(folder / "scores.parquet")


def _scored(cell: plan.CellRequest, rows: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """One row an image at positions `rows`: image, group, partition, label, score. 'choosing' is
    the part of validation that thresholds may see."""
    table = cell.task.domain.table.iloc[rows]
    choosing = np.where(np.isin(rows, cell.task.draw.choosing), "choosing", "validation")
    return pd.DataFrame(
        {
            "image": table["image"],
            "group": table["group"],
            "partition": np.where(table["partition"] == "test", "test", choosing),
            "label": cell.task.draw.labels[rows],
            "score": scores,
        }
    )


def _metrics(cell: plan.CellRequest, table: pd.DataFrame) -> dict:
    """`metrics.score` of the images that the cell is evaluated on, at a threshold of the choosing
    part.
    """
    chosen = table[table["partition"] == "choosing"]
    threshold = metrics.choose_threshold(chosen["label"].to_numpy(), chosen["score"].to_numpy())
    if cell.evaluate_on != "validation":
        table = table[table["partition"] == "test"]
    result = metrics.score(table["label"].to_numpy(), table["score"].to_numpy(), threshold)
    result["n_test_groups"] = int(table["group"].nunique())
    return {name: _plain(value) for name, value in result.items()}


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def gather(
    keys: list[str], tables: Path, kept: tuple[pd.DataFrame, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """Write cells.csv and scores.parquet of finished cells into `tables`; returns the cells.

    kept: rows of both tables that are taken over as they are. Rows are sorted by what was asked,
    not by when it was done.
    """
    rows, scores = [], []
    for key in sorted(set(keys)):
        folder = store.root() / "cell" / key
        fault = store.damage(folder)
        if fault:
            raise StudyError(f"cell {key[:12]}: {fault}; run the grid again to make it anew")
        rows.append(row(folder))
        scores.append(pd.read_parquet(folder / "scores.parquet").assign(cell=key))
    cells = pd.DataFrame(rows, columns=COLUMNS)
    if kept is not None:
        cells, scores = (
            pd.concat([kept[0][COLUMNS], cells]) if rows else kept[0][COLUMNS],
            [kept[1].astype(dict.fromkeys(TEXTS, str)), *scores],
        )
    cells = cells.sort_values([*KEY_COLUMNS, "evaluated_on", "cell"]).reset_index(drop=True)
    rank = {key: i for i, key in enumerate(cells["cell"])}
    frame = pd.concat(scores, ignore_index=True)[
        ["cell", "image", "group", "partition", "label", "score"]
    ]
    frame = (
        frame.assign(rank=frame["cell"].map(rank))
        .sort_values(["rank", "image"], kind="stable")
        .drop(columns="rank")
        .reset_index(drop=True)
    )
    for text in TEXTS:
        frame[text] = frame[text].astype("category")
    store.write_whole(
        tables / "cells.csv",
        lambda partial: cells.to_csv(partial, index=False, lineterminator="\n"),
    )
    store.write_whole(
        tables / "scores.parquet", lambda partial: frame.to_parquet(partial, index=False)
    )
    return cells
