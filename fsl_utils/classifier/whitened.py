"""`whitened`: linear discriminant analysis under the covariance of all common training images.

The covariance is Ledoit and Wolf's (2004), so the plentiful class says which directions vary
anyway and the shots say only where the rare class lies.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from sklearn.covariance import ledoit_wolf

from fsl_utils import StudyError
from fsl_utils.classifier.probe import Scaler, scaler
from fsl_utils.classifier.training import TrainingSet, check_finite


@dataclass(frozen=True)
class Whitened:
    """weight [D], bias: of the discriminant of z in standard deviations of the common class."""

    scaler: Scaler
    weight: np.ndarray
    bias: float

    def score(self, x: np.ndarray) -> np.ndarray:
        """A score of the rare class of features [N, D] in 0..1, float64 [N]; half at the middle."""
        check_finite(x, "features to score")
        return expit(self.scaler(x) @ self.weight + self.bias)


def covariance(z: np.ndarray) -> np.ndarray:
    """Ledoit and Wolf's covariance of rows z [N, D], made positive definite, [D, D]."""
    if len(z) < 2:
        raise StudyError(f"a covariance needs at least 2 common images, not {len(z)}")
    shrunk, _ = ledoit_wolf(z)
    return shrunk + 1e-9 * np.trace(shrunk) / len(shrunk) * np.eye(len(shrunk))


def fit(training: TrainingSet) -> Whitened:
    """w = S^-1 (m_rare - m_common) of features [N, D], S of the real common images."""
    labels, weights = np.asarray(training.labels), training.balanced
    scale = scaler(training.inputs[training.real])
    z = scale(training.inputs)
    rare, common = (2 * weights[labels == c] @ z[labels == c] for c in (1, 0))
    shrunk = covariance(z[training.real & (labels == 0)])
    weight = cho_solve(cho_factor(shrunk), rare - common)
    # A logit of LDA runs into the hundreds, where the sigmoid ties: count in standard deviations.
    spread = np.sqrt(weight @ shrunk @ weight)
    if not spread > 0:
        raise StudyError("rare and common training images have the same mean features")
    weight /= spread
    return Whitened(scale, weight, float(-weight @ (rare + common) / 2))
