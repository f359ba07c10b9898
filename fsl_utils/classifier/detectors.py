"""One-class detectors: fitted on common training images alone, they never see a rare one.

Each takes `layers`, a list of arrays whose rows are the same images, and has
`score(layers)` -> float64 [N] in 0..1, one half where the distance is the 95 % quantile of the
images it was fitted on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fsl_utils import StudyError
from fsl_utils.classifier import features, whitened
from fsl_utils.classifier.probe import Scaler, scaler
from fsl_utils.classifier.training import check_finite

SETTINGS: dict[str, Any] = {
    "stages": [*features.STAGES, "head"],  # of mahalanobis
    "maps": [4, 10],  # of padim and patchcore: strides 8 and 16
    "channels": 64,  # of padim
    "ridge": 0.01,  # of padim
    "patches": 50_000,  # of patchcore, before the coreset
    "coreset": 2_000,
    "projection": 64,
    "quantile": 0.95,
}
Layers = Sequence[np.ndarray]


@dataclass(frozen=True)
class Detector:
    """distance: layers -> float64 [N]. middle: the distance that scores one half."""

    distance: Callable[[Layers], np.ndarray]
    middle: float

    def score(self, layers: Layers) -> np.ndarray:
        """Anomaly of each image, float64 [N] in 0..1, rising with the distance."""
        distance = self.distance(_checked(layers))
        return distance / (distance + self.middle)


def _detector(distance: Callable[[Layers], np.ndarray], layers: Layers) -> Detector:
    middle = float(np.quantile(distance(layers), SETTINGS["quantile"]))
    return Detector(distance, max(middle, 1e-12))


def _checked(layers: Layers) -> Layers:
    lengths = {len(layer) for layer in layers}
    if len(lengths) != 1:
        raise StudyError(f"the layers hold different numbers of images: {sorted(lengths)}")
    for i, layer in enumerate(layers):
        check_finite(layer, f"layer {i} of a detector")
    return layers


def split(pooled: np.ndarray, widths: Sequence[int]) -> list[np.ndarray]:
    """Pooled features [N, sum of widths] as a list of layers [N, width]."""
    return np.split(pooled, np.cumsum(widths)[:-1], axis=1)


def mahalanobis(common: Layers) -> Detector:
    """Sum over stages of the Mahalanobis distance of pooled features [N, D] (Rippel et al. 2020).

    The covariance of each stage is Ledoit and Wolf's; channels are scaled with a floor first.
    """
    fitted = [gaussian(stage) for stage in _checked(common)]

    def distance(layers: Layers) -> np.ndarray:
        each = [away(scale(stage), factor) for stage, (scale, factor) in zip(layers, fitted)]
        return np.sum(each, axis=0)

    return _detector(distance, common)


def gaussian(stage: np.ndarray) -> tuple[Scaler, np.ndarray]:
    """The scaler of a stage [N, D] and the Cholesky factor of its shrunk covariance [D, D]."""
    if len(stage) < 2:
        raise StudyError(f"a detector needs at least 2 common images, not {len(stage)}")
    scale = scaler(stage)
    z = scale(stage)
    mean = Scaler(scale.mean + z.mean(axis=0) * scale.scale, scale.scale)
    return mean, np.linalg.cholesky(whitened.covariance(z))


def away(z: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Mahalanobis distance of centred rows z [N, D] under the covariance with this factor: [N]."""
    white = torch.linalg.solve_triangular(
        torch.from_numpy(factor), torch.from_numpy(z.T), upper=False
    )
    return torch.linalg.vector_norm(white, dim=0).numpy()


def padim(common: Layers, seed: int = 0) -> Detector:
    """A Gaussian at each place of the coarsest map, the largest distance (Defard et al. 2021).

    common: maps [N, C, h, w]; finer ones are averaged to the coarsest. Channels: a random subset.
    """
    size = min(layer.shape[-1] for layer in _checked(common))
    total = sum(layer.shape[1] for layer in common)
    rng = np.random.default_rng(seed)
    channels = np.sort(rng.permutation(total)[: SETTINGS["channels"]])

    def places(layers: Layers) -> torch.Tensor:
        """[h * w, N, channels]"""
        pooled = [F.adaptive_avg_pool2d(_tensor(layer), size) for layer in layers]
        return torch.cat(pooled, 1)[:, channels].flatten(2).permute(2, 0, 1)

    x = places(common)
    if x.shape[1] < 2:
        raise StudyError(f"a detector needs at least 2 common images, not {x.shape[1]}")
    mean = x.mean(dim=1, keepdim=True)
    covariance = (x - mean).transpose(1, 2) @ (x - mean) / (x.shape[1] - 1)
    ridge = SETTINGS["ridge"] * covariance.diagonal(dim1=1, dim2=2).mean()
    if not ridge > 0:
        raise StudyError("the maps of all common training images are the same: look at the images")
    factor = torch.linalg.cholesky(covariance + ridge * torch.eye(len(channels)))

    def distance(layers: Layers) -> np.ndarray:
        z = (places(layers) - mean).transpose(1, 2)
        away = torch.linalg.solve_triangular(factor, z, upper=False).norm(dim=1)
        return away.amax(dim=0).double().numpy()

    return _detector(distance, common)


def patchcore(common: Layers, seed: int = 0) -> Detector:
    """Largest distance of a patch to its nearest of a coreset of common patches (Roth et al. 2022).

    common: maps [N, C, h, w]; each is averaged over 3x3 and brought to the finest map's places.
    """
    size = max(layer.shape[-1] for layer in _checked(common))
    rng = np.random.default_rng(seed)

    def patches(layers: Layers) -> torch.Tensor:
        """[N, h * w, C]"""
        smooth = [F.avg_pool2d(_tensor(m), 3, 1, 1, count_include_pad=False) for m in layers]
        same = [F.interpolate(m, size=(size, size), mode="bilinear") for m in smooth]
        return torch.cat(same, 1).flatten(2).transpose(1, 2)

    each = -(-SETTINGS["patches"] // len(common[0]))  # of an image, so that memory is bounded
    bank = []
    for piece in _pieces(common):
        found = patches(piece)
        chosen = np.stack([rng.permutation(found.shape[1])[:each] for _ in found])
        bank.append(found[np.arange(len(found))[:, None], chosen].flatten(0, 1))
    bank = torch.cat(bank)
    bank = bank[rng.permutation(len(bank))[: SETTINGS["patches"]]]
    bank = bank[k_centre(bank, SETTINGS["coreset"], rng)]

    def distance(layers: Layers) -> np.ndarray:
        nearest = [
            torch.cdist(patches(piece).flatten(0, 1), bank).amin(dim=1).view(len(piece[0]), -1)
            for piece in _pieces(layers)
        ]
        return torch.cat(nearest).amax(dim=1).double().numpy()

    return _detector(distance, common)


def k_centre(points: torch.Tensor, n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of `points` [N, D] chosen greedily, each the farthest from those before: int [<= n].

    Distances are taken in a random projection. Stops where all that is left is a repetition.
    """
    project = rng.normal(size=(points.shape[1], SETTINGS["projection"]))
    low = points @ torch.from_numpy(project / SETTINGS["projection"] ** 0.5).float()
    chosen = [int(rng.integers(len(points)))]
    nearest = torch.full((len(points),), np.inf)
    while len(chosen) < min(n, len(points)):
        nearest = torch.minimum(nearest, (low - low[chosen[-1]]).square().sum(dim=1))
        farthest = int(nearest.argmax())
        if not nearest[farthest] > 0:
            break
        chosen.append(farthest)
    return np.array(chosen)


def _tensor(layer: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(layer, np.float32))


def _pieces(layers: Layers, size: int = 16) -> list[Layers]:
    """The images of `layers`, `size` at a time, so that memory holds few patches."""
    return [[layer[i : i + size] for layer in layers] for i in range(0, len(layers[0]), size)]
