"""Where the defects of a pool lie (mode `mask`): masks of the shots moved or mixed, and drawn ones.

Image i of a pool has its own mask, seeded from (draw, seed, i), and sees masks of the shots alone.
"""

import numpy as np

from fsl_utils import StudyError
from fsl_utils.data import partitions
from fsl_utils.data.datasets import registry
from fsl_utils.generator import regions, structures

# Shares of masks that are one shot's, those of two together, and drawn anew.
SETTINGS = {"moved": 0.6, "mixed": 0.2, "drawn": 0.2}


def of_pool(pool, numbers, size: int) -> np.ndarray:
    """Masks of images `numbers` of a pool (a PoolRequest), uint8 [n, 1, size, size], 0 or 255.

    Raises StudyError where the domain has no pixel masks, or no shot has a mark.
    """
    domain = pool.task.domain
    if not domain.has_masks:
        raise StudyError(
            f"mode 'mask' needs pixel masks, and {domain.name} has none: take mode 'noise'"
        )
    _, found = regions.masks(pool.task, size)
    flips = registry.get(domain.name).flips
    return np.stack([_mask(found, flips, size, pool, i) for i in numbers])[:, None]


def _mask(found: np.ndarray, flips: str, size: int, pool, number: int) -> np.ndarray:
    rng = partitions.generator("layout", pool.task.draw.number, pool.seed, number)
    kind = rng.choice(list(SETTINGS), p=list(SETTINGS.values()))
    if kind == "drawn":
        return structures.mask(size, rng)
    marked = regions.warped(found, flips, rng)
    if kind == "mixed":
        marked = marked | regions.warped(found, flips, rng)
    return np.where(marked, 255, 0).astype(np.uint8)
