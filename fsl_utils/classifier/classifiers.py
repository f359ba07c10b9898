"""The classifiers of the study in one table: what each takes and needs, and how it is trained and scored.

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
        """Trained as a cell says, its score of `material.evaluated`, float64 [M] in 0..1; larger is rarer."""
        raise NotImplementedError


class OnFeatures(Classifier):
    """A convex fit on frozen features, weighted by class."""

    copies = True

    def why_not(self, arm: arms.Arm) -> str:
        # Balancing it again, or fitting its head twice, gives the same classifier.
        plain = arm.sampling == "natural" and arm.loss == "bce" and not arm.refit
        return super().why_not(arm) if plain else f"{self.name} knows no such recipe"

    def view(self, size: int):
        """What it takes of images of `size` pixels (`features.View`)."""
        raise NotImplementedError

    def training(self, cell, material):
        """A cell's training set through the view, with augmented copies of both classes where the arm asks for them."""
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


class Probe(OnFeatures):
    name = "probe"
    title = "logistic regression on frozen features, robustly scaled"
    pooled = True

    def settings(self, steps: int) -> dict:
        from fsl_utils.classifier import probe

        return probe.SETTINGS

    def view(self, size: int):
        from fsl_utils.classifier import probe

        return probe.view(size)

    def fitted(self, cell, training):
        from fsl_utils.classifier import probe

        fitted = probe.fit(training)
        return (probe.refit_near(fitted, training) if cell.recipe.anneal else fitted).score


class FirstProbe(OnFeatures):
    """The first study's: its features are standardised over channels that hardly vary."""

    name = "probe_first"
    title = "logistic regression on the standardised last layer, the first study's"
    pooled = True

    def why_not(self, arm) -> str:
        return "it is there to be compared with" if arm.anneal else super().why_not(arm)

    def settings(self, steps: int) -> dict:
        from fsl_utils.classifier import models

        return models.PROBE

    def view(self, size: int):
        from fsl_utils.classifier import features

        return features.HEAD

    def fitted(self, cell, training):
        from fsl_utils.classifier import models

        x, y = training.inputs, training.labels
        model = models.fit_probe(x, y, x[training.real])
        return lambda scored: models.score_probe(model, scored)


class ResNet18(Classifier):
    name = "resnet18"
    title = "torchvision's ResNet-18, trained whole"
    inits = ("scratch", "imagenet")

    def why_not(self, arm) -> str:
        return "it has no second stage" if arm.anneal else super().why_not(arm)

    def settings(self, steps: int) -> dict:
        from fsl_utils.classifier import models

        return {**models.RESNET, "steps": steps}

    def scores(self, cell, material):
        import torch

        from fsl_utils.classifier import models

        images, draw = material.real(), cell.task.draw
        training = cell.source.training(material, cell.n, cell.synthetic_weight)
        for last in models.train_resnet(
            torch.from_numpy(training.inputs),
            torch.from_numpy(training.labels),
            cell.recipe,
            steps=cell.settings["steps"],
            seed=cell.seed * 1000 + draw.number,
            init=cell.init,
            flips=material.flips,
            weights=torch.from_numpy(training.share).float(),
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


class Whitened(Probe):
    name = "whitened"
    title = "linear discriminant under the covariance of all common training images"

    def why_not(self, arm) -> str:
        return "it is fitted in one step" if arm.anneal else super().why_not(arm)

    def settings(self, steps: int) -> dict:
        return {"layers": super().settings(steps)["layers"]}

    def fitted(self, cell, training):
        from fsl_utils.classifier import whitened

        return whitened.fit(training).score


class PatchProbe(OnFeatures):
    name = "patch_probe"
    title = "a logit at every place of a map, mean of the top tenth"

    def why_not(self, arm) -> str:
        return "it is fitted in one step" if arm.anneal else super().why_not(arm)

    def settings(self, steps: int) -> dict:
        from fsl_utils.classifier import patch_probe

        return patch_probe.SETTINGS

    def view(self, size: int):
        from fsl_utils.classifier import patch_probe

        return patch_probe.view(size)

    def fitted(self, cell, training):
        from fsl_utils.classifier import patch_probe

        return patch_probe.fit(training).score


class Detector(Classifier):
    """A distance from the draw's common training images; it sees no rare one."""

    def why_not(self, arm) -> str:
        plain = not (arm.source.scales or arm.loss != "bce" or arm.sampling != "natural")
        plain = plain and arm.augmentation == "light" and not arm.refit
        return "" if plain else "a detector sees the draw's common images alone"

    def settings(self, steps: int) -> dict:
        from fsl_utils.classifier import detectors

        return detectors.SETTINGS

    def layers(self, material, size: int) -> list:
        """What it takes of all images of the domain, one array a layer."""
        from fsl_utils.classifier import detectors, features

        inside = features.input_size(size)
        views = [
            features.View(layers=(n,), pooled=False, input_size=inside)
            for n in detectors.SETTINGS["maps"]
        ]
        return [material.through(view).real() for view in views]

    def fit(self, layers: list, seed: int):
        """A fitted `detectors.Detector`."""
        raise NotImplementedError

    def scores(self, cell, material):
        layers, draw = self.layers(material, cell.size), cell.task.draw
        seed = cell.seed * 1000 + draw.number
        detector = self.fit([layer[draw.common] for layer in layers], seed)
        return detector.score([layer[material.evaluated] for layer in layers])


class Mahalanobis(Detector):
    name = "mahalanobis"
    title = "Mahalanobis distance of pooled features, summed over stages; no rare image"

    def layers(self, material, size: int) -> list:
        from fsl_utils.classifier import detectors, features

        stages, inside = detectors.SETTINGS["stages"], features.input_size(size)
        views = [features.View(layers=(stage,), input_size=inside) for stage in stages]
        return [material.through(view).real() for view in views]

    def fit(self, layers: list, seed: int):
        from fsl_utils.classifier import detectors

        return detectors.mahalanobis(layers)


class Padim(Detector):
    name = "padim"
    title = "a Gaussian at every place of the maps; no rare image"

    def fit(self, layers: list, seed: int):
        from fsl_utils.classifier import detectors

        return detectors.padim(layers, seed)


class PatchCore(Detector):
    name = "patchcore"
    title = "distance of patches from a coreset of common ones; no rare image"

    def fit(self, layers: list, seed: int):
        from fsl_utils.classifier import detectors

        return detectors.patchcore(layers, seed)


class ProbeAnomaly(Probe):
    name = "probe_anomaly"
    title = "the probe with the Mahalanobis distance as one more feature"

    def why_not(self, arm) -> str:
        real = not (arm.source.scales or arm.anneal or arm.augmentation == "strong")
        return super().why_not(arm) if real else "its distance is known of the real images alone"

    def scores(self, cell, material):
        from fsl_utils.classifier import anomaly, detectors, probe

        seen = material.through(self.view(cell.size))
        training, draw = self.training(cell, seen), cell.task.draw
        layers = Mahalanobis().layers(material, cell.size)
        rows = np.concatenate([draw.shots, draw.common])
        feature = anomaly.fit(
            detectors.mahalanobis,
            [layer[rows] for layer in layers],
            training.labels,
            training.groups,
        )
        inputs = anomaly.beside(training.inputs, feature.training)
        away = feature([layer[material.evaluated] for layer in layers])
        scored = anomaly.beside(seen.real()[material.evaluated], away)
        return probe.fit(replace(training, inputs=inputs)).score(scored)


class FineTuned(Classifier):
    name = "finetuned"
    title = "EfficientNet-Lite0, head first, then its last stages"

    def why_not(self, arm) -> str:
        plain = arm.sampling == "natural" and arm.loss == "bce" and not arm.refit
        light = arm.augmentation == "light"
        return (
            super().why_not(arm) if plain and light else "its batches are balanced, its images kept"
        )

    def settings(self, steps: int) -> dict:
        from fsl_utils.classifier import finetuned

        return {**finetuned.SETTINGS, "steps": steps}

    def scores(self, cell, material):
        from fsl_utils.classifier import features, finetuned

        views = finetuned.views(cell.size, material.flips)
        sets = [
            cell.source.training(material.through(view), cell.n, cell.synthetic_weight)
            for view in views
        ]
        training = replace(sets[0], inputs=np.stack([each.inputs for each in sets], axis=1))
        steps = finetuned.train(
            training,
            finetuned.tail(features.network()),
            steps=cell.settings["steps"],
            seed=cell.seed * 1000 + cell.task.draw.number,
            anneal=cell.recipe.anneal,
            device=material.device,
        )
        for last in steps:
            model = last["model"]
        maps = material.through(views[0]).real()[material.evaluated]
        return finetuned.score(model, maps, material.device)


_ALL = (
    FineTuned(),
    Probe(),
    PatchProbe(),
    Whitened(),
    ProbeAnomaly(),
    Mahalanobis(),
    Padim(),
    PatchCore(),
    FirstProbe(),
    ResNet18(),
)
CLASSIFIERS = {each.name: each for each in _ALL}


def get(name: str) -> Classifier:
    """A classifier by name. Raises StudyError where there is none."""
    if name not in CLASSIFIERS:
        raise StudyError(f"unknown classifier '{name}': known are {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[name]
