"""Is a synthetic image a copy? The nearest real image of each, and a verdict that real images set.

A real image that the generator never saw also has a nearest real image. 'copied' means: nearer than all
but the nearest 2 % of such images are, groups apart. What that rule says of other unseen real
images (its false alarms) stands beside every copy rate.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from sklearn.model_selection import GroupKFold

from . import StudyError, distances, domains

QUANTILE = 0.02
SHIFT = 2  # pixels of 64: what the light augmentation moves shots by
BLUR = 1.5  # standard deviation in pixels: noise and softness of a copy shall not hide it
STEP = 2  # after the blur every second pixel tells as much
FOLDS = 5


class Verdicts(NamedTuple):
    """nearest: one row a synthetic image: number, image (name of the nearest real one), row (its position in
    the domain's table), distance, copied. unseen: image and distance of the real images that set the
    threshold, the distance below which an image is called copied. false_alarm: share of unseen real images called so by thresholds set without their group (NaN: a single group)."""

    nearest: pd.DataFrame
    unseen: pd.DataFrame
    threshold: float
    false_alarm: float

    @property
    def rate(self) -> float:
        """Share of the synthetic images that are copied."""
        return float(self.nearest["copied"].mean())


def references(domain, draw) -> np.ndarray:
    """Positions of the real images that a pool could copy: the shots, and the common base images of the backbone."""
    return np.concatenate([draw.shots, domain.rows("base", 0)])


def held_out(domain, draw) -> np.ndarray:
    """Positions of the rare development images that neither adapter nor backbone has seen."""
    return np.concatenate([draw.more, draw.validation[draw.labels[draw.validation] == 1]])


def distance_matrix(images: np.ndarray, real: np.ndarray, flips: str) -> np.ndarray:
    """Copy distance of every image to every real one, float32 [N, M] in 0..2: 1 - the correlation of their
    pixels, at the best flip ('hv', 'h' or '') and the best shift of up to 2 pixels each way.

    images, real: uint8 [N or M, C, H, W]. Correlation takes away brightness and contrast; the mean of the real
    images is projected out, because what all images of a domain share (busbars, lungs) tells no two apart.
    """
    real = _smooth(real)
    template = _centred(_window(real, 0, 0)).mean(axis=0)
    template /= max(np.linalg.norm(template), 1e-6)
    reference = _standardised(_window(real, 0, 0), template).T
    best = np.full((len(images), reference.shape[1]), 2.0, np.float32)
    for mirrored in _mirrored(_smooth(images), flips):
        for dy in range(-SHIFT, SHIFT + 1):
            for dx in range(-SHIFT, SHIFT + 1):
                np.minimum(best, 1 - _standardised(_window(mirrored, dy, dx), template) @ reference, out=best)
    return best.clip(min=0)


def check(images: np.ndarray, domain, draw, image_size: int, unseen: np.ndarray | None = None) -> Verdicts:
    """Judge synthetic images, uint8 [N, C, S, S], against the draw's shots and the domain's base images.

    unseen: positions of the real images that set the threshold; without it the held-out rare ones,
    the like of a rare synthetic image. These serve a report alone: a choice within a run (a filter) must
    stay few-shot and passes `draw.common`. An unseen image is never compared with its own group.
    """
    rows, real = references(domain, draw), domain.images(image_size)
    unseen = held_out(domain, draw) if unseen is None else np.setdiff1d(unseen, rows)
    if not len(images) or not len(unseen):
        raise StudyError(f"{len(images)} synthetic and {len(unseen)} unseen real images: a copy rate needs both")
    flips = domains.SHEETS[domain.name].flips
    both = distance_matrix(np.concatenate([images, real[unseen]]), real[rows], flips)
    apart = np.where(draw.groups[unseen][:, None] == draw.groups[rows], np.inf, both[len(images) :]).min(axis=1)
    usual = np.isfinite(apart)  # else all references are of its group
    unseen, apart = unseen[usual], apart[usual]
    names = domain.table["image"].to_numpy()
    threshold = float(np.quantile(apart, QUANTILE))
    found = both[: len(images)].argmin(axis=1)
    nearest = pd.DataFrame({"number": np.arange(len(images)), "image": names[rows[found]], "row": rows[found],
                            "distance": both[np.arange(len(images)), found]})
    return Verdicts(nearest.assign(copied=nearest["distance"] < threshold), pd.DataFrame({"image": names[unseen], "distance": apart}),
                    threshold, false_alarm(apart, draw.groups[unseen]))


def false_alarm(nearest: np.ndarray, groups: np.ndarray) -> float:
    """Share of unseen real images called copied, each by the threshold of images of other groups.

    nearest: their distances to the nearest reference, [N]. Five folds by group; NaN where there is one group.
    """
    folds = min(FOLDS, len(np.unique(groups)))
    if folds < 2:
        return float("nan")
    called = [nearest[judged] < np.quantile(nearest[setting], QUANTILE) for setting, judged in GroupKFold(folds).split(nearest, groups=groups)]
    return float(np.concatenate(called).mean())


def _smooth(images: np.ndarray) -> np.ndarray:
    pixels = distances.resized(images).numpy()
    return gaussian_filter(pixels, (0, 0, BLUR, BLUR), mode="nearest")


def _window(pixels: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """The image without a rim of SHIFT pixels, moved by (dy, dx), every second pixel, as rows [N, D]."""
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
