"""Is a synthetic image a copy? The nearest real image of each, and a verdict that real images set.

A real image that the generator never saw also has a nearest real image. 'copied' means: nearer than
all but the nearest 2 % of such images are, groups apart. What that rule says of other unseen real
images (its false alarms) stands beside every copy rate.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from sklearn.model_selection import GroupKFold

from fsl_utils import StudyError
from fsl_utils.data.datasets import registry
from fsl_utils.data.tasks import FewShotTask

QUANTILE = 0.02
SIZE = 64  # pixels; images of another size are resized to it
SHIFT = 2  # pixels of 64: what the light augmentation moves shots by
BLUR = 1.5  # standard deviation in pixels: noise and softness of a copy shall not hide it
STEP = 2  # after the blur every second pixel tells as much
FOLDS = 5


class Rule(NamedTuple):
    """What images of one draw are judged by. rows: positions of the references. real: their pixels;
    names: their files. unseen: image and distance of the real images that set the threshold, the
    distance below which an image is called copied. false_alarm: share of unseen real images called
    so by thresholds set without their group (NaN: a single group).
    """

    rows: np.ndarray
    real: np.ndarray
    names: np.ndarray
    flips: str
    unseen: pd.DataFrame
    threshold: float
    false_alarm: float


class Verdicts(NamedTuple):
    """nearest: one row a synthetic image: number, image (name of the nearest real one), row (its
    position in the domain's table), distance, copied. unseen, threshold, false_alarm: of the
    `Rule`.
    """

    nearest: pd.DataFrame
    unseen: pd.DataFrame
    threshold: float
    false_alarm: float

    @property
    def rate(self) -> float:
        """Share of the synthetic images that are copied."""
        return float(self.nearest["copied"].mean())


def references(task: FewShotTask) -> np.ndarray:
    """Positions of the real images that a pool could copy: the shots, the common images that the
    adapter is trained beside them (prior preservation), and the base images of the backbone."""
    return np.concatenate([task.training, task.domain.rows("base", 0)])


def held_out(task: FewShotTask) -> np.ndarray:
    """Positions of the rare development images that neither adapter nor backbone has seen."""
    draw = task.draw
    return np.concatenate([draw.more, draw.validation[draw.labels[draw.validation] == 1]])


def distance_matrix(images: np.ndarray, real: np.ndarray, flips: str) -> np.ndarray:
    """Copy distance of every image to every real one, float32 [N, M] in 0..2: 1 - the correlation
    of their pixels, at the best flip ('hv', 'h' or '') and the best shift of up to 2 pixels each
    way.

    images, real: uint8 [N or M, C, H, W]. Correlation takes away brightness and contrast; the mean
    of the real images is projected out, because what all images of a domain share (busbars, lungs)
    tells no two apart.
    """
    real = _smooth(real)
    template = _centred(_window(real, 0, 0)).mean(axis=0)
    template /= max(np.linalg.norm(template), 1e-6)
    reference = _standardised(_window(real, 0, 0), template).T
    best = np.full((len(images), reference.shape[1]), 2.0, np.float32)
    for mirrored in _mirrored(_smooth(images), flips):
        for dy in range(-SHIFT, SHIFT + 1):
            for dx in range(-SHIFT, SHIFT + 1):
                np.minimum(
                    best,
                    1 - _standardised(_window(mirrored, dy, dx), template) @ reference,
                    out=best,
                )
    return best.clip(min=0)


def rule(task: FewShotTask, image_size: int, unseen: np.ndarray | None = None) -> Rule:
    """The rule that judges images against the draw's shots and common training images and the
    domain's base images.

    unseen: positions of the real images that set the threshold; without it the held-out rare ones,
    the like of a rare synthetic image. These serve a report alone: a choice within a run (a filter,
    the end of a training) must stay few-shot and passes `draw.common`. No image is compared with
    its own group, so that these, references themselves, tell as much as images that nothing saw.
    Raises StudyError where there is no unseen image.
    """
    domain, draw = task.domain, task.draw
    rows, real = references(task), domain.images(image_size)
    unseen = held_out(task) if unseen is None else unseen
    flips, names = registry.get(domain.name).flips, domain.table["image"].to_numpy()
    apart = distance_matrix(real[unseen], real[rows], flips)
    apart = np.where(draw.groups[unseen][:, None] == draw.groups[rows], np.inf, apart).min(axis=1)
    usual = np.isfinite(apart)  # else all references are of its group
    unseen, apart = unseen[usual], apart[usual]
    if not len(unseen):
        raise StudyError(
            "no unseen real image of another group than the references: a copy rate needs some"
        )
    return Rule(
        rows,
        real[rows],
        names[rows],
        flips,
        pd.DataFrame({"image": names[unseen], "distance": apart}),
        float(np.quantile(apart, QUANTILE)),
        false_alarm(apart, draw.groups[unseen]),
    )


def judge(images: np.ndarray, by: Rule, ignored: np.ndarray | None = None) -> Verdicts:
    """Judge synthetic images, uint8 [N, C, S, S]; `ignored`, bool [N, M], are references that an
    image is meant to resemble.

    Raises StudyError where there is no image.
    """
    if not len(images):
        raise StudyError("0 synthetic images: a copy rate needs some")
    distance = distance_matrix(images, by.real, by.flips)
    if ignored is not None:
        distance = np.where(ignored, 2, distance)
    found = distance.argmin(axis=1)
    nearest = pd.DataFrame(
        {
            "number": np.arange(len(images)),
            "image": by.names[found],
            "row": by.rows[found],
            "distance": distance.min(axis=1),
        }
    )
    return Verdicts(
        nearest.assign(copied=nearest["distance"] < by.threshold),
        by.unseen,
        by.threshold,
        by.false_alarm,
    )


def false_alarm(nearest: np.ndarray, groups: np.ndarray) -> float:
    """Share of unseen real images called copied, each by the threshold of images of other groups.

    nearest: their distances to the nearest reference, [N]. Five folds by group; NaN where there is
    one group.
    """
    folds = min(FOLDS, len(np.unique(groups)))
    if folds < 2:
        return float("nan")
    called = [
        nearest[judged] < np.quantile(nearest[setting], QUANTILE)
        for setting, judged in GroupKFold(folds).split(nearest, groups=groups)
    ]
    return float(np.concatenate(called).mean())


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


def _smooth(images: np.ndarray) -> np.ndarray:
    pixels = resized(images).numpy()
    return gaussian_filter(pixels, (0, 0, BLUR, BLUR), mode="nearest")


def _window(pixels: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """The image without a rim of SHIFT pixels, moved by (dy, dx), every second pixel, as rows [N,
    D].
    """
    size = pixels.shape[-1]
    ys, xs = (slice(SHIFT + d, size - SHIFT + d, STEP) for d in (dy, dx))
    return pixels[:, :, ys, xs].reshape(len(pixels), -1)


def _mirrored(pixels: np.ndarray, flips: str) -> list[np.ndarray]:
    found = [pixels]
    if "h" in flips:
        found.append(pixels[..., ::-1])
    if "v" in flips:
        found += [each[..., ::-1, :] for each in list(found)]
    return found


def _centred(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(axis=1, keepdims=True)


def _standardised(rows: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Rows with mean 0, free of `template` (unit length), of length 1."""
    rows = _centred(rows)
    rows -= (rows @ template)[:, None] * template
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
