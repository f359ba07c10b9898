"""What every classifier of the study has, and what those on frozen features share.

Nothing here imports torch before a classifier is used: a grid plans with it.
"""

from dataclasses import replace
from typing import ClassVar

import numpy as np

from fsl_utils import StudyError
from fsl_utils.classifier import arms


class Classifier:
    """What every classifier has."""

    name: ClassVar[str]
    title: ClassVar[str]  # in words
    copies: ClassVar[bool] = False  # whether strong augmentation gives it so many copies of images
    pooled: ClassVar[bool] = False  # whether it takes one vector of features an image
    whole: ClassVar[str] = ""  # why its training cannot end on real images alone, if it cannot
    embeds: ClassVar[bool] = False  # whether it trains an embedding, which `contrastive` needs
    grows: ClassVar[bool] = False  # whether images can join in the course of its training
    stepped: ClassVar[bool] = False  # whether `classifier_steps` says how long it is trained
    inits: ClassVar[tuple[str, ...]] = ("imagenet",)  # the weights that it can begin with

    def check(self, init: str) -> None:
        """Raise StudyError for weights that it cannot begin with."""
        if init not in self.inits:
            known = " or ".join(self.inits)
            raise StudyError(
                f"init is '{init}', but {self.name} begins with {known}: set init='{known}'"
            )

    def why_not(self, arm: arms.Arm) -> str:
        """Why it cannot be trained as an arm says, '' where it can."""
        if arm.anneal and self.whole:
            return self.whole
        if arm.loss == "contrastive" and not self.embeds:
            return "it trains no embedding that the contrastive loss could move"
        if arm.grow and not self.grows:
            return "it looks at no validation image while it trains"
        if arm.source.sampled and not self.pooled:
            return "it has no vector of features that could be sampled"
        return ""

    def pairs(self, names: list[str], ratios: list[float]) -> list[tuple[str, float]]:
        """(arm, ratio) of all that is asked of it, whether or not it can be."""
        return [(name, ratio) for name in names for ratio in arms.get(name).ratios(ratios, self)]

    def planned(self, names: list[str], ratios: list[float]) -> list[tuple[str, float]]:
        """Those of `pairs` that it knows, before it is known whether a draw has the images."""
        return self.pairs([name for name in names if not self.why_not(arms.get(name))], ratios)

    def settings(self, steps: int) -> dict:
        """What determines its training, as part of a cell's key; `steps`: of the optimiser."""
        raise NotImplementedError

    def scores(self, cell, material) -> np.ndarray:
        """Trained as a cell says, its score of `material.evaluated`, float64 [M] in 0..1; larger is
        rarer.
        """
        raise NotImplementedError


class OnFeatures(Classifier):
    """A convex fit on frozen features, weighted by class."""

    copies = True

    def why_not(self, arm: arms.Arm) -> str:
        # Balancing it again, or fitting its head twice, gives the same classifier.
        return super().why_not(arm) if arm.plain else f"{self.name} knows no such recipe"

    def view(self, size: int):
        """What it takes of images of `size` pixels (`features.View`)."""
        raise NotImplementedError

    def training(self, cell, material):
        """A cell's training set through the view, with augmented copies of both classes where the
        arm asks for them.
        """
        training = cell.source.training(material, cell.n, cell.synthetic_weight)
        if cell.recipe.augmentation != "strong" or not cell.n:
            return training
        added = [material.augmented(cell.n, label) for label in (1, 0)]
        return replace(
            training,
            inputs=np.concatenate([training.inputs, *added]),
            labels=np.concatenate([training.labels, np.repeat([1, 0], cell.n)]),
            groups=np.concatenate([training.groups, np.full(2 * cell.n, "")]),
            weights=np.concatenate([training.share, np.ones(2 * cell.n)]),
        )

    def scores(self, cell, material):
        seen = material.through(self.view(cell.size))
        return self.fitted(cell, self.training(cell, seen))(seen.real()[material.evaluated])

    def fitted(self, cell, training):
        """A function of features [M, ...] to scores [M]."""
        raise NotImplementedError


class OnProbeFeatures(OnFeatures):
    """On the vector of features that the probe takes."""

    pooled = True

    def settings(self, steps: int) -> dict:
        from fsl_utils.classifier import probe

        return probe.SETTINGS

    def view(self, size: int):
        from fsl_utils.classifier import probe

        return probe.view(size)
