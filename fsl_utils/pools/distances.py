"""Perceptual distance between images: the same measure over EfficientNet-Lite0, or LPIPS where it
is asked for by name.

Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018:
features of several layers, scaled to unit length over the channels at each place, squared
differences summed over channels and averaged over places. That is a squared Euclidean distance
between two vectors, one an image, so the network sees each image once, not once a pair.
"""

import functools
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights

from fsl_utils import StudyError
from fsl_utils.classifier import features
from fsl_utils.generator.copies import resized

BATCH = 32
TRUNKS = {
    "alex": ("AlexNet", AlexNet_Weights.IMAGENET1K_V1),
    "squeeze": ("SqueezeNet 1.1", SqueezeNet1_1_Weights.IMAGENET1K_V1),
}

# Blocks of EfficientNet-Lite0 that end a resolution: 32, 16, 8, 4 and 2 pixels wide at 64.
ENET_BLOCKS = (0, 2, 4, 10, 15)


@dataclass(frozen=True)
class Measure:
    """A distance under the name that tables and figures carry. `layers` maps float images in
    [-1, 1], [N, 3, 64, 64], to a list of [N, C, H, W] whose squared differences are to be summed.
    """

    name: str
    layers: Callable[[torch.Tensor], list[torch.Tensor]]
    net: torch.nn.Module

    def embed(self, images: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Vectors of uint8 images [N, 1 or 3, H, W], float32 [N, D], with |u - v|^2 the
        distance.
        """
        self.net.to(device)
        return np.concatenate(
            [self._embed(images[i : i + BATCH], device) for i in range(0, len(images), BATCH)]
        )

    @torch.inference_mode()
    def _embed(self, images: np.ndarray, device: str) -> np.ndarray:
        pixels = resized(images).to(device).div(127.5).sub(1)
        layers = self.layers(pixels.expand(-1, 3, -1, -1).contiguous())
        places = [layer.shape[2] * layer.shape[3] for layer in layers]
        return (
            torch.cat([(layer / n**0.5).flatten(1) for layer, n in zip(layers, places)], dim=1)
            .cpu()
            .numpy()
        )


def between(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance of vector i of `u` to vector i of `v`, both [N, D]: float32 [N]."""
    return np.square(u - v).sum(axis=1)


def mean_apart(vectors: np.ndarray) -> float:
    """Mean distance over all pairs of `vectors` [N, D]."""
    first, second = np.triu_indices(len(vectors), 1)
    return float(between(vectors[first], vectors[second]).mean())


def lpips(net: str) -> Measure:
    """LPIPS of the `lpips` package (version 0.1, its learned heads) over AlexNet ('alex') or
    SqueezeNet 1.1 ('squeeze').

    The network's ImageNet weights are torchvision's, loaded without unpickling from torch's hub
    cache or its download site. Raises StudyError where they cannot be had.
    """
    from lpips import LPIPS, normalize_tensor

    name, weights = TRUNKS[net]
    try:
        state = torch.hub.load_state_dict_from_url(
            weights.url, map_location="cpu", check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        cached = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
        raise StudyError(
            f"measure 'lpips_{net}' needs torchvision's {name} weights "
            f"({str(error).splitlines()[0]}): put a whole "
            f"{cached.name} into {cached.parent}, or take measure 'enet_distance'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips asks torchvision in an outdated way
        model = LPIPS(net=net, pnet_rand=True, verbose=False)
    # slice1.0, slice2.3, ... of lpips are features.0, features.3, ... of torchvision
    trunk = {name: state[f"features.{name.split('.', 1)[1]}"] for name in model.net.state_dict()}
    model.net.load_state_dict(trunk)
    model.eval().requires_grad_(False)

    def layers(pixels):
        # A head is a convolution by one non-negative weight a channel: its root moves inside the
        # square.
        return [
            normalize_tensor(x) * model.lins[i].model[-1].weight.clamp(min=0).sqrt()
            for i, x in enumerate(model.net(model.scaling_layer(pixels)))
        ]

    return Measure(f"lpips_{net}", layers, model)


def enet_distance() -> Measure:
    """The measure without learned heads over five layers of EfficientNet-Lite0, which are averaged.
    It is not LPIPS.
    """
    net = features.network()

    def layers(pixels):
        found = []
        hooks = [
            net._blocks[i].register_forward_hook(lambda module, given, out: found.append(out))
            for i in ENET_BLOCKS
        ]
        try:
            net.extract_features((pixels * 127.5 + 0.5) / 128)
        finally:
            for hook in hooks:
                hook.remove()
        return [F.normalize(x, dim=1) / len(found) ** 0.5 for x in found]

    return Measure("enet_distance", layers, net)


# By name; none of them depends on what the machine can reach.
MEASURES = {
    "enet_distance": enet_distance,
    "lpips_alex": lambda: lpips("alex"),
    "lpips_squeeze": lambda: lpips("squeeze"),
}


@functools.cache
def measure(name: str) -> Measure:
    """The measure of a name, opened once a process. Raises StudyError where there is none, or its
    weights cannot be had.
    """
    if name not in MEASURES:
        raise StudyError(f"unknown measure '{name}': known are {', '.join(MEASURES)}")
    return MEASURES[name]()
