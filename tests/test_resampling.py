"""Tests and intervals against scipy, closed forms, and simulated studies whose truth is known."""

import itertools

import numpy as np
import pandas as pd
import pytest
import simulate
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference
from scipy.special import expit, logit

from fsl_utils import metrics
from fsl_utils.analysis import contrasts, resampling
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
    """PR-AUC of one arm minus another: [count, draws, 1 + replicates]."""
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


def test_a_verdict_holds_for_further_groups_where_p_alone_does_not():
    """An arm that helps in some groups and harms in others, and on average does nothing."""
    rng = np.random.default_rng(0)
    p, intervals = [], []
    for number in range(60):
        table = simulate.population(1000 + number)
        labels, groups = table["label"].to_numpy(), pd.factorize(table["group"])[0]
        test = np.flatnonzero(table["partition"] == "test")
        weights = resampling.group_weights(groups.max() + 1, 200)
        help_ = rng.normal(0, 0.8, groups.max() + 1)[groups[test]] * (labels[test] - 0.5)
        differences = []
        for _ in range(10):
            real, arm = (simulate.scores_of(table, test, 1.5, rng) for _ in range(2))
            both = (expit(logit(arm) + help_), real)
            values = [
                metrics.weighted("pr_auc", labels[test], score, groups[test], weights)
                for score in both
            ]
            differences.append(values[0] - values[1])
        differences = np.array(differences)
        p.append(resampling.sign_flip(differences[:, 0]))
        units = min(10, len(np.unique(groups[test][labels[test] == 1])))
        intervals.append(resampling.interval(resampling.over_draws(differences[:, 1:]), units))
    low, high = np.transpose(intervals)
    table = pd.DataFrame({"low": low, "high": high, "p_holm": p})
    nominal = 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(p))
    assert np.isin(contrasts.verdict(table), contrasts.SHOWN).mean() <= nominal
    assert (table["p_holm"] < 0.05).mean() > nominal  # of these test images, p is right


# -- Outer folds: each group is test once in every draw


@pytest.fixture(scope="module")
def on_folds():
    arms = {("real", 0.0): 0.0, ("lora", 4.0): 0.6}
    return simulate.study(arms=arms, draws=3, seeds=2, evaluated_on="fold")


def test_a_draw_is_the_mean_over_its_folds(on_folds):
    cells, scores = on_folds
    study = resampling.resample(cells, scores)
    expected = cells.groupby(["arm", "ratio", "draw"])["pr_auc"].mean().unstack()
    pd.testing.assert_frame_equal(study.points, expected, check_names=False, check_dtype=False)
    table = simulate.population(4)  # of elpv: all of its groups are scored
    assert study.scored["n_groups"] == table["group"].nunique()
    assert study.scored["n_rare"] == table["label"].sum()
    assert len(study.cells["lora", 4.0][0]) == 5 * 2


def test_a_draw_without_all_of_its_folds_is_left_out(on_folds):
    cells, scores = on_folds
    lost = (cells["arm"] == "lora") & (cells["draw"] == 1) & (cells["fold"] == "2")
    study = resampling.resample(cells[~lost], scores)
    assert np.isnan(study.points.loc[("lora", 4.0), 1])
    assert study.points.notna().sum().sum() == 5


def test_groups_weigh_the_same_in_all_cells_under_folds(on_folds):
    """Were they weighed apart in each arm, an arm against its double would have an interval."""
    cells, scores = on_folds
    twins = cells[cells["arm"] == "real"].assign(arm="twin")
    names = dict(zip(twins["cell"], twins["cell"].map(simulate.hexed)))
    doubled = scores[scores["cell"].isin(names)]
    study = resampling.resample(
        pd.concat([cells, twins.assign(cell=twins["cell"].map(names))]),
        pd.concat([scores, doubled.assign(cell=doubled["cell"].map(names))]),
    )
    assert (study.replicates["twin", 0.0] == study.replicates["real", 0.0]).all()


# -- What stands in every table


@pytest.mark.parametrize("metric", ["pr_auc", "auroc", "f1", "pr_auc_balanced"])
def test_no_skill_is_what_a_constant_score_has(few, metric):
    cells, scores = few
    study = resampling.resample(cells, scores, metric)
    constant = resampling.resample(cells, scores.assign(score=0.7), metric)
    assert study.scored["no_skill"] == pytest.approx(constant.points.to_numpy().mean())


def test_numbers_scored_are_those_of_the_test_images(few):
    cells, scores = few
    _, columns = resampling.resample(cells, scores).shared(("real", 0.0))
    test = scores[scores["partition"] == "test"].drop_duplicates("image")
    rare = test[test["label"] == 1]
    assert columns["n_rare"] == len(rare) and columns["n_groups"] == test["group"].nunique()
    assert columns["n_rare_groups"] == rare["group"].nunique()


def test_a_threshold_chosen_on_what_it_is_scored_on_is_called_in_sample(few):
    on_validation = simulate.study(arms=simulate.FEW, draws=2, evaluated_on="validation")
    assert "in-sample" in resampling.resample(*on_validation, "f1_at_threshold").cautions()
    assert "in-sample" not in resampling.resample(*on_validation, "f1").cautions()
    assert "in-sample" not in resampling.resample(*few, "f1_at_threshold").cautions()


def test_few_draws_have_intervals_finer_than_their_extremes():
    values = np.random.default_rng(0).normal(0, 1, (5, 1000))
    means = resampling.over_draws(values)
    assert len(means) == resampling.RESAMPLES
    low, high = resampling.interval(means, 5)
    assert means.min() < low < high < means.max()
