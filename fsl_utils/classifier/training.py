"""A training set as every classifier takes it, checked once."""

from dataclasses import dataclass

import numpy as np

from fsl_utils import StudyError


@dataclass(frozen=True)
class TrainingSet:
    """One row an image. Raises StudyError for what no classifier can be fitted on.

    inputs: features [N, D] or maps [N, ...]. labels: 1 rare, 0 common. groups: names, '' for a
    synthetic image, which sets no scale and is never held out. weights: relative within a class
    (all 1 where None); both classes weigh the same whatever they are.
    """

    inputs: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    weights: np.ndarray | None = None

    def __post_init__(self):
        lengths = {len(part) for part in (self.inputs, self.labels, self.groups, self.share)}
        if len(lengths) != 1:
            raise StudyError(f"inputs, labels, groups and weights differ in length: {lengths}")
        for label, word in ((1, "rare"), (0, "common")):
            if not (self.labels == label).any():
                raise StudyError(f"no {word} image among the {len(self.labels)} to train on")
        if not np.isfinite(self.share).all() or self.share.min() < 0:
            raise StudyError("weights must be finite and not negative")
        if not self.real.any():
            raise StudyError("no real image in the training set: the scale is theirs")
        check_finite(self.inputs, "training features")

    @property
    def share(self) -> np.ndarray:
        """The weights as given, float64 [N]."""
        if self.weights is None:
            return np.ones(len(self.labels))
        return np.asarray(self.weights, float)

    @property
    def real(self) -> np.ndarray:
        """Which images are real, bool [N]."""
        return np.asarray(self.groups) != ""

    @property
    def balanced(self) -> np.ndarray:
        """Weights whose sum is one half in each class, float64 [N]."""
        return balance(self.labels, self.share)


def balance(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`weights` [N] scaled so that each class sums to one half; StudyError where one has none."""
    out = np.zeros(len(labels))
    for label, word in ((1, "rare"), (0, "common")):
        total = weights[labels == label].sum()
        if not total > 0:
            raise StudyError(f"the {word} images have no weight: give at least one a weight > 0")
        out[labels == label] = weights[labels == label] / (2 * total)
    return out


def check_finite(inputs: np.ndarray, what: str) -> None:
    """Raise StudyError, with the count of rows, where `inputs` [N, ...] are not finite."""
    bad = ~np.isfinite(inputs).all(axis=tuple(range(1, inputs.ndim)))
    if bad.any():
        raise StudyError(
            f"{what}: {bad.sum()} of {len(inputs)} rows are not finite (first: {bad.argmax()}): "
            "extract the features of their partition first"
        )
