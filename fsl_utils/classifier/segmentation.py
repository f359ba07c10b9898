"""Where is the defect? A small head on frozen maps of EfficientNet-Lite0 that marks its pixels, and
what pools of mode `mask` do for it: their images come with the place of their defect.

As the echocardiography study (arXiv 2403.19880) trains on synthetic pairs of image and label map.
Maps of strides 4, 8 and 16 are brought to stride 4 and stacked (hypercolumns, Hariharan et al.
2015); two convolutions give a logit a place. The rival that costs nothing is drawn marks on common
images (DRAEM, Zavrtanik et al. 2021).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from torch import nn

from fsl_utils import StudyError
from fsl_utils.classifier import features
from fsl_utils.data import partitions
from fsl_utils.data.datasets import registry
from fsl_utils.generator import layouts, sampling, structures
from fsl_utils.generator.mini128 import Mini128
from fsl_utils.generator.sampling import PoolRequest

LAYERS = (2, 4, 10)  # blocks that end the stages of strides 4, 8 and 16
ENLARGED = 2  # times the image, so that stride 4 is two pixels of it
WIDTH = 32
STEPS, BATCH, LEARNING_RATE = 300, 16, 3e-3
COMMON = 100  # common training images, whose masks are empty
ARMS = {
    "real": "the shots",
    "drawn": "the shots, and lines and blots drawn on common images",
    "synthetic": "the shots, and the pool with the masks that it was told",
    "synth_only": "the pool alone",
}


@dataclass(frozen=True)
class Marked:
    """Images and masks, uint8 [N, 1, S, S], white on the defect."""

    images: np.ndarray
    masks: np.ndarray


class Head(nn.Module):
    """Maps [N, C, h, w] of each layer -> logits [N, 1, size, size]."""

    def __init__(self, maps: list[torch.Tensor], size: int):
        super().__init__()
        self.size = size
        self.norm = nn.ModuleList(nn.BatchNorm2d(part.shape[1], affine=False) for part in maps)
        self.first = nn.Conv2d(sum(part.shape[1] for part in maps), WIDTH, 1)
        self.last = nn.Conv2d(WIDTH, 1, 3, padding=1)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        place = maps[0].shape[-2:]
        scaled = [norm(part.float()) for norm, part in zip(self.norm, maps)]
        stacked = [F.interpolate(part, place, mode="bilinear") for part in scaled]
        logits = self.last(F.relu(self.first(torch.cat(stacked, dim=1))))
        return F.interpolate(logits, (self.size, self.size), mode="bilinear")


def maps(images: np.ndarray) -> list[torch.Tensor]:
    """Frozen maps of uint8 [N, 1, S, S]: float16 [N, C, h, w] of each of LAYERS."""
    view = features.View(layers=(LAYERS[0],), pooled=False, input_size=ENLARGED * images.shape[-1])
    return features.several(images, view, LAYERS)


def train(marked: list[Marked], common: np.ndarray, flips: str, seed: int) -> Head:
    """A head trained for STEPS; half of each batch is marked, half common, uint8 [N, 1, S, S].

    flips: axes along which a mirrored image is still one of the domain. Loss: cross-entropy and one
    minus the soft Dice of the batch (Milletari et al. 2016).
    """
    empty = Marked(common, np.zeros_like(common))
    images, masks, chance = _mirrored([*marked, empty], flips)
    seen, size = maps(images), images.shape[-1]
    wanted = torch.from_numpy(masks >= structures.MARKED).float()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = Head(seen, size).train()
    optimiser = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    rng = partitions.generator("segmentation", seed)
    for _ in range(STEPS):
        rows = torch.from_numpy(rng.choice(len(images), BATCH, p=chance))
        logits = head([part[rows] for part in seen])
        loss = F.binary_cross_entropy_with_logits(logits, wanted[rows])
        loss = loss + 1 - soft_dice(logits.sigmoid(), wanted[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return head.eval()


def soft_dice(predicted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """2 |A B| / (|A| + |B|) of predictions in 0..1 and masks of 0 and 1, over the whole batch."""
    both = (predicted * wanted).sum()
    return (2 * both + 1) / (predicted.sum() + wanted.sum() + 1)


def _mirrored(parts: list[Marked], flips: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All images with their mirror images, their masks, and each one's chance; the last part is
    half of a batch, the others have the other half in equal shares.
    """
    shares = [1 / (len(parts) - 1)] * (len(parts) - 1) + [1.0]
    chance = [np.full(len(p.images), s / 2 / len(p.images)) for p, s in zip(parts, shares)]
    images = np.concatenate([part.images for part in parts])
    masks = np.concatenate([part.masks for part in parts])
    axes: list[tuple[int, ...]] = [(), *(({"h": -1, "v": -2}[axis],) for axis in flips)]
    images, masks = (np.concatenate([np.flip(x, axis) for axis in axes]) for x in (images, masks))
    each = np.tile(np.concatenate(chance), len(axes))
    return images, masks, each / each.sum()


@torch.inference_mode()
def predict(head: Head, images: np.ndarray) -> np.ndarray:
    """How likely each pixel is of a defect, float32 [N, 1, S, S] in 0..1."""
    return head(maps(images)).sigmoid().numpy()


def score(predicted: np.ndarray, masks: np.ndarray) -> dict:
    """Dice at .5, the mean over images [N, 1, S, S] that have a mark; average precision over the
    pixels of all; how many have a mark.
    """
    wanted = masks >= structures.MARKED
    found = predicted >= 0.5
    with_mark = wanted.any(axis=(1, 2, 3))
    both = (found & wanted).sum(axis=(1, 2, 3))
    sizes = found.sum(axis=(1, 2, 3)) + wanted.sum(axis=(1, 2, 3))
    return {
        "dice": float((2 * both[with_mark] / sizes[with_mark]).mean()),
        "pixel_ap": float(average_precision_score(wanted.ravel(), predicted.ravel())),
        "images": int(with_mark.sum()),
    }


def compare(pool: PoolRequest, n: int, seed: int = 0) -> pd.DataFrame:
    """Every arm of ARMS on the draw's validation images, a row each: arm, draw, `score`, groups.

    Scored are all rare ones and as many common ones, whose masks are empty. n: images of the pool,
    and of drawn ones. Raises StudyError where the pool has no masks.
    """
    if pool.mode != "mask":
        raise StudyError(
            f"a pool of mode '{pool.mode}' has no masks: set mode='mask' and backbone='mini128'"
        )
    task, size = pool.task, Mini128.image_size
    draw, domain = task.draw, task.domain
    real, flips = task.images(size), registry.get(domain.name).flips
    rng = partitions.generator("segmentation", draw.number, seed)
    common = real[rng.permutation(draw.common)[:COMMON]]
    shots = Marked(real[draw.shots], domain.masks(draw.shots, size))
    made = Marked(sampling.images_of(pool, n), layouts.of_pool(pool, range(n), size))
    drawn = [structures.draw(real[row, 0], rng) for row in rng.choice(draw.common, n)]
    pictures, marks = (np.stack(parts)[:, None] for parts in zip(*drawn))
    sets = [shots], [shots, Marked(pictures, marks)], [shots, made], [made]
    rare, clean = (draw.validation[draw.labels[draw.validation] == label] for label in (1, 0))
    clean = rng.permutation(clean)[: len(rare)]
    wanted = domain.masks(rare, size)
    wanted = np.concatenate([wanted, np.zeros_like(wanted, shape=(len(clean), *wanted.shape[1:]))])
    judged, groups = real[np.concatenate([rare, clean])], len(np.unique(draw.groups[rare]))
    rows = []
    for arm, marked in zip(ARMS, sets, strict=True):
        predicted = predict(train(marked, common, flips, seed), judged)
        rows.append({"arm": arm, "draw": draw.number} | score(predicted, wanted))
    return pd.DataFrame(rows).assign(groups=groups)
