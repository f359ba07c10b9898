"""What a classifier is worth on real images: the metric columns of one cell."""

import warnings

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from . import StudyError


def score(labels, scores, threshold: float | None) -> dict:
    """Metrics of one cell on real images.

    labels: [N], 1 rare, 0 common. scores: [N], probability of rare in 0..1. threshold: as chosen by
    `choose_threshold` on validation images, or None, which leaves its four columns NaN.
    An image is called rare where its score is at least the threshold; precision is 0 where none is.
    pr_auc is average precision (no interpolation); pr_auc_balanced the same with the common images
    weighted so that half of the total weight is rare. Warns where all scores are equal.
    Raises StudyError for an absent class, scores that are no probabilities, or arrays that do not match.
    """
    labels, scores = checked(labels, scores, "the test images")
    if threshold is not None and not np.isfinite(threshold):
        raise StudyError(f"threshold is {threshold}: give a number, or None where no threshold was chosen")
    if scores.min() == scores.max():
        warnings.warn(f"all {len(scores)} scores are {scores[0]:.3g}: the classifier tells nothing apart", stacklevel=2)
    n, rare = len(labels), int(labels.sum())
    balance = np.where(labels == 1, 1.0, rare / (n - rare))
    chosen = (np.nan, np.nan, np.nan) if threshold is None else at(labels, scores, threshold)
    names = ("f1", "recall", "precision")
    return {
        "n_test": n, "n_test_rare": rare, "prevalence": rare / n,
        "pr_auc": float(average_precision_score(labels, scores)),
        "pr_auc_balanced": float(average_precision_score(labels, scores, sample_weight=balance)),
        "auroc": float(roc_auc_score(labels, scores)),
        **dict(zip(names, at(labels, scores, 0.5))),
        "threshold": np.nan if threshold is None else float(threshold),
        **dict(zip((f"{name}_at_threshold" for name in names), chosen)),
        "f1_all_positive": 2 * rare / (n + rare),
    }


def at(labels: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float, float]:
    """F1, recall and precision where an image with a score of at least `threshold` is called rare."""
    called = scores >= threshold
    hits, rare = float((called & (labels == 1)).sum()), float(labels.sum())
    return 2 * hits / (rare + called.sum()), hits / rare, hits / max(1, called.sum())


def choose_threshold(labels, scores) -> float:
    """The largest threshold that maximises F1. labels [N] 0/1, scores [N] in 0..1, of validation images.

    It is one of the scores. Raises StudyError as `score` does.
    """
    labels, scores = checked(labels, scores, "the validation images that choose the threshold")
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    hits, called = np.cumsum(labels[order]), np.arange(1, len(labels) + 1)
    last = np.append(scores[1:] < scores[:-1], True)  # images with equal scores are called together
    f1 = 2 * hits[last] / (labels.sum() + called[last])
    return float(scores[last][f1.argmax()])  # argmax takes the first of equals: the largest threshold


def checked(labels, scores, which: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] as int and scores [N] as float64, or a StudyError that names `which` images."""
    labels, scores = np.asarray(labels), np.asarray(scores, float)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise StudyError(f"{which}: labels are {labels.shape} and scores {scores.shape}: one of each for every image")
    if not np.isin(labels, (0, 1)).all():
        raise StudyError(f"{which}: labels are {sorted(set(labels.tolist()))[:5]}: only 0 (common) and 1 (rare) are known")
    for label, word in ((1, "rare"), (0, "common")):
        if not (labels == label).any():
            raise StudyError(f"{which}: none of {len(labels)} is {word}, so no metric is defined: take another draw or fewer shots")
    if np.isnan(scores).any():
        raise StudyError(f"{which}: {np.isnan(scores).sum()} of {len(scores)} scores are NaN: the classifier diverged, lower its learning rate")
    if scores.min() < 0 or scores.max() > 1:
        raise StudyError(f"{which}: scores run from {scores.min():.3g} to {scores.max():.3g}: give probabilities in 0..1, not logits")
    return labels.astype(int), scores
