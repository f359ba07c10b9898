"""What the candidates of a decision see of the images: frozen features, extracted once each."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from fsl_utils.classifier import detectors, features, patch_probe, probe
from fsl_utils.data import augmentation, partitions
from fsl_utils.data.domains import Domain

COPIES = 4  # strongly augmented copies of every rare image, and as many of common ones
STAGES = tuple(detectors.SETTINGS["stages"])
TAKES = ("pooled", "stages", "map")  # probe's vector; a list of one array a stage; a map


def views(size: int) -> dict[str, features.View]:
    """The network's passes: 'stages' (which hold the pooled vector) and 'map'."""
    inside = features.input_size(size)
    return {
        "stages": features.View(layers=STAGES, input_size=inside),
        "map": patch_probe.view(size),
    }


def taken(takes: str, stages: np.ndarray):
    """'pooled' or 'stages' out of the pooled features of all stages [N, D]."""
    layers = dict(zip(STAGES, detectors.split(stages, features.widths(STAGES))))
    if takes == "stages":
        return list(layers.values())
    return np.concatenate([layers[layer] for layer in probe.SETTINGS["layers"]], axis=1)


def of_pixels(takes: str, pixels: np.ndarray, device: str = "cpu"):
    """What a candidate takes of uint8 images [N, C, S, S] that no store knows."""
    view = views(pixels.shape[-1])["map" if takes == "map" else "stages"]
    out = np.concatenate(list(features.batches(pixels, device, view)))
    return out if takes == "map" else taken(takes, out)


@dataclass
class Seen:
    """Features of all images of a domain at one size, through the store.

    labels, groups: int [N]. key: what determines the images. `of(takes)` is one of TAKES.
    """

    domain: Domain
    size: int = 128
    device: str = "cpu"

    def __post_init__(self):
        table = self.domain.table
        self.labels = table["label"].to_numpy()
        self.groups = np.unique(table["group"], return_inverse=True)[1]
        self.channels = self.domain.channels
        self.key = {
            "data": self.domain.data_hash,
            "image_size": self.size,
            "channels": self.channels,
            "partition": "all",
        }
        self._kept: dict = {}

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 [N, C, S, S]."""
        return self.domain.images(self.size, self.channels)

    def of(self, takes: str):
        """Features of all images in table order: [N, D], a list of [N, D_s], or [N, C, h, w]."""
        if takes not in self._kept:
            view = views(self.size)["map" if takes == "map" else "stages"]
            out = features.extract(self.pixels, self.key, self.device, view=view)
            self._kept[takes] = out if takes == "map" else taken(takes, out)
        return self._kept[takes]

    def augmented(self) -> tuple[np.ndarray, np.ndarray]:
        """Pooled features [M, D] of strongly augmented copies, and of which image each is, [M].

        COPIES of every rare image, and as many in all of common ones, spread over groups.
        """
        if "augmented" not in self._kept:
            copies, parents = self.augmented_pixels()
            source = self.key | {"strong": COPIES}
            out = features.extract(copies, source, self.device, view=views(self.size)["stages"])
            self._kept["augmented"] = taken("pooled", out), parents
        return self._kept["augmented"]

    def augmented_pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """The copies themselves, uint8 [M, C, S, S], and of which image each is."""
        parents = np.concatenate([np.repeat(self._spread(1), COPIES), self._beside()])
        generator = torch.Generator().manual_seed(0)
        chosen = torch.from_numpy(self.pixels[parents])
        return augmentation.Strong().images(chosen, generator).numpy(), parents

    def _spread(self, label: int) -> np.ndarray:
        rows, rng = np.flatnonzero(self.labels == label), partitions.generator("copies", label)
        return partitions.spread(rows, self.groups, rng)

    def _beside(self) -> np.ndarray:
        common = self._spread(0)
        return common[np.arange(COPIES * int(self.labels.sum())) % len(common)]
