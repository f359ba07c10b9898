"""With what certainty: resampling of draws and test groups, tests, and the draws that a test needs.

Seeds are averaged within a draw; draws are the unit of every test and, with test groups, of every interval.
What is made of it for figures and tables is in `contrasts`, `curves` and `ratios`.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from fsl_utils import StudyError, metrics
from fsl_utils.analysis.tables import POOL_COLUMNS, TASK_COLUMNS, Images, setting

MIN_DRAWS = 10  # below: an illustration, and no test
MIN_GROUPS = 10  # groups with rare images, below which an interval over groups says little
LEVEL = 0.95
REPLICATES = 1000
CONTROLS = (
    "duplicate",
    "real",
    "balanced",
    "focal",
    "augment",
    "crt",
    "paste",
)  # what costs nothing


@dataclass(frozen=True)
class Resampled:
    """One study, one metric. Draws are the columns of `points`, and in that order the rows of each `replicates`.

    points: index (arm, ratio), one column a draw, mean over seeds; NaN where a draw has no such cell.
    replicates: (arm, ratio) -> [D, B], the same under B resamplings of the groups, one and the same for all.
    cells: (arm, ratio) -> {draw: keys}. rare_groups: the fewest groups with rare images that any cell is scored on.
    """

    setting: dict
    metric: str
    points: pd.DataFrame
    replicates: dict
    cells: dict
    seeds: int
    rare_groups: int

    def at(self, arm: str, ratio: float) -> tuple[str, float] | None:
        """The arm at this ratio, or at 0 where a ratio has no meaning for it; None where it was not run."""
        return next(
            (key for key in ((arm, float(ratio)), (arm, 0.0)) if key in self.replicates), None
        )

    @property
    def arms(self) -> list[str]:
        """The arms that were run, controls first."""
        run = list(dict.fromkeys(arm for arm, _ in self.replicates))
        return sorted(
            run, key=lambda arm: (CONTROLS.index(arm) if arm in CONTROLS else len(CONTROLS), arm)
        )

    def cautions(self, draws: int | None = None) -> str:
        """What a reader must know before believing a number of this study; '' where there is nothing."""
        draws = self.points.shape[1] if draws is None else draws
        said = []
        if draws < MIN_DRAWS:
            said.append(f"illustration: {draws} draw{'s' * (draws != 1)}")
        if draws == 1:
            said.append("interval from test groups alone")
        if self.rare_groups < MIN_GROUPS:
            said.append(f"only {self.rare_groups} groups with rare images")
        if self.setting["evaluated_on"] == "validation":
            said.append("preliminary: on validation")
        if self.setting["protocol"] == "image":
            said.append("split by image: leaks by design")
        return "; ".join(said)

    def shared(self, *keys: tuple[str, float]) -> tuple[np.ndarray, dict]:
        """The draws (as positions) that all these (arm, ratio) share, and the columns common to all tables."""
        shared = self.points.loc[list(keys)].notna().all().to_numpy()
        draws = self.points.columns[shared]
        names = [cell[:12] for key in keys for draw in draws for cell in self.cells[key][draw]]
        columns = {
            "n_draws": len(draws),
            "n_seeds": self.seeds,
            "metric": self.metric,
            **{name: self.setting[name] for name in [*TASK_COLUMNS, *POOL_COLUMNS]},
            "caution": self.cautions(len(draws)),
            "cells": ";".join(names),
        }
        return np.flatnonzero(shared), columns

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """Interval of the mean over draws of values [D, B]; with one draw, from its groups alone."""
        draws = len(values)
        return (
            interval(over_draws(values), draws if draws > 1 else self.rare_groups)
            if draws
            else (math.nan, math.nan)
        )


def resample(
    cells: pd.DataFrame, scores: pd.DataFrame, metric: str = "pr_auc", replicates: int = REPLICATES
) -> Resampled:
    """Compute `metric` of one study's cells under resampled groups.

    Groups get exponential weights (the Bayesian bootstrap, Rubin 1981): as a bootstrap that draws
    whole groups, but no resample loses its rare images, however few groups hold them. A group has
    the same weights in all cells, so that contrasts are paired and a test set that all draws share
    is not mistaken for many.
    """
    if metric not in metrics.METRICS:
        raise StudyError(f"unknown metric '{metric}': known are {', '.join(metrics.METRICS)}")
    where = setting(cells)
    images = Images(scores[scores["cell"].isin(cells["cell"])])
    weights = np.random.default_rng(0).exponential(size=(images.n_groups, replicates))
    weights = np.hstack([np.ones((images.n_groups, 1)), weights])  # column 0: as observed
    draws = np.sort(cells["draw"].unique())
    points, resampled, keys, rare_groups = {}, {}, {}, []
    values = defaultdict(lambda: defaultdict(list))  # (arm, ratio) -> draw -> one [B] a seed
    for row in cells.itertuples():
        labels, score, groups = images.evaluated(row.cell, row.evaluated_on)
        rare_groups.append(len(np.unique(groups[labels == 1])))
        value = metrics.weighted(metric, labels, score, groups, weights, row.threshold)
        if np.isfinite(value[0]):  # else no threshold was chosen
            values[row.arm, row.ratio][row.draw].append(value)
    for key, by_draw in sorted(values.items()):
        missing = np.full(replicates + 1, np.nan)
        table = np.stack(
            [np.mean(by_draw[draw], axis=0) if draw in by_draw else missing for draw in draws]
        )
        points[key], resampled[key] = table[:, 0], table[:, 1:]
    for (arm, ratio, draw), same in cells.sort_values("seed").groupby(["arm", "ratio", "draw"])[
        "cell"
    ]:
        keys.setdefault((arm, ratio), {})[int(draw)] = list(same)
    if not points:
        raise StudyError(f"no cell has a {metric}: no threshold was chosen in this study")
    frame = pd.DataFrame.from_dict(points, orient="index", columns=draws)
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["arm", "ratio"])
    return Resampled(
        where, metric, frame, resampled, keys, cells["seed"].nunique(), min(rare_groups)
    )


def over_draws(values: np.ndarray) -> np.ndarray:
    """The outer bootstrap: from [D, B] to [B], each the mean over D draws taken with replacement."""
    return np.einsum("db,db->b", _draw_shares(*values.shape), values)


@cache
def _draw_shares(draws: int, replicates: int) -> np.ndarray:
    return (
        np.random.default_rng([1, draws])
        .multinomial(draws, np.full(draws, 1 / draws), size=replicates)
        .T
        / draws
    )


def interval(replicates: np.ndarray, n: int) -> tuple[float, float]:
    """Expanded percentile interval (Hesterberg, The American Statistician 2015, section 5.2).

    replicates [B], n: units that were resampled. Plain percentiles are too narrow with few units:
    the tail is moved to where Student's t and the factor sqrt(n / (n - 1)) put it.
    """
    if n < 2:
        return math.nan, math.nan
    tail = norm.cdf(-math.sqrt(n / (n - 1)) * t.ppf((1 + LEVEL) / 2, n - 1))
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def sign_flip(differences, limit: int = 16, samples: int = 20_000) -> float:
    """Two-sided p of the mean of paired differences [D] under random signs.

    All 2^D signs up to D = limit, beyond it `samples` random ones, the observed among them. The
    smallest p is 2 / 2^D. It assumes draws exchangeable given the data set: draws share
    images, so the test speaks of this data set and not of others.
    """
    differences = np.asarray(differences, float)
    n = len(differences)
    if n == 0 or not np.isfinite(differences).all():
        raise StudyError(
            f"a sign-flip test needs finite differences, one a draw; got {differences.tolist()[:5]}"
        )
    if n <= limit:
        signs = np.array(list(product((1, -1), repeat=n - 1)), float).reshape(2 ** (n - 1), n - 1)
        signs = np.column_stack([np.ones(len(signs)), signs])  # the other half mirrors this one
    else:
        signs = np.random.default_rng(2).choice((-1.0, 1.0), size=(samples, n))
        signs[0] = 1
    observed = abs(differences.sum())
    slack = 1e-12 * np.abs(differences).sum()  # sums in another order differ in the last digits
    return float((np.abs(signs @ differences) >= observed - slack).mean())


def holm(p) -> np.ndarray:
    """Holm's adjusted p values of one family, [M]. NaN (not tested) stays and does not count."""
    p = np.asarray(p, float)
    adjusted, order = np.full(len(p), np.nan), np.argsort(p)
    order = order[~np.isnan(p[order])]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def draws_needed(differences, effect: float = 0.05) -> int:
    """Draws that show a mean difference of `effect` with 80 % power at the 5 % level: (2.8 s / effect)^2.

    differences: of a pilot on validation, one a draw; s is their standard deviation. At least MIN_DRAWS.
    """
    differences = np.asarray(differences, float)
    if len(differences) < 2:
        raise StudyError(
            f"the pilot has {len(differences)} draw: 2 or more are needed to estimate a spread"
        )
    return max(MIN_DRAWS, math.ceil((2.8 * differences.std(ddof=1) / effect) ** 2))
