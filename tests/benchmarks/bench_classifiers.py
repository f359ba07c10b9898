"""PR-AUC on validation, from real images alone, of every classifier; and what each costs.

    python tests/benchmarks/bench_classifiers.py [--domains elpv ...] [--n-real 40] [--draws 5]

One line a classifier: mean and standard deviation over draws, difference to the published first
study's probe on the same draws, seconds a draw after features. Features are kept in the store.
"""

import argparse
import time

import numpy as np
from sklearn.metrics import average_precision_score

from fsl_utils.classifier import (
    anomaly,
    arms,
    calibrated,
    detectors,
    features,
    finetuned,
    models,
    patch_probe,
    probe,
    whitened,
)
from fsl_utils.classifier.training import TrainingSet
from fsl_utils.data import domains, partitions

SIZE = 128  # pixels
STEPS = 100  # of `finetuned`
WIDTHS = (16, 24, 40, 80, 112, 192, 320, 1280)  # of the stages of EfficientNet-Lite0


class Bench:
    """One domain: features by view, each fetched when first needed; `self.draw` is set by `run`."""

    def __init__(self, name: str):
        self.domain, self.kept, self.draw = domains.load(name), {}, None
        self.size = features.input_size(SIZE)

    def of(self, view: features.View) -> np.ndarray:
        if view not in self.kept:
            got = features.of_domain(self.domain, SIZE, ("development",), view=view)
            self.kept[view] = got
        return self.kept[view]

    def maps(self, layer: int) -> np.ndarray:
        return self.of(features.View(layers=(layer,), pooled=False, input_size=self.size))

    def stages(self, rows: np.ndarray) -> list[np.ndarray]:
        layers = tuple(detectors.SETTINGS["stages"])
        pooled = self.of(features.View(layers=layers, input_size=self.size))[rows]
        return detectors.split(pooled, WIDTHS)

    def training(self, inputs: np.ndarray) -> TrainingSet:
        draw, rows = self.draw, self.rows
        return TrainingSet(inputs[rows], draw.labels[rows], draw.groups[rows])

    @property
    def rows(self) -> np.ndarray:
        return np.concatenate([self.draw.shots, self.draw.common])

    def published(self, held):
        x, labels = self.of(features.HEAD), self.draw.labels[self.rows]
        fitted = models.fit_probe(x[self.rows], labels, x[self.rows])
        return models.score_probe(fitted, x[held])

    def probe(self, held):
        x = self.of(probe.view(SIZE))
        return probe.fit(self.training(x)).score(x[held])

    def patch_probe(self, held):
        maps = self.maps(patch_probe.SETTINGS["layer"])
        return patch_probe.fit(self.training(maps)).score(maps[held])

    def whitened(self, held):
        x = self.of(probe.view(SIZE))
        return whitened.fit(self.training(x)).score(x[held])

    def calibrated(self, held):
        x, draw = self.of(probe.view(SIZE)), self.draw
        n = 4 * len(draw.shots)
        new = calibrated.sample(x[draw.shots], x[draw.common], n, draw.number)
        real = self.training(x)
        training = TrainingSet(
            np.concatenate([new, real.inputs]),
            np.concatenate([np.ones(n, int), real.labels]),
            np.concatenate([np.full(n, ""), real.groups]),
            np.concatenate([np.full(n, 0.25), np.ones(len(real.labels))]),  # half the rare weight
        )
        return probe.fit(training).score(x[held])

    def mahalanobis(self, held):
        return detectors.mahalanobis(self.stages(self.draw.common)).score(self.stages(held))

    def anomaly(self, held):
        x, stages = self.of(probe.view(SIZE)), self.stages(self.rows)
        real = self.training(x)
        extra = anomaly.fit(detectors.mahalanobis, stages, real.labels, real.groups)
        beside = anomaly.beside(real.inputs, extra.training)
        fitted = probe.fit(TrainingSet(beside, real.labels, real.groups))
        return fitted.score(anomaly.beside(x[held], extra(self.stages(held))))

    def padim(self, held):
        return self._of_maps(detectors.padim, held)

    def patchcore(self, held):
        return self._of_maps(detectors.patchcore, held)

    def _of_maps(self, detect, held):
        layers = [self.maps(layer) for layer in detectors.SETTINGS["maps"]]
        fitted = detect([m[self.draw.common] for m in layers], seed=self.draw.number)
        return fitted.score([m[held] for m in layers])

    def finetuned(self, held):
        views = finetuned.views(SIZE, self.domain.data_set.flips)
        maps = np.stack([self.of(view)[self.rows] for view in views], axis=1)
        labels, groups = self.draw.labels[self.rows], self.draw.groups[self.rows]
        model = finetuned.tail(features.network())
        training = TrainingSet(maps, labels, groups)
        for last in finetuned.train(
            training, model, arms.get("real"), steps=STEPS, seed=self.draw.number
        ):
            model = last["model"]
        return finetuned.score(model, self.of(views[0])[held])


NAMES = [
    "published",
    "probe",
    "patch_probe",
    "whitened",
    "calibrated",
    "mahalanobis",
    "anomaly",
    "padim",
    "patchcore",
    "finetuned",
]


def run(name: str, n_real: int, draws: int, names: list[str]) -> None:
    """Print the table of one domain."""
    bench, base = Bench(name), None
    for classifier in names:
        scores, seconds = [], []
        for number in range(draws):
            draw = bench.draw = partitions.draw(bench.domain.table, number, n_real)
            if number == 0:  # so that features are not timed
                warm = getattr(bench, classifier)(draw.validation)
                assert len(warm) == len(draw.validation)
            begin = time.perf_counter()
            score = getattr(bench, classifier)(draw.validation)
            seconds.append(time.perf_counter() - begin)
            scores.append(average_precision_score(draw.labels[draw.validation], score))
        scores = np.array(scores)
        base = scores if base is None else base
        gain = scores - base
        print(
            f"{name:14} {n_real:3} {classifier:12} {scores.mean():.3f} ({scores.std(ddof=1):.3f})"
            f"  gain {gain.mean():+.3f} [{gain.min():+.3f}, {gain.max():+.3f}]"
            f"  {np.median(seconds):5.1f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", nargs="+", default=["elpv", "magnetic_tile", "chestxray14"])
    parser.add_argument("--n-real", type=int, nargs="+", default=[40])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--classifiers", nargs="+", default=NAMES)
    asked = parser.parse_args()
    for name in asked.domains:
        for n_real in asked.n_real:
            run(name, n_real, asked.draws, asked.classifiers)


if __name__ == "__main__":
    main()
