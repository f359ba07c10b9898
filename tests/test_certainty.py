"""Intervals of a decision hold the truth of simulated folders, whose groups are few and unequal."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fsl_utils.decision import certainty, folds
from fsl_utils.decision.evidence import Evidence

WIDTH = 12


def folder(rng, rare, strength):
    """Features [N, WIDTH], labels and groups: each group has its own shift and difficulty."""
    groups, common = len(rare), rng.integers(2, 24, len(rare))
    group = np.concatenate([np.repeat(np.arange(groups), n) for n in (rare, common)])
    labels = np.repeat([1, 0], [rare.sum(), common.sum()])
    x = rng.normal(size=(len(group), WIDTH)) + 0.6 * rng.normal(size=(groups, WIDTH))[group]
    apart = np.clip(strength + 0.5 * rng.normal(size=groups), 0, None)[group]
    x[:, :2] += (labels * apart)[:, None] * [1, 0.3]
    return x, labels, group


def scores(x, labels, new):
    """Of a shrunk linear discriminant, in closed form."""
    rare, common = (x[labels == label] for label in (1, 0))
    within = np.cov(np.concatenate([rare - rare.mean(0), common - common.mean(0)]).T)
    weight = np.linalg.solve(within + 0.3 * np.eye(WIDTH), rare.mean(0) - common.mean(0))
    return 1 / (1 + np.exp(-new @ weight / 4))


def unequal(rng, groups):
    while True:
        rare = np.round(rng.lognormal(0.6, 1.5, groups)).astype(int).clip(0, 60)
        if (rare > 0).sum() >= 5:
            return rare


def even(rng, groups):
    return np.full(groups, 3)


@pytest.mark.parametrize("groups, sizes, strength", [(12, unequal, 2.0), (12, even, 2.0)])
def test_an_interval_holds_the_worth_on_new_groups(groups, sizes, strength):
    rng, held, runs = np.random.default_rng(1), [], 150
    for run in range(runs):
        x, labels, group = folder(rng, sizes(rng, groups), strength)
        fold = folds.assign(labels, group, 2, seed=run)
        outer = np.empty(fold.shape)
        for repeat, held_out in enumerate(fold):
            for k in np.unique(held_out):
                out = held_out == k
                outer[repeat, out] = scores(x[~out], labels[~out], x[out])
        found = Evidence(labels, group, fold, {"way": outer}, {}, {})
        interval = found.estimate(found.levels["way"])
        new, truth, _ = folder(rng, sizes(rng, 400), strength)
        # As frequent as in the folder: only the groups differ.
        (common, rare), (fewer, more) = np.bincount(truth), np.bincount(labels)
        share = np.where(truth == 1, more / rare, fewer / common)
        worth = average_precision_score(truth, scores(x, labels, new), sample_weight=share)
        held.append(interval["low"] <= worth <= interval["high"])
    assert 0.92 <= np.mean(held) <= 0.995


def test_unequal_groups_count_for_fewer():
    labels, groups = np.ones(60, int), np.repeat(np.arange(6), 10)
    assert certainty.effective(labels, groups) == pytest.approx(6)
    one_large = np.repeat(np.arange(6), [55, 1, 1, 1, 1, 1])
    assert certainty.effective(labels, one_large) == pytest.approx(60**2 / (55**2 + 5))
    labels[groups > 1] = 0
    assert certainty.effective(labels, groups) == pytest.approx(2)


def test_fewer_groups_and_larger_test_parts_widen():
    replicates = np.random.default_rng(0).normal(size=4000)
    widths = [np.ptp(certainty.interval(replicates, n, 5)) for n in (40, 10, 4, 1.02)]
    assert widths == sorted(widths) and np.isfinite(widths).all()
    assert np.ptp(certainty.interval(replicates, 1e9, 10**9)) == pytest.approx(2 * 1.96, rel=0.05)
    assert certainty.inflation(20, 4) > certainty.inflation(20, 5)
