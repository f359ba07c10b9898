"""Where the training images of an arm come from, beside the draw's common images: one object each.

A source says what it needs and why it cannot be, and gives its images, or their features, out of
the `material` of a run (`material.Material`). Nothing here imports torch: a grid plans with it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class ImageSource:
    """The shots alone, and the base of all others, which add n images to them."""

    name: str  # part of a cell's key
    scales: ClassVar[bool] = False  # whether a ratio has a meaning
    screened: ClassVar[bool] = False  # whether it needs a filter

    @property
    def pools(self) -> tuple[str, ...]:
        """The kinds of pool that it takes images of (see `plan.pools`)."""
        return ()

    @property
    def tuned(self) -> bool:
        """Whether it needs an adapter."""
        return bool(set(self.pools) - {"base"})

    def why_not(self, task, n: int) -> str:
        """Why it cannot add n images in a task, '' where it can."""
        return ""

    def params(self) -> dict:
        """What determines its images beside its pools and filter, as part of a cell's key."""
        return {}

    def rows(self, draw, n: int) -> np.ndarray:
        """Positions of the real rare images in the domain's table."""
        return draw.shots

    def rare(self, material, n: int) -> np.ndarray:
        """n images made for the rare class; fewer where a filter keeps fewer."""
        return material.real()[:0]

    def common(self, material, n: int) -> np.ndarray:
        """Images made for the common class."""
        return material.real()[:0]

    def facts(self, material, n: int) -> dict:
        """What a cell's manifest says of its images."""
        return {}

    def training(self, material, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The training set with n images added, uint8 [N, C, S, S] or features [N, D], and its labels [N], rare first."""
        real, draw = material.real(), material.task.draw
        rare, common = [real[self.rows(draw, n)]], [real[draw.common]]
        if n:
            rare.append(self.rare(material, n))
            common.append(self.common(material, n))
        labels = np.repeat([1, 0], [sum(map(len, rare)), sum(map(len, common))])
        return np.concatenate(rare + common), labels


@dataclass(frozen=True)
class Repeated(ImageSource):
    """The shots again and again."""

    scales: ClassVar[bool] = True

    def rows(self, draw, n: int) -> np.ndarray:
        return np.concatenate([draw.shots, draw.shots[np.arange(n) % len(draw.shots)]])


@dataclass(frozen=True)
class FurtherReal(ImageSource):
    """Further real rare images of the training groups: the ceiling."""

    scales: ClassVar[bool] = True

    def why_not(self, task, n: int) -> str:
        have = len(task.draw.more)
        return (
            ""
            if n <= have
            else (f"it needs {n} further rare images, but draw {task.draw.number} has {have}")
        )

    def rows(self, draw, n: int) -> np.ndarray:
        return np.concatenate([draw.shots, draw.more[:n]])


@dataclass(frozen=True)
class FromPools(ImageSource):
    """The first images of a kind of pool, for each class; '' for none."""

    rare_pool: str = ""
    common_pool: str = ""
    shots: bool = True  # beside the shots, or in their place
    scales: ClassVar[bool] = True

    @property
    def pools(self) -> tuple[str, ...]:
        return tuple(kind for kind in (self.rare_pool, self.common_pool) if kind)

    def why_not(self, task, n: int) -> str:
        return "" if n or self.shots else "it has no rare image at all: take a larger ratio"

    def rows(self, draw, n: int) -> np.ndarray:
        return draw.shots if self.shots else draw.shots[:0]

    def rare(self, material, n: int) -> np.ndarray:
        return material.pool(self.rare_pool, n) if self.rare_pool else super().rare(material, n)

    def common(self, material, n: int) -> np.ndarray:
        return (
            material.pool(self.common_pool, n) if self.common_pool else super().common(material, n)
        )


@dataclass(frozen=True)
class Filtered(FromPools):
    """Of the rare pool the first images that the filter keeps."""

    screened: ClassVar[bool] = True

    def rare(self, material, n: int) -> np.ndarray:
        return material.kept(n)

    def facts(self, material, n: int) -> dict:
        return {"filtered": {"wanted": n, **material.counts(n)}}


@dataclass(frozen=True)
class Pasted(ImageSource):
    """Common training images with a shot's defect on them."""

    scales: ClassVar[bool] = True

    def why_not(self, task, n: int) -> str:

        has = task.domain.has_masks
        return "" if has else f"{task.domain.name} has no pixel masks to cut a defect out by"

    def params(self) -> dict:
        from fsl_utils.generator import regions

        return {"paste": regions.SETTINGS}

    def rare(self, material, n: int) -> np.ndarray:
        from fsl_utils.generator import regions

        return material.made(
            self.name,
            self.params() | material.task.params(),
            lambda most: regions.paste(
                material.task, material.image_size, material.seed, range(most)
            ),
        )[:n]
