"""What a classifier is worth on real images: the metric columns of one cell."""

import math
import warnings

import numpy as np
from scipy import sparse
from sklearn.metrics import average_precision_score, roc_auc_score

from fsl_utils import StudyError

METRICS = [
    "pr_auc",
    "pr_auc_balanced",
    "auroc",
    "f1",
    "recall",
    "precision",
    "f1_at_threshold",
    "recall_at_threshold",
    "precision_at_threshold",
]


def score(labels, scores, threshold: float | None) -> dict:
    """Metrics of one cell on real images.

    labels: [N], 1 rare, 0 common. scores: [N], probability of rare in 0..1. threshold: as chosen by
    `choose_threshold` on validation images, or None, which leaves its four columns NaN.
    An image is called rare where its score is at least the threshold; precision is 0 where none is.
    pr_auc is average precision (no interpolation); pr_auc_balanced the same with the common images
    weighted so that half of the total weight is rare. Warns where all scores are equal.
    Raises StudyError for an absent class, scores that are no probabilities, or arrays that do not
    match.
    """
    labels, scores = checked(labels, scores, "the test images")
    if threshold is not None and not np.isfinite(threshold):
        raise StudyError(
            f"threshold is {threshold}: give a number, or None where no threshold was chosen"
        )
    if scores.min() == scores.max():
        warnings.warn(
            f"all {len(scores)} scores are {scores[0]:.3g}: the classifier tells nothing apart",
            stacklevel=2,
        )
    n, rare = len(labels), int(labels.sum())
    balance = np.where(labels == 1, 1.0, rare / (n - rare))
    chosen = (np.nan, np.nan, np.nan) if threshold is None else at(labels, scores, threshold)
    names = ("f1", "recall", "precision")
    return {
        "n_test": n,
        "n_test_rare": rare,
        "prevalence": rare / n,
        "pr_auc": _average_precision(labels, scores),
        "pr_auc_balanced": _average_precision(labels, scores, sample_weight=balance),
        "auroc": float(roc_auc_score(labels, scores)),
        **dict(zip(names, at(labels, scores, 0.5))),
        "threshold": np.nan if threshold is None else float(threshold),
        **dict(zip((f"{name}_at_threshold" for name in names), chosen)),
        "f1_all_positive": 2 * rare / (n + rare),
    }


def _average_precision(labels, scores, **weights) -> float:
    # A sum of shares can end above 1 by rounding, which readers of tables refuse.
    return min(1.0, float(average_precision_score(labels, scores, **weights)))


def at(labels: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float, float]:
    """F1, recall and precision where an image with a score of at least `threshold` is called
    rare.
    """
    called = scores >= threshold
    hits, rare = float((called & (labels == 1)).sum()), float(labels.sum())
    return 2 * hits / (rare + called.sum()), hits / rare, hits / max(1, called.sum())


def choose_threshold(labels, scores) -> float:
    """The largest threshold that maximises F1. labels [N] 0/1, scores [N] in 0..1, of validation
    images.

    It is one of the scores. Raises StudyError as `score` does.
    """
    labels, scores = checked(labels, scores, "the validation images that choose the threshold")
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    hits, called = np.cumsum(labels[order]), np.arange(1, len(labels) + 1)
    last = np.append(scores[1:] < scores[:-1], True)  # images with equal scores are called together
    f1 = 2 * hits[last] / (labels.sum() + called[last])
    return float(
        scores[last][f1.argmax()]
    )  # argmax takes the first of equals: the largest threshold


def checked(labels, scores, which: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] as int and scores [N] as float64, or a StudyError that names `which` images."""
    labels, scores = np.asarray(labels), np.asarray(scores, float)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise StudyError(
            f"{which}: labels are {labels.shape} and scores {scores.shape}: "
            "one of each for every image"
        )
    if not np.isin(labels, (0, 1)).all():
        raise StudyError(
            f"{which}: labels are {sorted(set(labels.tolist()))[:5]}: "
            "only 0 (common) and 1 (rare) are known"
        )
    for label, word in ((1, "rare"), (0, "common")):
        if not (labels == label).any():
            raise StudyError(
                f"{which}: none of {len(labels)} is {word}, so no metric is defined: "
                "take another draw or fewer shots"
            )
    if np.isnan(scores).any():
        raise StudyError(
            f"{which}: {np.isnan(scores).sum()} of {len(scores)} scores are NaN: "
            "the classifier diverged, lower its learning rate"
        )
    if scores.min() < 0 or scores.max() > 1:
        raise StudyError(
            f"{which}: scores run from {scores.min():.3g} to {scores.max():.3g}: "
            "give probabilities in 0..1, not logits"
        )
    return labels.astype(int), scores


def weighted(
    metric: str, labels, scores, groups, weights, threshold: float = math.nan
) -> np.ndarray:
    """A metric under many sets of weights at once: [B].

    labels [N] 0/1, scores [N], groups [N] in 0..G-1, weights [G, B]: column b gives every image of
    group g the weight weights[g, b], as scikit-learn's sample_weight does. For weights by image let
    groups be 0..N-1. NaN where a class has no weight, and for the metrics at a threshold that is
    NaN.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, float)
    if metric in ("pr_auc", "pr_auc_balanced", "auroc"):
        rare, hits, false, tied, rest = steps(labels, scores, groups, weights)
        n_rare, n_common = hits[-1], false[-1] + rest
        with np.errstate(invalid="ignore", divide="ignore"):
            if metric == "auroc":
                return 1 - (rare * (false - tied / 2)).sum(0) / (n_rare * n_common)
            if metric == "pr_auc_balanced":
                false *= n_rare / n_common
            false += hits  # now all that is called rare
            return (rare * hits / np.maximum(false, np.finfo(float).tiny, out=false)).sum(
                0
            ) / n_rare
    cut = threshold if metric.endswith("_at_threshold") else 0.5
    if np.isnan(cut):
        return np.full(weights.shape[1], np.nan)
    called = scores >= cut
    hits, misses, false = (
        _sums(part, groups, weights)
        for part in ((labels == 1) & called, (labels == 1) & ~called, (labels == 0) & called)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        match metric.removesuffix("_at_threshold"):
            case "recall":
                return hits / (hits + misses)
            case "precision":
                return np.divide(
                    hits, hits + false, out=np.zeros_like(hits), where=hits + false > 0
                )
            case "f1":
                return 2 * hits / (2 * hits + misses + false)
    raise StudyError(f"unknown metric '{metric}': known are {', '.join(METRICS)}")


def group_weights(groups: int, replicates: int) -> np.ndarray:
    """Weights [groups, 1 + replicates] of the Bayesian bootstrap; those of column 0 are all one."""
    random = np.random.default_rng(0).exponential(size=(groups, replicates))
    return np.hstack([np.ones((groups, 1)), random])


def _sums(part: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Total weight [B] of the images marked in `part` [N]."""
    return np.bincount(groups[part], minlength=len(weights)) @ weights


def steps(labels, scores, groups, weights) -> tuple[np.ndarray, ...]:
    """The steps of the ranking: one a score that a rare image has, from high to low (K of them).

    Between two steps no metric changes, so common images need no step of their own. Weights, of the
    rare images of each step [K, B]; of the rare and of the common images down to and with it
    [K, B] each; of the common images tied with it [K, B]; of the common images below the last [B].
    """
    steps, at = np.unique(-scores[labels == 1], return_inverse=True)
    common = -scores[labels == 0]
    step = np.searchsorted(steps, common)
    tied = np.append(steps, np.inf)[step] == common

    def sums(step, groups):
        counts = sparse.csr_array(
            (np.ones(len(step)), (step, groups)), shape=(len(steps) + 1, len(weights))
        )
        return counts @ weights

    rare, false = sums(at, groups[labels == 1])[:-1], sums(step, groups[labels == 0])
    return (
        rare,
        _running(rare.copy()),
        _running(false[:-1]),
        sums(step[tied], groups[labels == 0][tied])[:-1],
        false[-1],
    )


def _running(sums: np.ndarray) -> np.ndarray:
    """Running sums down the rows, in place; cumsum is ten times slower where rows are wide."""
    if sums.shape[1] == 1:
        return np.cumsum(sums, axis=0, out=sums)
    for k in range(1, len(sums)):
        sums[k] += sums[k - 1]
    return sums
