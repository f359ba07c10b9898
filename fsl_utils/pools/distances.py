"""Perceptual distance between images: LPIPS where AlexNet's weights can be had, else the same measure over EfficientNet-Lite0.

Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018:
features of several layers, scaled to unit length over the channels at each place, squared
differences summed over channels and averaged over places. That is a squared Euclidean distance
between two vectors, one an image, so the network sees each image once, not once a pair.
"""

import functools
import pickle
import socket
import urllib.request
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from fsl_utils import StudyError
from fsl_utils.classifier import features

SIZE = 64  # pixels; images of another size are resized to it
BATCH = 32
ALEXNET_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
PATIENCE = 5  # seconds without an answer after which the network counts as out of reach

# Blocks of EfficientNet-Lite0 that end a resolution: 32, 16, 8, 4 and 2 pixels wide at SIZE.
ENET_BLOCKS = (0, 2, 4, 10, 15)


@dataclass(frozen=True)
class Measure:
    """A distance under the name that tables and figures carry. `layers` maps float images in
    [-1, 1], [N, 3, 64, 64], to a list of [N, C, H, W] whose squared differences are to be summed."""

    name: str
    layers: Callable[[torch.Tensor], list[torch.Tensor]]
    net: torch.nn.Module

    def embed(self, images: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Vectors of uint8 images [N, 1 or 3, H, W], float32 [N, D], with |u - v|^2 the distance."""
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


def resized(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, C, H, W] -> float32 [N, C, 64, 64] in 0..255."""
    pixels = torch.from_numpy(
        np.array(images)
    ).float()  # copied: a memory-mapped array is read-only
    if pixels.shape[-2:] != (SIZE, SIZE):
        pixels = F.interpolate(
            pixels, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False
        )
    return pixels


def between(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance of vector i of `u` to vector i of `v`, both [N, D]: float32 [N]."""
    return np.square(u - v).sum(axis=1)


@functools.cache
def measure() -> Measure:
    """The measure to be had here, asked for once a process: `LPIPS` or `enet_distance`."""
    state = alexnet_weights()
    return enet_distance() if state is None else lpips_alex(state)


def alexnet_weights() -> dict | None:
    """torchvision's ImageNet weights of AlexNet from torch's hub cache or its download site, or None.

    One attempt, given up after 5 seconds of silence; loaded without unpickling.
    """
    cached = Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET_URL.rpartition("/")[2]
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)  # torch's download takes no timeout of its own
    try:
        if not cached.is_file():
            urllib.request.urlopen(
                urllib.request.Request(ALEXNET_URL, method="HEAD"), timeout=PATIENCE
            ).close()
        return torch.hub.load_state_dict_from_url(
            ALEXNET_URL, map_location="cpu", check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if cached.is_file():
            raise StudyError(
                f"{cached}: not the weights of AlexNet ({str(error).splitlines()[0]}); remove the file"
            ) from error
        return None  # no network (URLError and a timeout are OSErrors), or one that answers with something else
    finally:
        socket.setdefaulttimeout(before)


def lpips_alex(alexnet_state: dict) -> Measure:
    """LPIPS of the `lpips` package (AlexNet, version 0.1, its learned heads) with these AlexNet weights."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips asks torchvision in an outdated way
        net = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    # slice1.0, slice2.3, ... of lpips are features.0, features.3, ... of torchvision
    net.net.load_state_dict(
        {name: alexnet_state[f"features.{name.split('.', 1)[1]}"] for name in net.net.state_dict()}
    )
    net.eval().requires_grad_(False)

    def layers(pixels):
        found = net.net(net.scaling_layer(pixels))
        # A head is a convolution by one non-negative weight a channel: its root moves inside the square.
        return [
            lpips.normalize_tensor(x) * net.lins[i].model[-1].weight.clamp(min=0).sqrt()
            for i, x in enumerate(found)
        ]

    return Measure("LPIPS", layers, net)


def enet_distance() -> Measure:
    """The measure without learned heads over five layers of EfficientNet-Lite0, which are averaged. It is not LPIPS."""
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
