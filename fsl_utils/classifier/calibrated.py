"""`calibrated`: rare features sampled around the shots, no generator.

Distribution calibration (Yang et al. 2021, arXiv 2101.06395) takes its statistics from similar
plentiful classes. Here there is one: its covariance is taken, and each shot is drawn towards the
mean of all shots.
"""

import numpy as np

from fsl_utils import StudyError
from fsl_utils.classifier.probe import scaler
from fsl_utils.classifier.training import check_finite
from fsl_utils.classifier.whitened import covariance

SETTINGS = {"shrink": 0.5, "ridge": 0.1}


def sample(shots: np.ndarray, common: np.ndarray, n: int, seed: int) -> np.ndarray:
    """n features from N(shrunk shot, common covariance + a I), shots in turn, float32 [n, D].

    shots [K, D], common [M, D]: features of real training images. The first n of a larger set are
    the same.
    """
    if len(shots) == 0:
        raise StudyError("no shot to sample features around")
    for part, word in ((shots, "shots"), (common, "common images")):
        check_finite(part, f"features of the {word}")
    scale = scaler(np.concatenate([shots, common]))
    rare, shrink = scale(shots), SETTINGS["shrink"]
    centres = (1 - shrink) * rare + shrink * rare.mean(axis=0)
    spread = covariance(scale(common)) + SETTINGS["ridge"] * np.eye(rare.shape[1])
    noise = np.random.default_rng(seed).standard_normal((n, rare.shape[1]))
    z = centres[np.arange(n) % len(shots)] + noise @ np.linalg.cholesky(spread).T
    return (scale.mean + z * scale.scale).astype(np.float32)
