"""Whether better pools give better classifiers: a pool's qualities beside what its classifier gained."""

import math

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from fsl_utils import StudyError
from fsl_utils.analysis.resampling import REPLICATES, interval
from fsl_utils.analysis.tables import POOL_COLUMNS, TASK_COLUMNS


def by_pool(
    cells: pd.DataFrame, pools: pd.DataFrame, metric: str = "pr_auc", control: str = "duplicate"
) -> pd.DataFrame:
    """Gain of every pool's classifier over the control of the same task, draw, seed and ratio, beside the pool's qualities.

    pools: one row a pool, with a column `pool` and numbers. One row a (pool, arm, ratio), seeds averaged.
    """
    if "pool" not in pools or pools["pool"].duplicated().any():
        raise StudyError(
            "pools.csv: it needs a column `pool` with each pool once; make the pool reports again"
        )
    on = [*TASK_COLUMNS, "draw", "seed", "ratio"]
    base = cells.loc[cells["arm"] == control, [*on, metric, "cell"]]
    joined = (
        cells[cells["pool"] != ""]
        .merge(base, on=on, suffixes=("", "_control"))
        .merge(pools, on="pool", suffixes=("", "_pool"))
    )
    joined["gain"] = joined[metric] - joined[f"{metric}_control"]
    joined["cells"] = joined["cell"].str[:12] + ";" + joined["cell_control"].str[:12]
    qualities = [c for c in pools.select_dtypes("number") if c not in cells]
    same = [*TASK_COLUMNS, *POOL_COLUMNS, "pool", "arm", "ratio", "draw"]
    return joined.groupby(same, as_index=False).agg(
        {"gain": "mean", **{q: "first" for q in qualities}, "cells": ";".join}
    )


def correlation(gains: pd.DataFrame, quality: str) -> dict:
    """Spearman's correlation of a pool quality with the gain; the interval resamples draws, whose pools share shots."""
    gains = gains.dropna(subset=[quality, "gain"])
    parts = [part[[quality, "gain"]].to_numpy() for _, part in gains.groupby(["domain", "draw"])]
    if len(gains) < 4 or gains[quality].nunique() < 2:
        return {
            "rho": math.nan,
            "low": math.nan,
            "high": math.nan,
            "n_pools": len(gains),
            "n_draws": len(parts),
        }
    picks = np.random.default_rng(3).integers(len(parts), size=(REPLICATES, len(parts)))
    resampled = (
        [np.concatenate([parts[i] for i in pick]) for pick in picks] if len(parts) > 1 else []
    )
    rhos = np.array(
        [spearmanr(*both.T).statistic for both in resampled if np.ptp(both, axis=0).all()]
    )
    low, high = interval(rhos, len(parts)) if len(rhos) else (math.nan, math.nan)
    return {
        "rho": spearmanr(gains[quality], gains["gain"]).statistic,
        "low": low,
        "high": high,
        "n_pools": len(gains),
        "n_draws": len(parts),
    }
