"""Near-duplicates across groups: one picture that was saved again, or one object under two names.

What a folder's reader joins is one content; this finds the same picture after another compression,
size or brightness. Two images are near-duplicates where their fine structure agrees once what many
images share (mean and leading principal components) is taken away, so that busbars or a common
background do not count. It is no more than a warning: among 60 to 1,000 real cells and tiles the
most alike of different groups agree by .49 to .92, the least alike of 20 copies, darkened and saved
as JPEG of quality 85, by .80 to .89.
"""

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from fsl_utils.data import leaks
from fsl_utils.data.datasets.groups import joined

SIZE = 64  # of the images that are compared, pixels
ALIKE = 0.87  # agreement from which two images are one picture
SHARED = 20  # principal components that are taken away at most, one for 25 images
_BLOCK = 1000


def pairs(pixels: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    """Near-duplicates of different groups: image, other (rows), agreement; the most alike first.

    pixels: uint8 [N, 1, SIZE, SIZE]; groups [N]. Empty images (one grey level) agree with none.
    """
    vectors, groups = _structure(pixels), np.asarray(groups)
    found = []
    for start in range(0, len(vectors), _BLOCK):
        agreement = vectors[start : start + _BLOCK] @ vectors.T
        i, j = np.nonzero(agreement >= ALIKE)
        keep = (i + start < j) & (groups[i + start] != groups[j])
        i, j = i[keep], j[keep]
        found.append(
            pd.DataFrame({"image": i + start, "other": j, "agreement": agreement[i, j].round(3)})
        )
    table = pd.concat(found, ignore_index=True)
    return table.sort_values("agreement", ascending=False, kind="stable", ignore_index=True)


def merged(groups: pd.Series, found: pd.DataFrame) -> pd.Series:
    """Groups, of which those become one that near-duplicates link. found: of `pairs`."""
    n = len(groups)
    links = sparse.coo_array((np.ones(len(found)), (found["image"], found["other"])), (n, n))
    return joined(groups, pd.Series(connected_components(links)[1], groups.index))


def _structure(pixels: np.ndarray) -> np.ndarray:
    """Unit vectors [N, D] of the locally normalised images without what many of them share."""
    fine = leaks.locally_normalised(pixels[:, 0].astype(np.float32)).reshape(len(pixels), -1)
    fine[np.ptp(pixels.reshape(len(pixels), -1), axis=1) == 0] = 0
    alive = np.flatnonzero(np.abs(fine).max(axis=1) > 0)
    if not len(alive):
        return fine
    fine[alive] -= fine[alive].mean(axis=0)
    # Copies would share a component of their own where images are few: they have no say in these.
    usual = _without_suspects(fine, alive)
    if components := min(SHARED, len(usual) // 25):
        shared = np.linalg.svd(fine[usual[:_BLOCK]], full_matrices=False)[2][:components]
        fine[alive] -= fine[alive] @ shared.T @ shared
    return _unit(fine)


def _without_suspects(fine: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Rows of `alive` that agree with no earlier one; all of them where fewer than half do not."""
    vectors, suspect = _unit(fine[alive]), np.zeros(len(alive), bool)
    for start in range(0, len(alive), _BLOCK):
        agreement = vectors[start : start + _BLOCK] @ vectors.T
        suspect[start : start + _BLOCK] = (np.tril(agreement, start - 1) >= ALIKE).any(axis=1)
    return alive if suspect.mean() > 0.5 else alive[~suspect]


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
