"""Near-duplicates across groups: one picture that was saved again, or one object under two names.

What a folder's reader joins is one content; this finds the same picture after another compression,
size, brightness or a slight crop. Cheap signatures shortlist each image's nearest ones. Each such
pair is laid over each other, and its fine structure compared where both show it, whitened by what
all images share, so that busbars or a common background do not count.

Measured on development images: in folders of 80, different images agree by at most .73 (`elpv`)
and .85 (`pv_cracks`), copies of JPEG quality 30, half as bright or of another gamma by .90 or more.
Among all of `elpv` different ones agree by at most .73, and one in six copies half as bright is
missed. Missed are also: copies so bright that most is white; many crops of cells
that show little but busbars; pictures of nothing but noise, of which JPEG keeps little; mirrors.
"""

import numpy as np
import pandas as pd
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from fsl_utils.data import alignment, leaks
from fsl_utils.data.datasets.groups import joined

SIZE = 64  # of the images that are compared, pixels
ALIKE = 0.87  # agreement from which two images are one picture
NEAREST = 6  # images of other groups that each one is compared with, by each signature
_COARSE, _PROMISING = 32, 0.4  # pixels of a first look; agreement in it, else there is no second
_FEWEST = 0.3  # share of the pixels that a pair must both show
_FAINT = 0.25  # of the usual strength of fine structure: below it there is none to compare
_STRONG = 0.5  # of locally normalised structure: a stronger edge (a busbar) counts for no more
_USUAL = 1000  # images that say what is shared
_BLOCK = 500


def pairs(pixels: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    """Near-duplicates of different groups: image, other (rows), agreement; the most alike first.

    pixels: uint8 [N, 1, SIZE, SIZE]; groups [N]. Images without structure agree with none.
    """
    first, other = shortlist(pixels, np.asarray(groups))
    place = np.zeros((len(first), 4), np.float32)
    for size, iterations, least in ((_COARSE, 8, _PROMISING), (SIZE, 4, ALIKE)):
        place, agreement = _compared(Structure(pixels, size), first, other, place, iterations)
        keep = agreement >= least
        first, other, place, agreement = first[keep], other[keep], place[keep], agreement[keep]
    table = pd.DataFrame({"image": first, "other": other, "agreement": agreement.round(3)})
    return table.sort_values("agreement", ascending=False, kind="stable", ignore_index=True)


def merged(groups: pd.Series, found: pd.DataFrame) -> pd.Series:
    """Groups, of which those become one that near-duplicates link. found: of `pairs`."""
    n = len(groups)
    links = sparse.coo_array((np.ones(len(found)), (found["image"], found["other"])), (n, n))
    return joined(groups, pd.Series(connected_components(links)[1], groups.index))


def shortlist(pixels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (rows, rows) worth a look: the NEAREST of other groups by either signature."""
    fine = leaks.shrunk(leaks.locally_normalised(pixels[:, 0].astype(np.float32)), 16)
    found = set()
    for vectors in (leaks.fingerprints(pixels), _without_shared(fine)):
        for start in range(0, len(vectors), _BLOCK):
            likeness = vectors[start : start + _BLOCK] @ vectors.T
            likeness[groups[start : start + _BLOCK][:, None] == groups] = -np.inf
            near = np.argsort(-likeness, axis=1, kind="stable")[:, :NEAREST]
            rows, columns = np.nonzero(np.isfinite(np.take_along_axis(likeness, near, axis=1)))
            one, two = rows + start, near[rows, columns]
            found.update(zip(np.minimum(one, two).tolist(), np.maximum(one, two).tolist()))
    chosen = np.array(sorted(found), np.int64).reshape(-1, 2)
    return chosen[:, 0], chosen[:, 1]


def _without_shared(x: np.ndarray) -> np.ndarray:
    """Unit vectors of x [N, D] without its mean and up to 10 leading components."""
    x = x - x.mean(axis=0)
    shared = np.linalg.svd(x[:_USUAL], full_matrices=False)[2][: min(10, len(x) // 25)]
    x = x - x @ shared.T @ shared
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)


class Structure:
    """Fine structure of images at one size, and how it varies among them.

    fine: float32 [N, S, S], locally normalised, strong edges cut. clipped: where the image is black
    or white, which another exposure may have changed, float32 [N, S, S]. faint: whether there is
    next to no structure, bool [N].
    """

    def __init__(self, pixels: np.ndarray, size: int):
        step = pixels.shape[-1] // size
        x = pixels[:, 0].astype(np.float32).reshape(len(pixels), size, step, size, step)
        x = x.mean(axis=(2, 4))
        smooth = (0, 1, 1)
        fine = leaks.locally_normalised(x).clip(-_STRONG, _STRONG)
        self.fine = ndimage.gaussian_filter(fine, smooth)
        self.clipped = ((x <= 1) | (x >= 254)).astype(np.float32)
        flat = self.fine.reshape(len(x), -1)
        strength = np.linalg.norm(flat, axis=1)
        self.faint = strength <= _FAINT * np.median(strength)
        self.mean = flat.mean(axis=0)
        usual = flat[:_USUAL] - self.mean
        variance, vectors = np.linalg.eigh(usual @ usual.T / len(usual))
        variance = np.maximum(variance, 1e-6)
        self.axes = (usual.T @ (vectors / np.sqrt(len(usual) * variance))).T
        self.shrink = 1 - np.sqrt(1 / (1 + variance / variance.mean()))

    def whitened(self, fine: np.ndarray) -> np.ndarray:
        """Fine structure [P, S, S] -> [P, S * S], damped along what varies among images."""
        x = fine.reshape(len(fine), -1) - self.mean
        return x - ((x @ self.axes.T) * self.shrink) @ self.axes


def _compared(structure: Structure, first, other, place, iterations):
    """Places [P, 4] and agreement [P] in -1..1 of pairs after a finer alignment."""
    places, found = np.empty_like(place), np.empty(len(place), np.float32)
    for start in range(0, len(place), _BLOCK):
        part = slice(start, start + _BLOCK)
        one, two = first[part], other[part]
        places[part] = alignment.aligned(
            structure.fine[one], structure.fine[two], place[part], iterations
        )
        found[part] = _agreement(structure, one, two, places[part])
    return places, found


def _agreement(structure: Structure, one, two, place: np.ndarray) -> np.ndarray:
    """Correlation of whitened fine structure where both images show it, -1 where they do not."""
    stack = np.stack([structure.fine[two], structure.clipped[two]], axis=1)
    moved, clipped = alignment.warped(stack, place).transpose(1, 0, 2, 3)
    inside = alignment.overlap(place, moved.shape[-1])
    moved = np.where(inside, moved, structure.mean.reshape(moved.shape[1:]))
    shown = inside & (np.abs(clipped - structure.clipped[one]) < 0.05)
    shown = shown.reshape(len(shown), -1).astype(np.float32)
    x, y = (_centred(structure.whitened(each), shown) for each in (structure.fine[one], moved))
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    agreement = np.einsum("pd,pd->p", x, y) / np.maximum(norms, 1e-6)
    none = (shown.mean(axis=1) < _FEWEST) | structure.faint[one] | structure.faint[two]
    return np.where(none, -1, agreement)


def _centred(x: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """x [P, D] about its mean where shown, 0 elsewhere."""
    mean = (x * shown).sum(axis=1) / np.maximum(shown.sum(axis=1), 1)
    return (x - mean[:, None]) * shown
