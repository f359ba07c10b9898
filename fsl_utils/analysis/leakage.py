"""What a split by image gives away: the real shots alone, split by image and by group."""

import pandas as pd

from fsl_utils.analysis.resampling import REAL, interval, resample
from fsl_utils.analysis.tables import TASK_COLUMNS

APART = [name for name in TASK_COLUMNS if name != "protocol"]


def given_away(cells: pd.DataFrame, scores: pd.DataFrame, metric: str = "pr_auc") -> pd.DataFrame:
    """The metric of `real` by `image` and by `group`, a row a setting that has both, on the draws
    that both have.

    `gives_away` [`low`, `high`]: the first minus the second. A draw by image has nothing in common
    with the draw by group of the same number: both splits' draws and test groups are resampled,
    and there is no test of pairs.
    """
    real = cells[cells["arm"] == "real"]
    rows = []
    for _, part in real.groupby(APART, sort=False):
        by = dict(list(part.groupby("protocol")))
        if by.keys() < {"image", "group"}:
            continue
        common = set(by["image"]["draw"]) & set(by["group"]["draw"])
        if common:
            kept = {name: side[side["draw"].isin(common)] for name, side in by.items()}
            rows.append(_row(kept, scores, metric))
    return pd.DataFrame(rows)


def _row(by: dict[str, pd.DataFrame], scores: pd.DataFrame, metric: str) -> dict:
    resamples, told, units = {}, {}, []
    for name, cells in by.items():
        study = resample(cells, scores, metric)
        draws, told[name] = study.shared(REAL)
        resamples[name] = study.mean_and_resamples(REAL, draws)
        units.append(study.units(len(draws)))
    difference = resamples["image"] - resamples["group"]
    low, high = interval(difference[1:], min(units))
    return {
        **{name: told["group"][name] for name in APART},
        "metric": metric,
        **{name: float(values[0]) for name, values in resamples.items()},
        "gives_away": float(difference[0]),
        "low": low,
        "high": high,
        "n_draws": told["group"]["n_draws"],
        "caution": told["group"]["caution"],
        "cells": ";".join(told[name]["cells"] for name in sorted(told)),
    }
