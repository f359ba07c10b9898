"""How good each arm is: its level over ratio, over recall, and draw by draw."""

import numpy as np
import pandas as pd

from fsl_utils import metrics
from fsl_utils.analysis.resampling import Resampled, resample
from fsl_utils.analysis.tables import Images


def levels(study: Resampled) -> pd.DataFrame:
    """Every arm and ratio: mean over draws, with its interval (low, high)."""
    rows = []
    for arm, ratio in study.replicates:
        draws, columns = study.shared((arm, ratio))
        low, high = study.interval(study.replicates[arm, ratio][draws])
        mean = study.points.loc[(arm, ratio)].iloc[draws].mean()
        rows.append({"arm": arm, "ratio": ratio, "mean": mean, "low": low, "high": high, **columns})
    return pd.DataFrame(rows)


def slopes(study: Resampled, arm: tuple[str, float], control: tuple[str, float]) -> pd.DataFrame:
    """The value of every draw under a control and an arm: columns pair, draw, arm, ratio, value."""
    draws, columns = study.shared(control, arm)
    pair = " to ".join(f"{name} {ratio:g}x" if ratio else name for name, ratio in (control, arm))
    return pd.DataFrame(
        {
            "pair": pair,
            "draw": int(draw),
            "arm": key[0],
            "ratio": key[1],
            "value": study.points.loc[key, draw],
            **columns,
            "cells": ";".join(cell[:12] for cell in study.cells[key][draw]),
        }
        for key in (control, arm)
        for draw in study.points.columns[draws]
    )


def precision_over_recall(
    cells: pd.DataFrame, scores: pd.DataFrame, keys: list[tuple[str, float]], replicates: int = 300
) -> pd.DataFrame:
    """Precision over recall, mean over draws with a pointwise band, one row an arm and recall.

    Columns arm, ratio, recall, precision, low, high. At each recall stands the precision at the
    highest threshold that reaches it, not interpolated.
    """
    study = resample(cells, scores, replicates=1)  # for its draws, cells and cautions
    images = Images(scores[scores["cell"].isin(cells["cell"])])
    weights = metrics.group_weights(images.n_groups, replicates)
    recall = np.linspace(0.02, 1, 50)
    parts = []
    for arm, ratio in keys:
        draws, columns = study.shared((arm, ratio))
        values = np.empty((len(draws), len(recall), replicates + 1))
        for i, draw in enumerate(study.points.columns[draws]):
            values[i] = np.mean(
                [
                    _precision_at(
                        recall, *images.evaluated(cell, study.setting["evaluated_on"]), weights
                    )
                    for cell in study.cells[arm, ratio][draw]
                ],
                axis=0,
            )
        bounds = np.array([study.interval(values[:, at, 1:]) for at in range(len(recall))])
        parts.append(
            pd.DataFrame({"arm": arm, "ratio": ratio, "recall": recall}).assign(
                precision=values[:, :, 0].mean(0), low=bounds[:, 0], high=bounds[:, 1], **columns
            )
        )
    return pd.concat(parts, ignore_index=True)


def _precision_at(at: np.ndarray, labels, scores, groups, weights) -> np.ndarray:
    """Precision [len(at), B] where recall first reaches each value of `at`."""
    _, hits, false, _, _ = metrics.steps(labels, scores, groups, weights)
    recall = hits / hits[-1]
    step = np.stack([(recall < value - 1e-9).sum(0) for value in at]).clip(max=len(recall) - 1)
    return np.take_along_axis(hits / (hits + false), step, 0)
