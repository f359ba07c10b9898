"""What pretraining sees: common images of base partitions, or of a draw; beside them corpora, and
drawn defects with their masks.
"""

import numpy as np
import pandas as pd
import torch

from fsl_utils import StudyError
from fsl_utils.data import augmentation, domains, partitions
from fsl_utils.data.corpora import Corpus
from fsl_utils.data.datasets import registry
from fsl_utils.generator import mini, structures

BATCH = 32
NO_CONDITION = 0.1  # share of images trained without condition, for guidance
HELD_OUT = 0.1  # share of base groups that only the loss curve sees
CORPUS_TURN = 4  # images of a domain for one of each corpus
DRAWN = 0.5  # share of images with drawn defects, for a backbone that takes masks
LEAST_SHOTS = 2  # a draw's common images are the same with any number of shots


class BaseImages:
    """Base images of the domains: `images` uint8 [N, 1, S, S], `condition` [N], `held_out` [N]
    (bool), `files`: their names by domain; beside them those of corpora.

    draw: the draw whose common training images stand in for base images, or None. Raises StudyError
    where a domain has none.
    """

    def __init__(
        self,
        tasks: list[domains.Domain],
        size: int = 64,
        corpora: tuple[Corpus, ...] = (),
        draw: int | None = None,
    ):
        parts, self.files = [], {}
        for domain in tasks:
            if draw is None:
                rows = domain.rows("base", label=0)
            else:
                rows = partitions.draw(domain.table, draw, LEAST_SHOTS).common
            if not len(rows):
                raise StudyError(
                    f"{domain.name} has no base image, since every group has a rare one: "
                    "take a draw's own common training images (--from draw), for that draw alone"
                )
            condition = np.full(len(rows), mini.condition(domain.name))
            apart = _held_out(domain.name, domain.table["group"].iloc[rows])
            parts.append((domain.images(size)[rows], condition, apart))
            self.files[domain.name] = domain.table["image"].iloc[rows].tolist()
        self.flips = {mini.condition(task.name): registry.get(task.name).flips for task in tasks}
        turns = list(self.flips) * (CORPUS_TURN if corpora else 1)
        for corpus in corpora:
            seen = corpus.images(size)
            parts.append((seen, np.full(len(seen), corpus.condition), np.zeros(len(seen), bool)))
            self.files[corpus.name] = len(seen)
            self.flips[corpus.condition] = corpus.flips
            turns.append(corpus.condition)
        self.images, self.condition, self.held_out = map(np.concatenate, zip(*parts))
        self.train = [np.flatnonzero((self.condition == c) & ~self.held_out) for c in turns]

    def batch(
        self, step: int, rng: np.random.Generator, generator: torch.Generator, drawn: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The batch of a step: images uint8 [32, 1, S, S], mirrored and moved, masks of the same
        shape, and condition [32], now and then none.

        Domains take turns. drawn: half of the images have drawn defects, which their mask marks.
        """
        turns = (step * BATCH + np.arange(BATCH)) % len(self.train)
        rows = np.array([rng.choice(self.train[i]) for i in turns])
        pixels = torch.from_numpy(self.images[rows])
        for c, allowed in self.flips.items():
            chosen = torch.from_numpy(self.condition[rows] == c)
            pixels[chosen] = augmentation.flips_and_shifts(pixels[chosen], allowed, 2, generator)
        masks = torch.zeros_like(pixels)
        for i in np.flatnonzero(rng.random(BATCH) < DRAWN) if drawn else ():
            image, mask = structures.draw(pixels[i, 0].numpy(), rng)
            pixels[i, 0], masks[i, 0] = torch.from_numpy(image), torch.from_numpy(mask)
        alone = rng.random(BATCH) < NO_CONDITION
        condition = torch.from_numpy(np.where(alone, mini.NULL, self.condition[rows]))
        return pixels, masks, condition


def _held_out(name: str, groups: pd.Series) -> np.ndarray:
    """Which images are of the groups that only the loss curve sees, bool."""
    rng = partitions.generator(name, "held out of pretraining")
    return groups.isin(
        partitions.pick(pd.Series(name, index=groups.unique()), HELD_OUT, rng)
    ).to_numpy()
