"""The classifiers of the study in one table: what each takes and needs, and how it is trained and
scored.

Nothing here imports torch before a classifier is used: a grid plans with it.
"""

from dataclasses import replace

import numpy as np

from fsl_utils import StudyError
from fsl_utils.classifier import rivals
from fsl_utils.classifier.kinds import Classifier, OnProbeFeatures


class FineTuned(Classifier):
    name = "finetuned"
    title = "EfficientNet-Lite0, head first, then its last stages"
    embeds = True
    grows = True
    stepped = True

    def why_not(self, arm) -> str:
        kept = arm.plain or arm.loss == "contrastive"
        fits = kept and arm.augmentation == "light"
        return super().why_not(arm) if fits else "its batches are balanced, its images kept"

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
        maps, draw = material.through(views[0]).real(), cell.task.draw
        steps = finetuned.train(
            training,
            finetuned.tail(features.network()),
            cell.recipe,
            steps=cell.settings["steps"],
            seed=cell.seed * 1000 + draw.number,
            validation=(maps[draw.choosing], draw.labels[draw.choosing]),
            device=material.device,
        )
        for last in steps:
            model = last["model"]
        return finetuned.score(model, maps[material.evaluated], material.device)


class Probe(OnProbeFeatures):
    name = "probe"
    title = "logistic regression on frozen features, robustly scaled"

    def fitted(self, cell, training):
        from fsl_utils.classifier import probe

        fitted = probe.fit(training)
        return (probe.refit_near(fitted, training) if cell.recipe.anneal else fitted).score


class ResNet18(Classifier):
    name = "resnet18"
    title = "torchvision's ResNet-18, trained whole"
    stepped = True
    inits = ("scratch", "imagenet")
    whole = "it has no second stage"

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


_ALL = (
    FineTuned(),
    Probe(),
    rivals.PatchProbe(),
    rivals.Whitened(),
    rivals.ProbeAnomaly(),
    rivals.Mahalanobis(),
    rivals.Padim(),
    rivals.PatchCore(),
    rivals.FirstProbe(),
    ResNet18(),
)
CLASSIFIERS = {each.name: each for each in _ALL}


def get(name: str) -> Classifier:
    """A classifier by name. Raises StudyError where there is none."""
    if name not in CLASSIFIERS:
        raise StudyError(f"unknown classifier '{name}': known are {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[name]
