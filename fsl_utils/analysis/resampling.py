"""With what certainty: resampling of draws and, within them, of test groups; p values of draws.

Seeds and outer folds are averaged within a draw; draws are the unit of every test and, with test
groups, of every interval. What is made of it is in `contrasts`, `curves`, `ratios` and `headroom`.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy.stats import norm, permutation_test, t

from fsl_utils import StudyError, metrics
from fsl_utils.analysis.tables import POOL_COLUMNS, TASK_COLUMNS, Images, setting
from fsl_utils.metrics import group_weights

MIN_DRAWS = 10  # below: an illustration, and no test
MIN_GROUPS = 10  # groups with rare images, below which an interval over groups says little
LEVEL = 0.95
REPLICATES = 1000  # of the groups
RESAMPLES = 20_000  # of the draws, each with one of the replicates
# How tables head p: draws share test images, so p speaks of these alone, the interval of others.
P_LABELS = {"p": "p (same test images)", "p_holm": "p after Holm (same test images)"}
REAL = ("real", 0.0)  # the shots alone, as (arm, ratio)
# What costs nothing.
CONTROLS = (
    *("duplicate", "real", "balanced", "focal", "augment", "calibrated", "real_base", "crt"),
    *("paste", "contrastive_real"),
)
# What a classifier without skill has: a column of the cells, or a number.
NO_SKILL = {
    "pr_auc": "prevalence",
    "pr_auc_balanced": 0.5,
    "auroc": 0.5,
    "f1": "f1_all_positive",
    "precision": "prevalence",
    "recall": math.nan,
}


@dataclass(frozen=True)
class Resampled:
    """One study, one metric. Draws: columns of `points` and, in that order, rows of `replicates`.

    points: index (arm, ratio), one column a draw, mean over seeds and folds; NaN where a draw has
    no such cell, or not of all its folds. replicates: (arm, ratio) -> [D, B], the same under B
    resamplings of the groups, one and the same for all. cells: (arm, ratio) -> {draw: keys}.
    scored: `no_skill` (the metric without skill) and the fewest rare images, groups and groups
    with rare images that any draw is scored on (`n_rare`, `n_groups`, `n_rare_groups`).
    rare_groups: all groups with rare images that some draw is scored on.
    """

    setting: dict
    metric: str
    points: pd.DataFrame
    replicates: dict
    cells: dict
    seeds: int
    scored: dict
    rare_groups: int

    def at(self, arm: str, ratio: float) -> tuple[str, float] | None:
        """The arm at this ratio, or at 0 where that has no meaning for it; None where not run."""
        return next(
            (key for key in ((arm, float(ratio)), (arm, 0.0)) if key in self.replicates), None
        )

    @property
    def arms(self) -> list[str]:
        """The arms that were run, controls first."""
        rank = {arm: place for place, arm in enumerate(CONTROLS)}
        run = dict.fromkeys(arm for arm, _ in self.replicates)
        return sorted(run, key=lambda arm: (rank.get(arm, len(rank)), arm))

    def cautions(self, draws: int | None = None) -> str:
        """What a reader must know before believing a number of this study; '' where nothing."""
        draws = self.points.shape[1] if draws is None else draws
        validation = self.setting["evaluated_on"] == "validation"
        cases = {
            f"illustration: {draws} draw{'s' * (draws != 1)}": draws < MIN_DRAWS,
            "interval from test groups alone": draws == 1,
            f"only {self.scored['n_rare_groups']} groups with rare images": (
                self.scored["n_rare_groups"] < MIN_GROUPS
            ),
            "preliminary: on validation": validation,
            "in-sample: the threshold was chosen on some of these images": (
                validation and self.metric.endswith("_at_threshold")
            ),
            "split by image: leaks by design": self.setting["protocol"] == "image",
        }
        return "; ".join(words for words, holds in cases.items() if holds)

    def shared(self, *keys: tuple[str, float]) -> tuple[np.ndarray, dict]:
        """The draws (positions) that all these (arm, ratio) share; the columns of every table."""
        shared = self.points.loc[list(keys)].notna().all().to_numpy()
        draws = self.points.columns[shared]
        names = [cell[:12] for key in keys for draw in draws for cell in self.cells[key][draw]]
        columns = {
            "n_draws": len(draws),
            "n_seeds": self.seeds,
            "metric": self.metric,
            **self.scored,
            **{name: self.setting[name] for name in [*TASK_COLUMNS, *POOL_COLUMNS]},
            "caution": self.cautions(len(draws)),
            "cells": ";".join(names),
        }
        return np.flatnonzero(shared), columns

    def mean_and_resamples(self, key: tuple[str, float], draws: np.ndarray) -> np.ndarray:
        """The observed mean of an (arm, ratio) over draws (positions), then its resamples."""
        observed = self.points.loc[key].iloc[draws].mean()
        return np.append(observed, over_draws(self.replicates[key][draws]))

    def units(self, draws: int) -> int:
        """What an interval counts: draws or groups with rare images, whichever are fewer."""
        return min(draws, self.rare_groups) if draws > 1 else self.rare_groups

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """Interval of the mean over draws of values [D, B]; with one draw from groups alone."""
        draws = len(values)
        return interval(over_draws(values), self.units(draws)) if draws else (math.nan, math.nan)


def resample(
    cells: pd.DataFrame, scores: pd.DataFrame, metric: str = "pr_auc", replicates: int = REPLICATES
) -> Resampled:
    """Compute `metric` of one study's cells under resampled groups.

    Groups get exponential weights (the Bayesian bootstrap, Rubin 1981): as a bootstrap that draws
    whole groups, but no resample loses its rare images, however few groups hold them. A group has
    the same weights in all cells, so that contrasts are paired and a test set that all draws
    share is not mistaken for many. With outer folds (`evaluated_on` fold) a draw's value is the
    mean over its folds (Forman and Scholz 2010: scores of different classifiers are not to be
    ranked together), so that each group is test once in every draw.
    """
    if metric not in metrics.METRICS:
        raise StudyError(f"unknown metric '{metric}': known are {', '.join(metrics.METRICS)}")
    where = setting(cells)
    whole, fewest, rare_groups = _by_draw(cells, scores, metric, replicates)
    no_skill = NO_SKILL[metric.removesuffix("_at_threshold")]
    points = pd.Series({key: value[0] for key, value in whole.items()})
    points = points.rename_axis(["arm", "ratio", "draw"]).unstack("draw")
    missing = np.full(1 + replicates, np.nan)
    return Resampled(
        where,
        metric,
        points,
        {
            key: np.stack([whole.get((*key, draw), missing)[1:] for draw in points])
            for key in points.index
        },
        _keys(cells),
        cells["seed"].nunique(),
        {
            "no_skill": cells[no_skill].mean() if isinstance(no_skill, str) else no_skill,
            **dict(zip(("n_rare", "n_groups", "n_rare_groups"), fewest.tolist())),
        },
        rare_groups,
    )


def _by_draw(cells: pd.DataFrame, scores: pd.DataFrame, metric: str, replicates: int):
    """The metric of every draw, and the fewest images and groups that one is scored on.

    Returns (arm, ratio, draw) -> [1 + replicates], as observed and resampled, of the draws that
    have all their folds; the fewest rare images, groups, and groups with rare images;
    the groups with rare images of all draws.
    """
    images = Images(scores[scores["cell"].isin(cells["cell"])])
    weights = group_weights(images.n_groups, replicates)
    folds = cells.groupby("draw")["fold"].nunique()
    seen = np.zeros(images.n_groups, bool)
    values = defaultdict(lambda: defaultdict(list))  # arm, ratio, draw -> fold -> one [B] a seed
    counts = defaultdict(lambda: np.zeros(3, int))  # arm, ratio, draw, seed -> summed over folds
    for row in cells.sort_values(["seed", "fold"]).itertuples():
        labels, score, groups = images.evaluated(row.cell, row.evaluated_on)
        value = metrics.weighted(metric, labels, score, groups, weights, row.threshold)
        if np.isfinite(value[0]):  # else no threshold was chosen
            key = row.arm, row.ratio, row.draw
            values[key][row.fold].append(value)
            rare = groups[labels == 1]
            seen[rare] = True
            counts[*key, row.seed] += len(rare), len(np.unique(groups)), len(np.unique(rare))
    whole = {
        key: np.mean([np.mean(seeds, axis=0) for seeds in by_fold.values()], axis=0)
        for key, by_fold in sorted(values.items())
        if len(by_fold) == folds[key[2]]
    }
    if not whole:
        raise StudyError(f"no draw has a {metric}: no threshold was chosen, or folds are missing")
    fewest = np.min([count for key, count in counts.items() if key[:3] in whole], axis=0)
    return whole, fewest, int(seen.sum())


def _keys(cells: pd.DataFrame) -> dict:
    """(arm, ratio) -> {draw: keys of its cells, in the order of seeds and folds}."""
    keys = {}
    by_draw = cells.sort_values(["seed", "fold"]).groupby(["arm", "ratio", "draw"])["cell"]
    for (arm, ratio, draw), same in by_draw:
        keys.setdefault((arm, ratio), {})[int(draw)] = list(same)
    return keys


def over_draws(values: np.ndarray) -> np.ndarray:
    """The outer bootstrap: from [D, B] to RESAMPLES means (about) over D draws with replacement.

    Each resample of the draws goes with one replicate of the groups, in turn.
    """
    return np.einsum("kdb,db->kb", _draw_shares(*values.shape), values).ravel()


@cache
def _draw_shares(draws: int, replicates: int) -> np.ndarray:
    """Shares [K, D, B] of the draws in K x B resamples."""
    turns = -(-RESAMPLES // replicates)
    rng = np.random.default_rng([1, draws])
    counts = rng.multinomial(draws, np.full(draws, 1 / draws), size=(turns, replicates))
    return counts.transpose(0, 2, 1) / draws


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


def sign_flip(differences) -> float:
    """Two-sided p of the mean of paired differences [D] under random signs.

    All 2^D signs up to 14 draws, beyond it RESAMPLES random ones, the observed among them. The
    smallest p is 2 / 2^D. It assumes draws exchangeable given the data set: draws share
    images, so the test speaks of these test images and not of others.
    """
    differences = tuple(np.asarray(differences, float))
    if len(differences) < 2 or not np.isfinite(differences).all():
        raise StudyError(
            f"a sign-flip test needs 2 finite differences, one a draw; got {differences[:5]}"
        )
    return _sign_flip(differences)


@cache
def _sign_flip(differences: tuple[float, ...]) -> float:
    return permutation_test(
        (differences,),
        lambda signed, axis: signed.mean(axis),
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=True,
        rng=2,
    ).pvalue


def holm(p) -> np.ndarray:
    """Holm's adjusted p values of one family, [M]. NaN (not tested) stays and does not count."""
    p = np.asarray(p, float)
    adjusted, order = np.full(len(p), np.nan), np.argsort(p)
    order = order[~np.isnan(p[order])]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted
