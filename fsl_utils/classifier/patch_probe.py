"""`patch_probe`: a logit at every place of the stride-16 map; an image's is its top tenth's mean.

Averaging over all places dilutes a crack (the idea of DevNet, Pang et al. 2021, arXiv 2108.00462).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit

from fsl_utils.classifier import features, probe
from fsl_utils.classifier.training import TrainingSet, check_finite

SETTINGS: dict[str, Any] = {"layer": 10, "top": 0.1, "iterations": 60}
PIECE = 128  # images scaled at a time


def view(image_size: int) -> features.View:
    """The map that it takes of images of `image_size` pixels."""
    size = features.input_size(image_size)
    return features.View(layers=(SETTINGS["layer"],), pooled=False, input_size=size)


@dataclass(frozen=True)
class PatchProbe:
    """scaler: of one place's channels. weight [C], bias: of the logit at a place."""

    scaler: probe.Scaler
    C: float
    weight: torch.Tensor
    bias: torch.Tensor

    def score(self, maps: np.ndarray) -> np.ndarray:
        """Probability of the rare class of maps [N, C, h, w], float64 [N]."""
        check_finite(maps, "maps to score")
        places = _places(maps, self.scaler)
        return expit(_logit(places, self.weight, self.bias).double().numpy())


def _places(maps: np.ndarray, scaler: probe.Scaler) -> torch.Tensor:
    """Maps [N, C, h, w] -> scaled places, float32 [N, h * w, C]."""
    n, channels = maps.shape[:2]
    out = np.empty((n, maps.shape[2] * maps.shape[3], channels), np.float32)
    for start in range(0, n, PIECE):
        piece = np.asarray(maps[start : start + PIECE], np.float32)
        out[start : start + PIECE] = scaler(piece.reshape(len(piece), channels, -1).swapaxes(1, 2))
    return torch.from_numpy(out)


def _logit(places: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Mean of the top tenth of the places' logits: [N, h * w, C] -> [N]."""
    top = max(1, round(SETTINGS["top"] * places.shape[1]))
    return (places @ weight).topk(top, dim=1).values.mean(dim=1) + bias


def fit(training: TrainingSet, C: float | None = None) -> PatchProbe:
    """Fit on maps [N, C, h, w] by full-batch L-BFGS from the probe on their averages.

    The loss is not convex in the rare images, so the start matters: it is always that one. `C`, if
    not given, is what the probe on averages chooses.
    """
    maps, labels = training.inputs, np.asarray(training.labels)
    averages = maps.mean(axis=(2, 3), dtype=np.float32)
    start = probe.fit(dataclasses.replace(training, inputs=averages), C)
    scaler = _scaler(maps[training.real])
    places = _places(maps, scaler)
    target = torch.from_numpy(labels.astype(np.float32))
    share = torch.from_numpy(training.balanced.astype(np.float32))
    # An average's logit in units of a place: both scalers are linear but for the clipping.
    weight = start.weight / start.scaler.scale * scaler.scale
    weight = torch.from_numpy(weight.astype(np.float32)).requires_grad_()
    bias = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=SETTINGS["iterations"], line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(
            _logit(places, weight, bias), target, share, reduction="sum"
        )
        loss = start.C * loss + weight.square().sum() / 2
        loss.backward()
        return loss

    optimiser.step(closure)
    return PatchProbe(scaler, start.C, weight.detach(), bias.detach())


def _scaler(maps: np.ndarray) -> probe.Scaler:
    """The scaler of one place's channels, over every place of maps [N, C, h, w]."""
    places = np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1])
    step = max(1, len(places) // 100_000)  # so many tell a standard deviation well enough
    return probe.scaler(places[::step])
