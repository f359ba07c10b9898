"""Tests and intervals against scipy, closed forms, and simulated studies whose truth is known."""

import itertools

import numpy as np
import pandas as pd
import pytest
import simulate
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from fsl_utils import metrics
from fsl_utils.analysis import resampling
from fsl_utils.data import partitions


@pytest.mark.parametrize("n", [2, 7, 12])
def test_sign_flip_counts_all_signs(n):
    differences = np.random.default_rng(n).normal(0.4, 1, n)
    means = [np.mean(differences * signs) for signs in itertools.product((1, -1), repeat=n)]
    extreme = np.abs(means) >= abs(differences.mean()) - 1e-12
    assert resampling.sign_flip(differences) == pytest.approx(extreme.mean())


def test_sign_flip_closed_forms():
    assert (
        resampling.sign_flip(np.full(10, 0.1)) == 2 / 2**10
    )  # all equal and of one sign: the smallest p there is
    assert resampling.sign_flip(np.zeros(10)) == 1
    assert resampling.sign_flip([0.1, -0.1]) == 1


def test_sampled_sign_flip_is_never_zero():
    assert resampling.sign_flip(np.full(40, 0.1)) == pytest.approx(2 / 20_001)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_of_bonferroni(p):
    got = resampling.holm(p)
    for level in (0.01, 0.05, 0.3):
        # Holm (1979): go up the sorted p while p <= level / (hypotheses left), reject those passed.
        rejected = set()
        for left, i in zip(range(len(p), 0, -1), np.argsort(p, kind="stable")):
            if p[i] * left > level:
                break
            rejected.add(int(i))
        assert {i for i in range(len(p)) if got[i] <= level} == rejected


def test_holm_leaves_out_what_was_not_tested():
    got = resampling.holm([0.01, np.nan, 0.04])
    assert got[[0, 2]] == pytest.approx([0.02, 0.04]) and np.isnan(got[1])


def test_expanded_interval_is_students_for_normal_means():
    # The bootstrap of a mean of n values is narrower by sqrt((n - 1) / n), and normal for n = 12.
    sample = np.random.default_rng(1).normal(0, 1, 12)
    low, high = resampling.interval(
        resampling.over_draws(np.repeat(sample[:, None], 40_000, 1)), 12
    )
    expected = reference.t.interval(0.95, 11, loc=sample.mean(), scale=reference.sem(sample))
    assert (high - low) == pytest.approx(expected[1] - expected[0], rel=0.06)


# -- Simulated studies: the same draws share images, groups are of unequal size


def simulated_differences(
    effect: float, evaluated_on: str, count: int, draws: int = 10, replicates: int = 0
):
    """PR-AUC of one arm minus another: [count, draws, 1 + replicates], and the true mean over all draws."""
    rng = np.random.default_rng(5)
    table = simulate.population(1)
    labels, groups = table["label"].to_numpy(), pd.factorize(table["group"])[0]
    test = np.flatnonzero(table["partition"] == "test")
    made = [partitions.draw(table, number, 20) for number in range(120)]
    weights = np.hstack(
        [np.ones((groups.max() + 1, 1)), rng.exponential(size=(groups.max() + 1, replicates))]
    )
    every = []
    for _ in range(8):  # eight data sets: other hidden qualities of the same images
        strength = simulate.strengths(
            {("arm", 4.0): effect, ("real", 0.0): 0.0}, made, len(table), rng
        )
        for _ in range(count // 8):
            chosen = rng.choice(len(made), draws, replace=False)
            values = []
            for d in chosen:
                rows = test if evaluated_on == "test" else made[d].validation
                arm, real = (
                    metrics.weighted(
                        "pr_auc",
                        labels[rows],
                        simulate.scores_of(table, rows, strength[key][d], rng),
                        groups[rows],
                        weights,
                    )
                    for key in strength
                )
                values.append(arm - real)
            every.append(values)
    return np.array(every)


@pytest.mark.parametrize("evaluated_on", ["test", "validation"])
def test_false_positives_are_at_most_nominal_and_intervals_cover(evaluated_on):
    differences = simulated_differences(0.0, evaluated_on, count=200, replicates=100)
    p = np.array([resampling.sign_flip(one[:, 0]) for one in differences])
    error = 3 * np.sqrt(0.05 * 0.95 / len(p))
    assert 0 < (p <= 0.05).mean() <= 0.05 + error
    bounds = np.array(
        [resampling.interval(resampling.over_draws(one[:, 1:]), len(one)) for one in differences]
    )
    assert ((bounds[:, 0] <= 0) & (bounds[:, 1] >= 0)).mean() >= 0.95 - error
    # And not by being endless: Student's interval with the groups' spread counted twice at most.
    widest = 2 * np.sqrt(2) * reference.t.ppf(0.975, 9) * differences[:, :, 0].std() / np.sqrt(10)
    assert np.median(bounds[:, 1] - bounds[:, 0]) < widest


def test_power_is_that_of_students_t():
    differences = simulated_differences(0.45, "test", count=160)[:, :, 0]
    p = np.array([resampling.sign_flip(one) for one in differences])
    mean, spread = differences.mean(), differences.std(axis=1, ddof=1).mean()
    shift, edge = mean / spread * np.sqrt(10), reference.t.ppf(0.975, 9)
    promised = reference.nct.sf(edge, 9, shift) + reference.nct.cdf(-edge, 9, shift)
    assert 0.3 < promised < 0.99  # the case says something
    assert (p <= 0.05).mean() == pytest.approx(promised, abs=0.12)
