"""Outer folds of groups, repeated: which images are held out together."""

from itertools import combinations

import numpy as np

from fsl_utils import StudyError
from fsl_utils.data import partitions

FOLDS = 5  # as many as there are groups with rare images, where these are fewer
FEWEST = 4  # folds: with two of them held out, two groups with rare images are left to train on


def number(labels: np.ndarray, groups: np.ndarray) -> int:
    """How many folds the groups allow; 0 where they are too few for any nested choice.

    Whatever two folds are held out, at least two groups of either class must be left.
    """
    fewest = min(len(np.unique(groups[labels == label])) for label in (0, 1))
    return 0 if fewest < FEWEST else min(FOLDS, fewest)


def assign(labels: np.ndarray, groups: np.ndarray, repeats: int, seed: int = 0) -> np.ndarray:
    """The fold of every image, int [repeats, N]: whole groups, rare images spread evenly.

    labels [N], groups [N] (names or numbers). Each repeat shuffles the groups anew. Raises
    StudyError where the groups are too few.
    """
    if not number(labels, groups):
        raise StudyError(
            f"nothing can be held out twice: at least {FEWEST} groups with images of either class "
            "are needed; label more parts first"
        )
    names, codes = np.unique(groups, return_inverse=True)
    counts = np.stack([np.bincount(codes[labels == c], minlength=len(names)) for c in (1, 0)])
    folds = number(labels, groups)
    return np.stack(
        [
            _assign(counts, folds, partitions.generator("decide", seed, repeat))[codes]
            for repeat in range(repeats)
        ]
    )


def _assign(counts: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of every group; counts [2, G] of its rare and common images."""
    order = rng.permutation(counts.shape[1])
    # Large groups first, equal ones in random order, each to the fold that has the fewest so far.
    order = order[np.lexsort([-counts[1][order], -counts[0][order]])]
    fold, have = np.empty(len(order), int), np.zeros((folds, 2), int)
    for group in order:
        column = 0 if counts[0][group] else 1
        fold[group] = np.lexsort([rng.random(folds), have[:, 1], have[:, column]])[0]
        have[fold[group]] += counts[:, group]
    return fold


def held(folds: int) -> list[tuple[int, ...]]:
    """What is held out in turn: each fold (to be scored) and each pair (to choose).

    A fit without folds j and k scores j for the choice that k is scored by, and the other way
    round: half as many fits as inner folds within each outer one.
    """
    return [(fold,) for fold in range(folds)] + list(combinations(range(folds), 2))
