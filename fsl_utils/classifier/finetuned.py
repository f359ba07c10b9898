"""`finetuned`: an ImageNet network, head first, then its last stages (LP-FT, Kumar et al. 2022).

The stem is frozen, so it runs once an image and variant (flipped and shifted) and is kept in the
store as a map; what is trained is the rest. Batch-norm statistics are frozen by folding them into
the convolutions. Depthwise filters stay as they are: with its gradient a 5x5 one of 1,152 channels
took 60 ms a step, without 1.5 (CPU, bfloat16, 32 maps of 5x5).
"""

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fsl_utils import StudyError
from fsl_utils.classifier import contrastive, features, probe
from fsl_utils.classifier.arms import CONTRASTIVE, GROWTH, Arm
from fsl_utils.classifier.growing import Growth
from fsl_utils.classifier.training import TrainingSet, balance, check_finite

SETTINGS: dict[str, Any] = {
    "batch": 32,
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "warmup": 0.2,  # share of the steps
    "variants": 4,  # the image itself, and three flipped and shifted
}
CUT: dict[str, int | str] = {
    features.NAME: 10,
    features.RESNET: "layer3",
}  # the last frozen layer, stride 16
PIECE = 64  # images scored at a time


def views(image_size: int, flips: str, network: str = features.NAME) -> list[features.View]:
    """The maps that training takes, one view a variant; scoring takes the first."""
    size = features.input_size(image_size)
    return [
        features.View(network, (CUT[network],), False, size, variant, flips if variant else "")
        for variant in range(SETTINGS["variants"])
    ]


class Tail(torch.nn.Module):
    """What follows the frozen stem, and one logit: maps [N, C, h, w] -> [N]."""

    def __init__(self, body: torch.nn.Module, width: int):
        super().__init__()
        self.body, self.head = _fold(body), torch.nn.Linear(width, 1)
        for module in self.body.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.requires_grad_(module.groups == 1)
        self.eval().to(memory_format=torch.channels_last)

    def pooled(self, maps: torch.Tensor) -> torch.Tensor:
        """Features before the head, float32 [N, D]."""
        return self.body(maps).float().mean(dim=(2, 3))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.head(self.pooled(maps))


def tail(net: torch.nn.Module, network: str = features.NAME) -> Tail:
    """A trainable copy of the end of `net` (of `features.network`), which stays as it is."""
    if network == features.RESNET:
        return Tail(_copied(net.layer4), net.layer4[-1].conv2.out_channels)
    blocks = [_copied(block) for block in net._blocks[int(CUT[network]) + 1 :]]
    head = [_copied(part) for part in (net._conv_head, net._bn1)]
    body = torch.nn.Sequential(*blocks, *head, torch.nn.ReLU6())
    return Tail(body, net._conv_head.out_channels)


def _copied(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        return copy.deepcopy(module).requires_grad_(True)


def _fold(module: torch.nn.Module) -> torch.nn.Module:
    """Every batch norm of a module folded into the convolution that is registered before it."""
    for part in module.modules():
        for (name, before), (after_name, after) in itertools.pairwise(part.named_children()):
            if isinstance(before, torch.nn.Conv2d) and isinstance(after, torch.nn.BatchNorm2d):
                setattr(part, name, fuse_conv_bn_eval(before.eval(), after.eval()))
                setattr(part, after_name, torch.nn.Identity())
    return module


def train(
    training: TrainingSet,
    model: Tail,
    arm: Arm,
    *,
    steps: int,
    seed: int,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    device: str = "cpu",
) -> Iterator[dict]:
    """Train a `tail` on maps [N, V, C, h, w] of V variants; yields {step, loss, model}.

    Step 0 is the fit of the head. Each batch holds as many rare as common images, drawn by their
    weights; the last step is the result. The same seed and threads give the same weights. arm: its
    loss, and whether made images leave or join. validation: maps [M, C, h, w] of the first view
    and labels [M], which an arm that grows looks at.
    """
    if np.ndim(training.inputs) != 5:
        raise StudyError(
            f"maps are {np.shape(training.inputs)}: expected [N, variants, C, h, w] (see `views`)"
        )
    if steps < 1:
        raise StudyError(f"steps is {steps}: at least 1 is needed")
    model.to(device)
    growth = Growth(~training.real, arm.grow, seed) if arm.grow else None
    _fit_head(_part(training, growth.in_use) if growth else training, model, device)
    yield {"step": 0, "loss": float("nan"), "model": model}
    parameters = [p for p in model.parameters() if p.requires_grad]
    rate = SETTINGS["learning_rate"]
    optimiser = torch.optim.AdamW(parameters, rate, weight_decay=SETTINGS["weight_decay"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    for step, (rows, variants) in enumerate(_batches(training, arm, growth, steps, seed)):
        if growth and len(growth.waiting) and step % GROWTH["every"] == 0:
            _look(growth, model, training, validation, device)
        maps, target = training.inputs[rows, variants], torch.from_numpy(training.labels[rows])
        if arm.loss == "contrastive":
            value = _contrastive(model, maps, target.to(device), training.real[rows], device)
        else:
            value = _entropy(_forward(model, maps, device), target.to(device))
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()
        schedule.step()
        yield {"step": step + 1, "loss": value.item(), "model": model}


def _entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, target.float())


def _contrastive(
    model: Tail, maps: np.ndarray, target: torch.Tensor, real: np.ndarray, device: str
) -> torch.Tensor:
    """Cross-entropy, and the contrastive loss of what the head is given."""
    pooled = _forward(model.pooled, maps, device)
    apart = contrastive.loss(pooled, target, torch.from_numpy(real).to(device))
    entropy = _entropy(model.head(pooled).squeeze(1), target)
    return entropy + CONTRASTIVE["contrast"] * apart


def _rate(step: int, steps: int) -> float:
    """The share of the learning rate at a step: a linear warm-up, under a cosine to zero."""
    warm = (step + 1) / max(1, SETTINGS["warmup"] * steps)
    return min(warm, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _part(training: TrainingSet, keep: np.ndarray) -> TrainingSet:
    parts = (training.inputs, training.labels, training.groups, training.share)
    return TrainingSet(*(part[keep] for part in parts))


def _look(growth: Growth, model: Tail, training: TrainingSet, validation, device: str) -> None:
    """Validation's cross-entropy, classes balanced, and what is thought of the waiting images."""
    maps, labels = validation
    logits, target = _scored(model, maps, device), torch.from_numpy(labels).float()
    weights = torch.from_numpy(balance(labels, np.ones(len(labels)))).float()
    loss = F.binary_cross_entropy_with_logits(logits, target, weights, reduction="sum")
    growth.look(loss.item(), score(model, training.inputs[growth.waiting, 0], device))


def _fit_head(training: TrainingSet, model: Tail, device: str) -> None:
    """Set the head to the probe's weights on the frozen features of the images themselves."""
    inner = _scored(model.pooled, training.inputs[:, 0], device).float().numpy()
    fitted = probe.fit(dataclasses.replace(training, inputs=inner))
    weight = fitted.weight / fitted.scaler.scale
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weight)[None])
        model.head.bias.fill_(fitted.bias - float(weight @ fitted.scaler.mean))


def _batches(
    training: TrainingSet, arm: Arm, growth: Growth | None, steps: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and variants of one batch after another, half of each class, by weight.

    Where the arm anneals, that of made images falls to none over three quarters of the steps.
    """
    rng, half = np.random.default_rng(seed), SETTINGS["batch"] // 2
    classes = [np.flatnonzero(training.labels == c) for c in (1, 0)]
    for step in range(steps):
        left = max(0.0, 1 - step / (0.75 * steps)) if arm.anneal else 1.0
        kept = np.where(training.real, 1.0, left)
        share = balance(training.labels, training.share * (growth.in_use if growth else kept))
        rows = [rng.choice(c, half, p=2 * share[c]) for c in classes]
        yield np.concatenate(rows), rng.integers(training.inputs.shape[1], size=2 * half)


def _forward(function, maps: np.ndarray, device: str) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(maps)).to(device).float()
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device, torch.bfloat16, enabled=features.bfloat16(device)):
        return function(pixels).float().squeeze(1)


@torch.inference_mode()
def _scored(function, maps: np.ndarray, device: str) -> torch.Tensor:
    """`function` of maps, piece by piece, on the CPU."""
    pieces = range(0, len(maps), PIECE)
    return torch.cat([_forward(function, maps[i : i + PIECE], device).cpu() for i in pieces])


def score(model: Tail, maps: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Probability of the rare class of maps [N, C, h, w] of the first view, float64 [N]."""
    check_finite(maps, "maps to score")
    return torch.sigmoid(_scored(model, maps, device).double()).numpy()
