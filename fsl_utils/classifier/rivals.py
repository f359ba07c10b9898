"""Free rivals of the main classifiers: other fits on frozen features, and detectors that see no
rare image.
"""

from dataclasses import replace

import numpy as np

from fsl_utils.classifier.kinds import Classifier, OnFeatures, OnProbeFeatures


class Whitened(OnProbeFeatures):
    name = "whitened"
    title = "linear discriminant under the covariance of all common training images"
    whole = "it is fitted in one step"

    def settings(self, steps: int) -> dict:
        from fsl_utils.classifier import probe

        return {"layers": probe.SETTINGS["layers"]}

    def fitted(self, cell, training):
        from fsl_utils.classifier import whitened

        return whitened.fit(training).score


class PatchProbe(OnFeatures):
    name = "patch_probe"
    title = "a logit at every place of a map, mean of the top tenth"
    whole = "it is fitted in one step"

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
        real = arm.plain and arm.augmentation == "light" and not arm.source.scales
        return "" if real else "a detector sees the draw's common images alone"

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

        # One pass of the network for all stages, which are told apart again by their channels.
        stages, inside = tuple(detectors.SETTINGS["stages"]), features.input_size(size)
        pooled = material.through(features.View(layers=stages, input_size=inside)).real()
        return detectors.split(pooled, features.widths(stages))

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


class ProbeAnomaly(OnProbeFeatures):
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


class FirstProbe(OnFeatures):
    """The first study's: its features are standardised over channels that hardly vary."""

    name = "probe_first"
    title = "logistic regression on the standardised last layer, the first study's"
    pooled = True
    whole = "it is there to be compared with"

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
