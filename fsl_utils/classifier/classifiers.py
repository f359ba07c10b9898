"""The classifiers of the study in one table: what each takes and needs, and how it is trained and scored.

Nothing here imports torch before a classifier is used: a grid plans with it.
"""

from typing import ClassVar

import numpy as np

from fsl_utils import StudyError
from fsl_utils.classifier import arms


class Classifier:
    """What every classifier has. One that takes features is given them in place of images."""

    name: ClassVar[str]
    features: ClassVar[bool] = False
    inits: ClassVar[tuple[str, ...]]  # the weights that it can begin with

    def check(self, init: str) -> None:
        """Raise StudyError for weights that it cannot begin with."""
        if init not in self.inits:
            known = " or ".join(self.inits)
            raise StudyError(
                f"init is '{init}', but {self.name} begins with {known}: set init='{known}'"
            )

    def why_not(self, arm: arms.Arm) -> str:
        """Why it cannot be trained as an arm says, '' where it can."""
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

    def training(self, cell, material) -> tuple[np.ndarray, np.ndarray]:
        """A cell's training set and its labels (see `sources.ImageSource.training`)."""
        return cell.source.training(material, cell.n)

    def scores(self, cell, x: np.ndarray, y: np.ndarray, material) -> np.ndarray:
        """Trained on x and y, the probability of the rare class of `material.evaluated`, float64 [M]."""
        raise NotImplementedError


class Probe(Classifier):
    """Logistic regression on frozen features: a convex fit, weighted by class."""

    name = "probe"
    features = True
    inits = ("imagenet",)

    def why_not(self, arm: arms.Arm) -> str:
        # Balancing it again, or fitting its head twice, gives the same classifier.
        plain = arm.sampling == "natural" and arm.loss == "bce" and not arm.refit
        return "" if plain else "the probe knows no such recipe"

    def settings(self, steps: int) -> dict:
        from fsl_utils.classifier import models

        return models.PROBE

    def training(self, cell, material):
        x, y = super().training(cell, material)
        if cell.recipe.augmentation == "strong" and cell.n:
            copies = material.augmented(cell.n)
            x, y = np.concatenate([x, copies]), np.concatenate([y, np.ones(len(copies), int)])
        return x, y

    def scores(self, cell, x, y, material):
        from fsl_utils.classifier import models

        real = material.real()
        fitted = models.fit_probe(x, y, real[cell.task.training])
        return models.score_probe(fitted, real[material.evaluated])


class ResNet18(Classifier):
    """torchvision's ResNet-18 with one logit."""

    name = "resnet18"
    inits = ("scratch", "imagenet")

    def settings(self, steps: int) -> dict:
        from fsl_utils.classifier import models

        return {**models.RESNET, "steps": steps}

    def scores(self, cell, x, y, material):
        import torch

        from fsl_utils.classifier import models

        images, draw = material.real(), cell.task.draw
        for last in models.train_resnet(
            torch.from_numpy(x),
            torch.from_numpy(y),
            cell.recipe,
            steps=cell.settings["steps"],
            seed=cell.seed * 1000 + draw.number,
            init=cell.init,
            flips=material.flips,
            device=material.device,
        ):
            model = last["model"]
        if not cell.recipe.refit:
            return models.score_resnet(model, images[material.evaluated], material.device)
        # cRT, Kang et al. 2020: the head again, on balanced real images alone
        inner, scored = (
            models.score_resnet(model, images[rows], material.device, penultimate=True)
            for rows in (cell.task.training, material.evaluated)
        )
        fitted = models.fit_probe(inner, draw.labels[cell.task.training], inner)
        return models.score_probe(fitted, scored)


CLASSIFIERS = {each.name: each for each in (Probe(), ResNet18())}


def get(name: str) -> Classifier:
    """A classifier by name. Raises StudyError where there is none."""
    if name not in CLASSIFIERS:
        raise StudyError(f"unknown classifier '{name}': known are {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[name]
