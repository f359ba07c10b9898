"""Metrics against scikit-learn, brute force and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from fsl_utils import StudyError, metrics

# Coarse scores, so that ties are common, and at least one image of each class.
studies = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), max_size=40).map(
    lambda rows: (
        np.array([1, 0] + [a for a, _ in rows]),
        np.array([5, 3] + [b for _, b in rows]) / 8,
    )
)


def f1(labels, scores, threshold):
    return f1_score(labels, scores >= threshold, zero_division=0)


@settings(deadline=None, max_examples=60)
@given(studies, st.sampled_from([0.0, 0.3, 0.5, 0.625, 1.0]))
@pytest.mark.filterwarnings("ignore:all .* scores are")
def test_score_agrees_with_scikit_learn(study, threshold):
    labels, scores = study
    got = metrics.score(labels, scores, threshold)
    assert got["pr_auc"] == average_precision_score(labels, scores)
    assert got["auroc"] == roc_auc_score(labels, scores)
    for column, cut in (("", 0.5), ("_at_threshold", threshold)):
        assert got[f"f1{column}"] == pytest.approx(f1(labels, scores, cut))
        assert got[f"recall{column}"] == pytest.approx(recall_score(labels, scores >= cut))
        assert got[f"precision{column}"] == pytest.approx(
            precision_score(labels, scores >= cut, zero_division=0)
        )
    assert got["f1_all_positive"] == pytest.approx(f1(labels, scores, -1))
    assert (
        got["prevalence"] == labels.mean()
        and got["n_test"] == len(labels)
        and got["n_test_rare"] == labels.sum()
    )


def test_a_perfect_classifier_has_no_more_than_one():
    rounded_up = 0
    for n in range(2, 120):
        labels = np.arange(n) % 2
        scores = labels / 2 + np.arange(n) / n / 4
        rounded_up += average_precision_score(labels, scores) > 1
        measured = metrics.score(labels, scores, None)
        assert measured["pr_auc"] <= 1 and measured["pr_auc"] == pytest.approx(1)
        assert measured["pr_auc_balanced"] <= 1
    assert rounded_up  # scikit-learn's own sum does end above 1


def test_balanced_pr_auc_is_pr_auc_of_a_set_with_equal_classes():
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [10, 40])
    scores = rng.random(50).round(1)
    repeated = np.concatenate(
        [np.repeat(np.arange(10), 4), np.arange(10, 50)]
    )  # 40 rare, 40 common
    expected = average_precision_score(labels[repeated], scores[repeated])
    assert metrics.score(labels, scores, None)["pr_auc_balanced"] == pytest.approx(expected)


def test_without_a_threshold_its_columns_are_nan_and_the_others_are_not():
    got = metrics.score([0, 1, 1], [0.1, 0.7, 0.4], None)
    unset = {name for name, value in got.items() if np.isnan(value)}
    assert unset == {
        "threshold",
        "f1_at_threshold",
        "recall_at_threshold",
        "precision_at_threshold",
    }


@settings(deadline=None, max_examples=60)
@given(studies)
def test_chosen_threshold_is_the_largest_that_maximises_f1(study):
    labels, scores = study
    chosen = metrics.choose_threshold(labels, scores)
    # F1 changes at a score alone, so the scores and what lies just above them are all there is to
    # try.
    tried = np.concatenate([np.unique(scores), np.nextafter(np.unique(scores), 2)])
    reached = np.array([f1(labels, scores, t) for t in tried])
    best = f1(labels, scores, chosen)
    assert best == pytest.approx(reached.max())
    assert (reached[tried > chosen] < best - 1e-12).all()


def test_constant_scores_give_prevalence_and_a_warning():
    with pytest.warns(UserWarning, match="all 4 scores are 0.5"):
        got = metrics.score([1, 0, 0, 0], [0.5] * 4, None)
    assert got["pr_auc"] == 0.25 and got["auroc"] == 0.5 and got["pr_auc_balanced"] == 0.5


@pytest.mark.parametrize(
    "labels, scores, word",
    [
        ([0, 0], [0.1, 0.2], "rare"),
        ([1, 1], [0.1, 0.2], "common"),
        ([], [], "rare"),
        ([0, 1], [0.1, np.nan], "NaN"),
        ([0, 1], [0.1, np.inf], "probabilities"),
        ([0, 1], [-3.0, 0.2], "probabilities"),
        ([0, 2], [0.1, 0.2], "labels"),
        ([0, 1], [0.1], "labels"),
        ([0, np.nan], [0.1, 0.2], "labels"),
    ],
)
def test_bad_input_is_refused_in_one_line(labels, scores, word):
    for call in (
        lambda: metrics.score(labels, scores, None),
        lambda: metrics.choose_threshold(labels, scores),
    ):
        with pytest.raises(StudyError, match=word) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("threshold", [np.nan, np.inf])
def test_a_threshold_must_be_a_number(threshold):
    with pytest.raises(StudyError, match="threshold"):
        metrics.score([0, 1], [0.1, 0.2], threshold)


# -- Weighted by group, as resampling needs them
# ------------------------------------------------------------

images = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 4)), max_size=40)


@settings(deadline=None, max_examples=40)
@given(images, st.integers(0, 2**32 - 1))
def test_weighted_metrics_agree_with_scikit_learn(rows, seed):
    rows = np.array([(1, 5, 0), (0, 3, 1), *rows])  # coarse scores, so that there are ties
    labels, scores, groups = rows[:, 0], rows[:, 1] / 6, rows[:, 2]
    weights = (
        np.random.default_rng(seed).integers(0, 4, size=(5, 6)) / 2.0
    )  # with zeros, as a bootstrap gives
    weights[:2] += 0.5  # each class keeps some weight
    got = {m: metrics.weighted(m, labels, scores, groups, weights, 0.5) for m in metrics.METRICS}
    for b in range(6):
        w = weights[groups, b]
        balanced = w * np.where(labels == 1, 1, w[labels == 1].sum() / w[labels == 0].sum())
        expected = {
            "pr_auc": average_precision_score(labels, scores, sample_weight=w),
            "pr_auc_balanced": average_precision_score(labels, scores, sample_weight=balanced),
            "auroc": roc_auc_score(labels, scores, sample_weight=w),
        }
        for name, function in (
            ("f1", f1_score),
            ("recall", recall_score),
            ("precision", precision_score),
        ):
            expected[name] = expected[f"{name}_at_threshold"] = function(
                labels, scores >= 0.5, sample_weight=w, zero_division=0
            )
        for name, value in expected.items():
            assert got[name][b] == pytest.approx(value, abs=1e-9), name


def test_a_group_weight_of_two_is_the_group_twice():
    rng = np.random.default_rng(0)
    labels, scores, groups = rng.integers(0, 2, 60), rng.random(60), rng.integers(0, 5, 60)
    weights = np.ones((5, 1))
    weights[3] = 2
    twice = np.concatenate([np.arange(60), np.flatnonzero(groups == 3)])
    for metric in metrics.METRICS:
        got = metrics.weighted(metric, labels, scores, groups, weights, 0.3)
        assert got == pytest.approx(
            metrics.weighted(
                metric, labels[twice], scores[twice], groups[twice], np.ones((5, 1)), 0.3
            )
        )
