"""Where the training images of an arm come from, beside the draw's common images: one object each.

A source says what it needs and why it cannot be, and gives its images, or their features, out of
the `material` of a run (`material.Material`). Nothing here imports torch: a grid plans with it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fsl_utils import halving
from fsl_utils.classifier.training import TrainingSet
from fsl_utils.data import partitions


@dataclass(frozen=True)
class ImageSource:
    """The shots alone, and the base of all others, which add n images to them."""

    name: str  # part of a cell's key
    scales: ClassVar[bool] = False  # whether a ratio has a meaning
    screened: ClassVar[bool] = False  # whether it needs a filter
    sampled: ClassVar[bool] = False  # whether it gives features alone, and no images
    chooses: ClassVar[bool] = False  # whether validation chooses what is taken (`adaptive`)

    @property
    def pools(self) -> tuple[str, ...]:
        """The kinds of pool that it takes images of (see `plan.pools`)."""
        return ()

    @property
    def makes(self) -> bool:
        """Whether it adds images that are not real, which a `synthetic_weight` may weigh."""
        return bool(self.pools)

    @property
    def tuned(self) -> bool:
        """Whether it needs an adapter."""
        return bool(set(self.pools) - {"base"})

    def candidates(self, n: int) -> int:
        """How many images of a pool it looks at to add n."""
        return n

    def why_not(self, task, n: int) -> str:
        """Why it cannot add n images in a task, '' where it can."""
        return ""

    @property
    def partitions(self) -> tuple[str, ...]:
        """Partitions beside development whose real images it takes."""
        return ()

    def params(self) -> dict:
        """What determines its images beside its pools and filter, as part of a cell's key."""
        return {}

    def rows(self, draw, n: int) -> np.ndarray:
        """Positions of the real rare images in the domain's table."""
        return draw.shots

    def base(self, task, n: int) -> np.ndarray:
        """Positions of real common images of the base partition, which stand beside the draw's."""
        return task.draw.common[:0]

    def rare(self, material, n: int) -> np.ndarray:
        """n images made for the rare class; fewer where a filter keeps fewer."""
        return material.real()[:0]

    def common(self, material, n: int) -> np.ndarray:
        """Images made for the common class."""
        return material.real()[:0]

    def facts(self, material, n: int) -> dict:
        """What a cell's manifest says of its images."""
        return {}

    def training(self, material, n: int, synthetic_weight: float = 0.0) -> TrainingSet:
        """The training set with n images added, rare first.

        synthetic_weight: the share of a class's weight that its made images carry; 0: as many as
        they are.
        """
        real, draw = material.real(), material.task.draw
        x, labels, groups, weights = [], [], [], []
        for label, rows, make in (
            (1, self.rows(draw, n), self.rare),
            (0, np.concatenate([draw.common, self.base(material.task, n)]), self.common),
        ):
            made = make(material, n) if n else real[:0]
            x += [real[rows], made]
            labels += [np.full(len(rows) + len(made), label)]
            groups += [draw.groups[rows], np.full(len(made), "")]
            share = synthetic_weight if len(made) and len(rows) else 0.0
            weights += [np.full(len(rows), (1 - share) / len(rows) if share else 1.0)]
            weights += [np.full(len(made), share / len(made) if share else 1.0)]
        parts = (np.concatenate(part) for part in (x, labels, groups, weights))
        return TrainingSet(*parts)


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
    base_common: bool = False  # with as many real common images of the base partition
    scales: ClassVar[bool] = True

    @property
    def pools(self) -> tuple[str, ...]:
        return tuple(kind for kind in (self.rare_pool, self.common_pool) if kind)

    @property
    def partitions(self) -> tuple[str, ...]:
        return ("base",) if self.base_common else ()

    def why_not(self, task, n: int) -> str:
        if not n and not self.shots:
            return "it has no rare image at all: take a larger ratio"
        have = len(task.domain.rows("base", 0)) if self.base_common else n
        short = f"it needs {n} common images of the base partition, which has {have}"
        return short if have < n else ""

    def base(self, task, n: int) -> np.ndarray:
        if not self.base_common:
            return super().base(task, n)
        rng = partitions.generator("base beside", task.draw.number)
        return rng.permutation(task.domain.rows("base", 0))[:n]

    def rows(self, draw, n: int) -> np.ndarray:
        return draw.shots if self.shots else draw.shots[:0]

    def rare(self, material, n: int) -> np.ndarray:
        return material.pool(self.rare_pool, n) if self.rare_pool else super().rare(material, n)

    def common(self, material, n: int) -> np.ndarray:
        return (
            material.pool(self.common_pool, n) if self.common_pool else super().common(material, n)
        )


@dataclass(frozen=True)
class Chosen(FromPools):
    """As many of the rare pool, or of both pools, as validation chooses, up to n."""

    chooses: ClassVar[bool] = True

    def params(self) -> dict:
        tried = {"recipes": list(halving.RECIPES), "ratios": list(halving.RATIOS)}
        return {"adaptive": tried | {"replicates": halving.REPLICATES}}


@dataclass(frozen=True)
class Filtered(FromPools):
    """Of the rare pool the first images that the filter keeps."""

    screened: ClassVar[bool] = True

    def rare(self, material, n: int) -> np.ndarray:
        return material.kept(n)

    def facts(self, material, n: int) -> dict:
        return {"filtered": {"wanted": n, **material.counts(n)}}


@dataclass(frozen=True)
class Covering(FromPools):
    """Of several times as many of the rare pool those that cover the shots."""

    def params(self) -> dict:
        from fsl_utils.classifier import covering

        return {"candidates": covering.CANDIDATES}

    def candidates(self, n: int) -> int:
        from fsl_utils.classifier import covering

        return covering.CANDIDATES * n

    def rare(self, material, n: int) -> np.ndarray:
        from fsl_utils.classifier import covering, features

        seen, looked = material.through(features.View()), self.candidates(n)
        shots = seen.real()[material.task.draw.shots]
        kept = covering.choose(shots, seen.pool(self.rare_pool, looked), n)
        return material.pool(self.rare_pool, looked)[kept]


@dataclass(frozen=True)
class Pasted(ImageSource):
    """Common training images with a shot's defect on them."""

    scales: ClassVar[bool] = True
    makes: ClassVar[bool] = True

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
            lambda most: regions.paste(material.task, material.size, material.seed, range(most)),
        )[:n]


@dataclass(frozen=True)
class Calibrated(ImageSource):
    """Features sampled around the shots with the spread of the common images: no generator at
    all.
    """

    scales: ClassVar[bool] = True
    makes: ClassVar[bool] = True
    sampled: ClassVar[bool] = True

    def params(self) -> dict:
        from fsl_utils.classifier import calibrated

        return {"calibrated": calibrated.SETTINGS}

    def rare(self, material, n: int) -> np.ndarray:
        from fsl_utils.classifier import calibrated

        real, draw = material.real(), material.task.draw
        seed = material.seed * 1000 + draw.number
        return calibrated.sample(real[draw.shots], real[draw.common], n, seed)
