"""`probe`: logistic regression on frozen features, made robust.

Features are the pooled blocks 10 and 14 of EfficientNet-Lite0 beside its head. A channel that is
nearly constant among the draw's real images would be blown up by its standard deviation, so that
has a floor, and z is clipped. C is chosen by group cross-validation on real training images.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from fsl_utils import StudyError
from fsl_utils.classifier import features
from fsl_utils.classifier.training import TrainingSet, balance, check_finite

SETTINGS: dict[str, Any] = {
    "layers": [10, 14, "head"],
    "floor": 0.1,  # of the standard deviation, times its median over channels
    "clip": 3.0,
    "folds": 5,
    "C": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0],  # against a mean loss: weights sum to one
}


def view(image_size: int) -> features.View:
    """The features that the probe takes of images of `image_size` pixels."""
    return features.View(
        layers=tuple(SETTINGS["layers"]), input_size=features.input_size(image_size)
    )


class Scaler(NamedTuple):
    """Standardisation by real images with a floor and clipping: mean [D], scale [D]."""

    mean: np.ndarray
    scale: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Features [N, D] -> z, float64 [N, D] in -clip..clip."""
        clip = SETTINGS["clip"]
        return np.clip((np.asarray(x, float) - self.mean) / self.scale, -clip, clip)


def scaler(reference: np.ndarray) -> Scaler:
    """The scaler of features [N, D]. Raises StudyError where no channel varies."""
    reference = np.asarray(reference, float)
    deviation = reference.std(axis=0)
    # The median over channels that vary at all: half of them may be dead.
    alive = deviation[deviation > 1e-6 * max(deviation.max(), 1e-12)]
    if not deviation.max() > 1e-12:
        raise StudyError(
            f"all {reference.shape[1]} features are the same in all {len(reference)} real training "
            "images: look at the images"
        )
    return Scaler(
        reference.mean(axis=0), np.maximum(deviation, SETTINGS["floor"] * np.median(alive))
    )


def regression(z, labels, weights, C: float) -> LogisticRegression:
    """L2 logistic regression: |w|^2 / 2 + C times the weighted loss."""
    return LogisticRegression(C=C, max_iter=3000).fit(z, labels, sample_weight=weights)


_chosen: dict[str, float] = {}  # all arms of a draw share its real images, and so their C


def choose_C(z: np.ndarray, labels: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> float:
    """The C of SETTINGS with the smallest held-out loss, both classes weighing the same.

    z [N, D] of real images alone. Folds hold whole groups: five, or as many as a class has groups.
    Chosen once for the same images. Raises StudyError where a class has one group alone, so that
    nothing could be held out.
    """
    asked = hashlib.sha256()
    for each in (z, labels, np.asarray(groups, str), weights):
        asked.update(np.ascontiguousarray(each).tobytes())
    key = asked.hexdigest()
    if key not in _chosen:
        _chosen[key] = _choose_C(z, labels, groups, weights)
    return _chosen[key]


def _choose_C(z: np.ndarray, labels: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> float:
    counts = {word: len(np.unique(groups[labels == c])) for c, word in ((1, "rare"), (0, "common"))}
    for word, count in counts.items():
        if count < 2:
            raise StudyError(
                f"the {word} training images come from {count} group: cross-validation needs 2; "
                "take more shots"
            )
    folds = StratifiedGroupKFold(min(SETTINGS["folds"], *counts.values()))
    loss = np.zeros(len(SETTINGS["C"]))
    share, sign = balance(labels, weights), 2 * labels - 1
    for train, held in folds.split(z, labels, groups):
        if np.unique(labels[train]).size < 2:
            continue
        inner = balance(labels[train], weights[train])
        for i, C in enumerate(SETTINGS["C"]):
            logit = regression(z[train], labels[train], inner, C).decision_function(z[held])
            loss[i] += share[held] @ np.logaddexp(0, -sign[held] * logit)
    return SETTINGS["C"][int(loss.argmin())]


@dataclass(frozen=True)
class Probe:
    """A fitted probe: its scaler, C, and the weights [D] and bias of z."""

    scaler: Scaler
    C: float
    weight: np.ndarray
    bias: float

    def logit(self, x: np.ndarray) -> np.ndarray:
        """Log odds of the rare class of features [N, D], float64 [N]."""
        check_finite(x, "features to score")
        return self.scaler(x) @ self.weight + self.bias

    def score(self, x: np.ndarray) -> np.ndarray:
        """Probability of the rare class of features [N, D], float64 [N]."""
        return expit(self.logit(x))


def fit(training: TrainingSet, C: float | None = None) -> Probe:
    """Fit on features [N, D]. Without `C` it is chosen on the real images alone.

    Of a class without any real image the made ones stand in, each a group of its own.
    """
    real, labels = training.real, np.asarray(training.labels)
    scale = scaler(training.inputs[real])
    z = scale(training.inputs)
    if C is None:
        lacking = [label for label in (0, 1) if not (real & (labels == label)).any()]
        rows = np.flatnonzero(real | np.isin(labels, lacking))
        own = np.array([f"made {row}" for row in rows])
        groups = np.where(real[rows], np.asarray(training.groups)[rows], own)
        C = choose_C(z[rows], labels[rows], groups, np.ones(len(rows)))
    model = regression(z, labels, training.balanced, C)
    return Probe(scale, C, model.coef_[0], float(model.intercept_[0]))


def refit_near(first: Probe, training: TrainingSet) -> Probe:
    """A second fit, on the real images alone, that stays near the first: w minimises
    |w - w1|^2 / 2 + C times the weighted loss. scikit-learn knows no such start, so scipy
    minimises.
    """
    real, labels = training.real, np.asarray(training.labels)
    z, sign = first.scaler(training.inputs[real]), 2.0 * labels[real] - 1
    share = first.C * balance(labels[real], training.share[real])

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin, away = sign * (z @ w[:-1] + w[-1]), w[:-1] - first.weight
        slope = -share * sign * expit(-margin)
        value = share @ np.logaddexp(0, -margin) + away @ away / 2
        return value, np.append(z.T @ slope + away, slope.sum())

    start = np.append(first.weight, first.bias)
    w = minimize(objective, start, jac=True, method="L-BFGS-B").x
    return replace(first, weight=w[:-1], bias=float(w[-1]))
