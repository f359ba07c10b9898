"""Which images of a pool cover the shots: the arm `lora_covering`.

A generator paints some shots' likes often and others' never. After Chamfer guidance (arXiv
2508.10631), which steers sampling so that every exemplar has an image near it: here the images
are sampled first, and those near each shot are kept.
"""

import numpy as np

CANDIDATES = 4  # images that are looked at for each that is kept


def choose(shots: np.ndarray, candidates: np.ndarray, n: int) -> np.ndarray:
    """Positions of n candidates: the shots in turn each take the nearest that is left.

    Features [S, D] and [M, D], M at least n; near is by the cosine. The first n of a larger choice
    from the same candidates are the same.
    """
    near = _unit(shots) @ _unit(candidates).T
    chosen = []
    for turn in range(n):
        shot = near[turn % len(shots)]
        chosen.append(int(shot.argmax()))
        near[:, chosen[-1]] = -np.inf
    return np.array(chosen, int)


def _unit(features: np.ndarray) -> np.ndarray:
    wide = features.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)
