"""What a step of fine-tuning sees: shots, and common images beside them, with masks and conditions.

The same step, the same batch: an interrupted run goes on as if it had not been.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from fsl_utils.data import augmentation, partitions
from fsl_utils.data.datasets import registry
from fsl_utils.generator import mini
from fsl_utils.generator.adapter import AdapterRequest

UNTOLD = 0.2  # share of images whose mask is kept from a backbone that takes masks


class Batch(NamedTuple):
    """clean: latents [N, c, h, w]. cover: the masks of their images, [N, 1, S, S] or [N, 1, h, w],
    0..255. condition: rows of the backbone's embedding, [N]. generator: for the rest of the step.
    told: those masks that the backbone sees, uint8 [N, 1, S, S], where it takes masks. common: the
    row of the domain's common class.
    """

    clean: torch.Tensor
    cover: torch.Tensor
    condition: torch.Tensor
    generator: torch.Generator
    told: torch.Tensor | None = None
    common: int = mini.OTHER


def weights(cover: torch.Tensor, clean: torch.Tensor, defect: float) -> torch.Tensor:
    """Weight of each place of the latents [N, c, h, w] in the loss, [N, 1, h, w] of mean 1 in each
    image: `defect` to 1 by the share of it that the mask covers. A crack is under 1 % of a tile, so
    of a plain loss (cf. DefectFill, Song et al. 2025)."""
    cover = F.adaptive_avg_pool2d(cover.to(clean).div(255), clean.shape[-2:])
    weight = 1 + (defect - 1) * cover
    return weight / weight.mean(dim=(2, 3), keepdim=True)


def masks(request: AdapterRequest, size: int, told: bool = False) -> np.ndarray:
    """Pixel masks of the shots, uint8 [n, 1, size, size], white on the defect; black where there
    are none, or no setting asks for them and the backbone is not `told` them.
    """
    task, tuning = request.task, request.settings
    if not task.domain.has_masks or (tuning.defect == 1 and tuning.zoom == 1 and not told):
        return np.zeros((task.n_real, 1, size, size), np.uint8)
    return task.domain.masks(task.draw.shots, size)


class Batches:
    """Batches of images that are augmented anew at every step."""

    def __init__(self, request: AdapterRequest, backbone):
        self.request, self.backbone = request, backbone
        self.pixels = request.task.images(backbone.image_size)
        self.masks = masks(request, backbone.image_size, backbone.takes_masks)

    def __call__(self, step: int) -> Batch:
        both, condition, generator = self.augmented(step)
        clean, cover = self.backbone.encode(both[:, :-1]), both[:, -1:]
        told = self._told(cover, step) if self.backbone.takes_masks else None
        common = mini.condition(self.request.task.domain.name)
        return Batch(clean, cover, condition, generator, told, common)

    def _told(self, cover: torch.Tensor, step: int) -> torch.Tensor:
        """The masks but for a share of them, so that the rare class is known without one too."""
        rng = partitions.generator("told", self.request.seed, step)
        told = torch.from_numpy(rng.random(len(cover)) >= UNTOLD)
        return cover * told[:, None, None, None]

    def augmented(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
        """Images with their mask as last channel, uint8 [N, C + 1, S, S], condition [N], and the
        generator of the rest.
        """
        shots, rows, condition, _, generator = self._picked(step)
        common = np.zeros((len(rows) - len(shots), *self.masks.shape[1:]), np.uint8)
        cover = np.concatenate([self.masks[shots], common])
        both = np.concatenate([self.pixels[rows], cover], axis=1)
        return self._augmented(torch.from_numpy(both), generator), condition, generator

    def _picked(self, step: int):
        """What a step is made of: shots (places in draw.shots, [n]), rows of the domain's table
        [N], condition [N], generators.

        Shots come first, then the share `prior` of common training images under their own
        condition, so that the rare class must differ from them.
        """
        task, tuning = self.request.task, self.request.settings
        rng = np.random.default_rng([self.request.seed, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        n = tuning.batch
        n_rare = max(1, n - round(tuning.prior * n))
        shots = rng.integers(task.n_real, size=n_rare)
        rows = np.concatenate([task.draw.shots[shots], rng.choice(task.draw.common, n - n_rare)])
        condition = np.repeat([mini.RARE, mini.condition(task.domain.name)], [n_rare, n - n_rare])
        condition = np.where(rng.random(n) < tuning.no_condition, mini.NULL, condition)
        return shots, rows, torch.from_numpy(condition), rng, generator

    def _augmented(self, both: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Images with their mask as last channel: a mask moves with its image."""
        tuning, flips = self.request.settings, registry.get(self.request.task.domain.name).flips
        both = augmentation.flips_and_shifts(both, flips, tuning.shift, generator)
        return augmentation.turn_and_zoom(both, tuning.turn, tuning.zoom, generator, both[:, -1:])


class EncodedBatches(Batches):
    """Batches of images that are encoded once, since a large backbone's encoder takes about as long
    as a training step.

    So an image has not a new augmentation at every step but one of `views`, each drawn by (seed,
    row, view).
    """

    def __init__(self, request: AdapterRequest, backbone, steps: range):
        super().__init__(request, backbone)
        self.views = self._encoded(sorted({key for step in steps for key in self.keys(step)[0]}))

    def __call__(self, step: int) -> Batch:
        keys, condition, generator = self.keys(step)
        clean, cover = zip(*(self.views[key] for key in keys))
        return Batch(torch.stack(clean), torch.stack(cover), condition, generator)

    def keys(self, step: int):
        """(row, view) of each image of a step, its condition [N], and a generator for the rest."""
        _, rows, condition, rng, generator = self._picked(step)
        views = rng.integers(self.request.settings.views, size=len(rows))
        return list(zip(rows.tolist(), views.tolist())), condition, generator

    def _encoded(self, keys: list[tuple[int, int]]) -> dict:
        """(row, view) -> latents [c, h, w] and the mask there [1, h, w]."""
        cover = dict(zip(self.request.task.draw.shots.tolist(), self.masks))
        encoded = {}
        for start in range(0, len(keys), self.backbone.batch):
            some = keys[start : start + self.backbone.batch]
            both = torch.cat([self._view(row, view, cover) for row, view in some])
            clean = self.backbone.encode(both[:, :-1])
            small = F.adaptive_avg_pool2d(both[:, -1:].float(), clean.shape[-2:])
            encoded |= zip(some, zip(clean, small))
        return encoded

    def _view(self, row: int, view: int, cover: dict) -> torch.Tensor:
        rng = partitions.generator("view", self.request.seed, row, view)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        mask = cover.get(row, np.zeros_like(self.masks[0]))
        return self._augmented(
            torch.from_numpy(np.concatenate([self.pixels[row], mask])[None]), generator
        )
