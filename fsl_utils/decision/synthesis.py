"""The synthetic way: an adapter of `mini` on each training part, sampled for both classes.

It goes through the same adapter and pools as the study, so that a killed run goes on. It is one
candidate, fitted for the outer folds of the first repeat alone: an adapter takes minutes.
"""

import zlib

import numpy as np

from fsl_utils.classifier import features, probe
from fsl_utils.data import images
from fsl_utils.data.partitions import Draw
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.decision import room
from fsl_utils.decision.candidates import Candidate, Fitted, at, beside, linear, training
from fsl_utils.decision.seen import taken, views
from fsl_utils.generator import finetuning, sampling
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.generator.sampling import PoolRequest

SETTINGS = {
    "backbone": "mini",
    "adapter_steps": 400,
    "prior": 0.4,  # of common images in a batch: a base has never seen a user's common class
    "image_size": 64,  # what mini paints
    "ratio": room.PAINTED,  # and as many common ones
    "weight": 0.5,  # share of the rare class's weight that painted images carry
}


def way(**changed) -> Candidate:
    """The candidate. changed: of SETTINGS."""
    settings = SETTINGS | changed

    def fit(seen, rows: np.ndarray) -> Fitted:
        return _fit(seen, rows, settings)

    def added(seen, rows: np.ndarray):
        pixels, labels = painted(seen, rows, settings)
        return "synthetic", pixels, labels, weights_beside(seen.labels[rows], labels, settings)

    return Candidate(
        "synthetic",
        "the regression with images of a fine-tuned diffusion model beside the real ones",
        "synthetic",
        "pooled",
        fit,
        {"probe": probe.SETTINGS, "synthesis": settings},
        nested=False,
        repeated=False,
        added=added,
    )


def pools(seen, rows: np.ndarray, settings: dict) -> list[tuple[PoolRequest, int, int]]:
    """Pools of the rare and the common class (pool, label, how many), their adapter fine-tuned on
    images `rows` now or taken from the store."""
    adapter = AdapterRequest.new(
        task(seen, rows),
        settings["adapter_steps"],
        image_size=settings["image_size"],
        backbone=settings["backbone"],
        prior=settings["prior"],
    )
    for _ in finetuning.train(adapter, seen.device):
        pass
    n = settings["ratio"] * int(seen.labels[rows].sum())
    return [(PoolRequest.of(adapter), 1, n), (PoolRequest.of(adapter, common=True), 0, n)]


def task(seen, rows: np.ndarray) -> FewShotTask:
    """Images `rows` as all that a generator may learn from. The draw's number names them."""
    labels, nobody = seen.labels, np.array([], int)
    shots, common = (rows[labels[rows] == label] for label in (1, 0))
    number = zlib.crc32(np.asarray(rows, np.int64).tobytes())
    groups = seen.domain.table["group"].to_numpy()
    return FewShotTask(seen.domain, Draw(number, shots, common, nobody, nobody, labels, groups))


def painted(seen, rows: np.ndarray, settings: dict) -> tuple[np.ndarray, np.ndarray]:
    """Painted images as the classifier sees real ones, uint8 [M, C, S, S], and their labels."""
    parts, labels = [], []
    for pool, label, n in pools(seen, rows, settings):
        parts.append(_chained(seen, sampling.images_of(pool, n, seen.device)))
        labels.append(np.full(n, label))
    return np.concatenate(parts), np.concatenate(labels)


def _chained(seen, pixels: np.ndarray) -> np.ndarray:
    pixels = images.resize(pixels, seen.size)
    if pixels.shape[1] != seen.channels:
        pixels = np.repeat(pixels[:, :1], seen.channels, axis=1)
    return pixels


def weights_beside(real: np.ndarray, painted: np.ndarray, settings: dict) -> np.ndarray:
    """The weight of each painted image beside real ones of weight 1, [M], by labels [N] and [M].

    Painted rare ones carry `weight` of their class's weight, common ones as much as real ones.
    """
    share = settings["weight"] / (1 - settings["weight"])
    return np.where(painted == 1, share * real.sum() / painted.sum(), 1.0)


def _fit(seen, rows: np.ndarray, settings: dict) -> Fitted:
    """The probe on real and painted images."""
    parts, labels = [], []
    for pool, label, n in pools(seen, rows, settings):
        pixels = _chained(seen, sampling.images_of(pool, n, seen.device))
        source = {"pool": pool.key, "n": n, "image_size": seen.size, "channels": seen.channels}
        view = views(seen.size)["stages"]
        parts.append(taken("pooled", features.extract(pixels, source, seen.device, False, view)))
        labels.append(np.full(n, label))
    real, added = training(seen, "pooled", rows), np.concatenate(labels)
    weights = np.append(np.ones(len(rows)), weights_beside(real.labels, added, settings))
    return linear(probe.fit(beside(real, np.concatenate(parts), added, weights)))


def examples(seen, rows: np.ndarray, n: int, settings: dict = SETTINGS):
    """The first n painted rare images, uint8 [n, C, S, S], and beside each the real rare image of
    `rows` that is nearest by correlation of pixels."""
    pixels, labels = painted(seen, rows, settings)
    made = pixels[labels == 1][:n]
    shots = at(seen.pixels, rows[seen.labels[rows] == 1])
    flat = [x.reshape(len(x), -1).astype(np.float32) for x in (made, shots)]
    unit = [x - x.mean(axis=1, keepdims=True) for x in flat]
    unit = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6) for x in unit]
    return made, shots[(unit[0] @ unit[1].T).argmax(axis=1)]
