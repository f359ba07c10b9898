"""`probe` with an anomaly score as one more feature.

A detector knows the images it was fitted on, and would call each shot stranger than each of them
for that alone. So common training images are scored by detectors that did not see their group.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import GroupKFold

from fsl_utils import StudyError
from fsl_utils.classifier.detectors import Detector, Layers

FOLDS = 5


@dataclass(frozen=True)
class AnomalyFeature:
    """training [N]: of the training images, the common ones out of fold. detectors: one a fold."""

    training: np.ndarray
    detectors: tuple[Detector, ...]

    def __call__(self, layers: Layers) -> np.ndarray:
        """Anomaly of new images, float64 [N]: the mean over the folds' detectors."""
        return np.mean([detector.score(layers) for detector in self.detectors], axis=0)


def fit(
    detect: Callable[[Layers], Detector], layers: Layers, labels: np.ndarray, groups: np.ndarray
) -> AnomalyFeature:
    """The feature of training images: layers [N, ...], labels [N], groups [N] ('' synthetic).

    detect: one of `detectors`. Raises StudyError where the common images have one group alone.
    """
    common = np.flatnonzero((labels == 0) & (groups != ""))
    count = len(np.unique(groups[common]))
    if count < 2:
        raise StudyError(f"the common training images come from {count} group: 2 are needed")
    held, fitted = np.full(len(labels), -1), []
    folds = GroupKFold(min(FOLDS, count)).split(common, groups=groups[common])
    for fold, (train, test) in enumerate(folds):
        fitted.append(detect([layer[common[train]] for layer in layers]))
        held[common[test]] = fold
    scores = np.array([detector.score(layers) for detector in fitted])
    out_of_fold = scores[held, np.arange(len(labels))]
    training = np.where(held >= 0, out_of_fold, scores.mean(axis=0))
    return AnomalyFeature(training, tuple(fitted))


def beside(features: np.ndarray, anomaly: np.ndarray) -> np.ndarray:
    """Features [N, D] with the anomaly [N] as the last column, float32 [N, D + 1]."""
    return np.column_stack([features, anomaly]).astype(np.float32)
