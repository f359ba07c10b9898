"""Whether better pools give better classifiers: its qualities beside its classifier's gain."""

import math

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from fsl_utils import StudyError
from fsl_utils.analysis.resampling import RESAMPLES, interval
from fsl_utils.analysis.tables import POOL_COLUMNS, TASK_COLUMNS

CONTROL = "duplicate"


def by_pool(cells: pd.DataFrame, pools: pd.DataFrame, metric: str = "pr_auc") -> pd.DataFrame:
    """Gain of every pool's classifier over `duplicate`, beside the pool's qualities.

    The control is that of the same task, draw, fold, seed and ratio. pools: one row a pool, with a
    column `pool` and numbers. One row a (pool, arm, ratio), seeds averaged.
    """
    if "pool" not in pools or pools["pool"].duplicated().any():
        raise StudyError(
            "pools.csv: it needs a column `pool` with each pool once; make the pool reports again"
        )
    on = [*TASK_COLUMNS, "draw", "fold", "seed", "ratio"]
    base = cells.loc[cells["arm"] == CONTROL, [*on, metric, "cell"]]
    joined = (
        cells[cells["pool"] != ""]
        .merge(base, on=on, suffixes=("", "_control"))
        .merge(pools, on="pool", suffixes=("", "_pool"))
    )
    joined["gain"] = joined[metric] - joined[f"{metric}_control"]
    joined["cells"] = joined["cell"].str[:12] + ";" + joined["cell_control"].str[:12]
    qualities = [name for name in pools.select_dtypes("number") if name not in cells]
    same = [*TASK_COLUMNS, *POOL_COLUMNS, "pool", "arm", "ratio", "synthetic_weight"]
    return joined.groupby([*same, "draw", "fold"], as_index=False).agg(
        {"gain": "mean", **dict.fromkeys(qualities, "first"), "cells": ";".join}
    )


def correlation(gains: pd.DataFrame, quality: str) -> dict:
    """Spearman's correlation of a pool quality with the gain: rho, low, high, n_pools, n_draws.

    The interval resamples draws, whose pools share shots.
    """
    gains = gains.dropna(subset=[quality, "gain"])
    draw = gains.groupby(["domain", "draw"]).ngroup().to_numpy()
    counted = {"n_pools": len(gains), "n_draws": len(np.unique(draw))}
    if len(gains) < 4 or gains[quality].nunique() < 2:
        return {"rho": math.nan, "low": math.nan, "high": math.nan, **counted}
    rhos = _resampled_spearman(gains[quality].to_numpy(), gains["gain"].to_numpy(), draw)
    low, high = interval(rhos[np.isfinite(rhos)], counted["n_draws"])
    rho = spearmanr(gains[quality], gains["gain"]).statistic
    return {"rho": rho, "low": low, "high": high, **counted}


def _resampled_spearman(x: np.ndarray, y: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Spearman's rho of pairs [N] when their draws [N] are resampled; NaN where a side is flat."""
    members = (np.arange(draw.max() + 1)[:, None] == draw).astype(float)  # [D, N]
    shares = np.full(len(members), 1 / len(members))
    counts = np.random.default_rng(3).multinomial(len(members), shares, RESAMPLES)  # [B, D]
    weights = counts @ members / (counts @ members).sum(1, keepdims=True)  # [B, N]

    def deviations(values):  # of ranks among the resampled pairs, tied ones sharing theirs
        below = members @ (values[:, None] < values)
        tied = members @ (values[:, None] == values)
        ranks = counts @ (below + tied / 2)
        return ranks - (weights * ranks).sum(1, keepdims=True)

    x, y = deviations(x), deviations(y)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights * x * y).sum(1) / np.sqrt((weights * x**2).sum(1) * (weights * y**2).sum(1))
