"""The arm `adaptive`: of cells of other arms the choosing images take one (see `halving`)."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from fsl_utils import halving, metrics
from fsl_utils.classifier.plan import CellRequest


def choose(
    cell: CellRequest, scored: Callable[[CellRequest], pd.DataFrame]
) -> tuple[pd.DataFrame, dict]:
    """The scores of the cell that is taken, and what was tried, for the manifest.

    scored: the scores of a cell, with image, group, partition, label, score. Ratios up to the
    cell's own are tried; one that was tried elsewhere is the same cell.
    """
    tables: dict[halving.Key, pd.DataFrame] = {}

    def score(arm: str, ratio: float) -> np.ndarray:
        table = tables[arm, ratio] = scored(cell.at(arm, ratio))
        return validated(table)

    ratios = [ratio for ratio in halving.RATIOS if ratio < cell.ratio] + [cell.ratio]
    found = halving.search(score("real", 0.0), list(halving.RECIPES), ratios, score)
    arm, ratio = halving.choose(found)
    facts = {"tried": [list(key) for key in found], "chosen": [arm, ratio]}
    return tables[arm, ratio], {"adaptive": facts}


def validated(table: pd.DataFrame) -> np.ndarray:
    """PR-AUC of the choosing images, as observed and under resampled groups, [1 + REPLICATES]."""
    chosen = table[table["partition"] == "choosing"]
    groups, names = pd.factorize(chosen["group"], sort=True)
    weights = metrics.group_weights(len(names), halving.REPLICATES)
    labels, scores = (chosen[name].to_numpy() for name in ("label", "score"))
    return metrics.weighted("pr_auc", labels, scores, groups, weights)
