"""The ways that a decision chooses among, from the simplest on: each one object in a list.

A candidate is fitted on rows of what is seen and gives a `Fitted`, whose tensors are all there is
to it, so that it can be taken away as a file. Every fit balances the classes by weight.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import expit

from fsl_utils import StudyError
from fsl_utils.classifier import detectors, patch_probe, probe, whitened
from fsl_utils.classifier.probe import Scaler
from fsl_utils.classifier.training import TrainingSet

KINDS = ("real", "free", "synthetic")  # what it costs, from nothing on


@dataclass(frozen=True)
class Fitted:
    """A fitted candidate: family ('linear', 'places' or 'distance') and its arrays by name."""

    family: str
    tensors: dict[str, np.ndarray]

    def score(self, inputs) -> np.ndarray:
        """Scores of what its candidate takes, float64 [M] in 0..1; larger is rarer."""
        return _SCORES[self.family](self.tensors, inputs)


def _linear(t: dict, x: np.ndarray) -> np.ndarray:
    return expit(Scaler(t["mean"], t["scale"])(x) @ t["weight"] + t["bias"][0])


def _places(t: dict, maps: np.ndarray) -> np.ndarray:
    weight, bias = (torch.from_numpy(np.asarray(t[n], np.float32)) for n in ("weight", "bias"))
    model = patch_probe.PatchProbe(Scaler(t["mean"], t["scale"]), 0.0, weight, bias[0])
    return model.score(maps)


def _distance(t: dict, layers: list[np.ndarray]) -> np.ndarray:
    away = distance(t, layers)
    return away / (away + t["middle"][0])


_SCORES: dict[str, Callable] = {"linear": _linear, "places": _places, "distance": _distance}


def distance(t: dict, layers: list[np.ndarray]) -> np.ndarray:
    """Mahalanobis distance summed over layers, [M], of the tensors of `gaussians`."""
    each = [
        detectors.away(Scaler(t[f"mean.{i}"], t[f"scale.{i}"])(layer), t[f"factor.{i}"])
        for i, layer in enumerate(layers)
    ]
    return np.sum(each, axis=0)


def gaussians(layers: list[np.ndarray]) -> dict[str, np.ndarray]:
    """A shrunk Gaussian of each layer [N, D], as tensors mean.i, scale.i and factor.i."""
    tensors = {}
    for i, layer in enumerate(layers):
        scaler, factor = detectors.gaussian(layer)
        tensors |= {f"mean.{i}": scaler.mean, f"scale.{i}": scaler.scale, f"factor.{i}": factor}
    return tensors


@dataclass(frozen=True)
class Candidate:
    """One way. takes: what it sees (`seen.TAKES`). settings: what else determines it.

    added: (seen, rows) -> origin, pixels, labels and weights (a real image has 1) of the images
    that it adds to the real ones.
    """

    name: str
    title: str
    kind: str
    takes: str
    make: Callable = field(repr=False, compare=False)
    settings: dict = field(default_factory=dict, compare=False)
    nested: bool = True  # whether it is fitted for the inner choice too
    repeated: bool = True  # whether it is fitted in every repeat, or in the first alone
    added: Callable | None = field(default=None, repr=False, compare=False)  # see `takeaway`

    def params(self) -> dict:
        """What determines its scores beside images and rows, as part of a key."""
        return {"candidate": self.name, **self.settings}

    def fit(self, seen, rows: np.ndarray) -> Fitted:
        """Fitted on images `rows` of what is seen. Raises StudyError where that cannot be."""
        return self.make(seen, rows)

    def scores(self, seen, rows: np.ndarray, scored: np.ndarray) -> np.ndarray:
        """Scores of images `scored`, fitted on images `rows`, float64 [M]."""
        return self.fit(seen, rows).score(at(seen.of(self.takes), scored))


def at(inputs, rows: np.ndarray):
    """Rows of what is seen."""
    return [layer[rows] for layer in inputs] if isinstance(inputs, list) else inputs[rows]


def training(seen, takes: str, rows: np.ndarray) -> TrainingSet:
    """The real images `rows` as a training set."""
    groups = seen.groups[rows].astype(str)
    return TrainingSet(at(seen.of(takes), rows), seen.labels[rows], groups)


def linear(model) -> Fitted:
    """A fitted probe or whitened discriminant."""
    scaler = model.scaler
    tensors = {"mean": scaler.mean, "scale": scaler.scale, "weight": model.weight}
    return Fitted("linear", tensors | {"bias": np.array([model.bias])})


def beside(real: TrainingSet, added: np.ndarray, labels: np.ndarray, weights=None) -> TrainingSet:
    """Real images with made ones [M, D] beside them, which set no scale."""
    return TrainingSet(
        np.concatenate([real.inputs, added]),
        np.concatenate([real.labels, labels]),
        np.concatenate([real.groups, np.full(len(added), "")]),
        weights,
    )


def _probe(seen, rows):
    return linear(probe.fit(training(seen, "pooled", rows)))


def _whitened(seen, rows):
    return linear(whitened.fit(training(seen, "pooled", rows)))


def _augmented(seen, rows):
    copies, parents = seen.augmented()
    known = np.isin(parents, rows)
    real = training(seen, "pooled", rows)
    return linear(probe.fit(beside(real, copies[known], seen.labels[parents[known]])))


def _copies(seen, rows):
    pixels, parents = seen.augmented_pixels()
    known = np.isin(parents, rows)
    return "augmented", pixels[known], seen.labels[parents[known]], np.ones(known.sum())


def _mahalanobis(seen, rows):
    common = at(seen.of("stages"), rows[seen.labels[rows] == 0])
    tensors = gaussians(common)
    middle = np.quantile(distance(tensors, common), detectors.SETTINGS["quantile"])
    return Fitted("distance", tensors | {"middle": np.array([max(middle, 1e-12)])})


def _patch_probe(seen, rows):
    model = patch_probe.fit(training(seen, "map", rows))
    arrays = {"weight": model.weight.numpy(), "bias": model.bias.numpy().reshape(1)}
    return Fitted("places", {"mean": model.scaler.mean, "scale": model.scaler.scale, **arrays})


REAL = Candidate(
    "probe",
    "a logistic regression on frozen features of your real images",
    "real",
    "pooled",
    _probe,
    {"probe": probe.SETTINGS},
)
FREE = (
    Candidate(
        "whitened", "a linear discriminant that knows how your common images vary", "free",
        "pooled", _whitened,
    ),
    Candidate(
        "augment", "the same regression with strongly augmented copies", "free", "pooled",
        _augmented, {"probe": probe.SETTINGS}, added=_copies,
    ),
    Candidate(
        "mahalanobis", "an anomaly detector that learns from your common images alone", "free",
        "stages", _mahalanobis, {"detectors": detectors.SETTINGS},
    ),
    Candidate(
        "patch_probe", "a regression on patches, for small defects", "free", "map", _patch_probe,
        {"patch_probe": patch_probe.SETTINGS, "probe": probe.SETTINGS},
    ),
)  # fmt: skip


def get(name: str, known: Sequence[Candidate] = (REAL, *FREE)) -> Candidate:
    """A candidate by name. Raises StudyError where there is none."""
    for each in known:
        if each.name == name:
            return each
    raise StudyError(f"unknown way '{name}': known are {', '.join(each.name for each in known)}")
