"""The filter behind the arm `lora_filtered`: which images of a pool are kept, and why the others
are not.

Three rules, in order; an image falls to the first that it breaks:
- copied: nearer to a real image than common training images of other groups are (`copies.rule` with
  unseen=draw.common).
- common: the filter network is sure that it is common; its score lies below the median score of the
  common images in `draw.choosing`.
- off_manifold: in the network's penultimate features its 5th nearest real training image is farther
  than for 99 % of `draw.choosing` (a k-nearest-neighbour manifold, after Kynkäänniemi et al. 2019).

The filter network is a ResNet-18 from scratch that sees at most PIXELS, trained on the draw's real
images alone (the arm `real`) from a seed of its own, so that it is never the network that scores
later. Its thresholds see `draw.choosing` and nothing else of validation: few-shot stays few-shot.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from scipy.spatial.distance import cdist
from scipy.special import expit

from fsl_utils import store
from fsl_utils.classifier import arms, models
from fsl_utils.data import partitions
from fsl_utils.data.datasets import registry
from fsl_utils.data.images import resize
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import copies, sampling
from fsl_utils.generator.sampling import PoolRequest
from fsl_utils.request import Request
from fsl_utils.steps import bar

RULES = ("copied", "common", "off_manifold")
SETTINGS = dict(neighbours=5, quantile=0.99, **models.RESNET)
PIXELS = 64  # at most: of 128 pixels the network would take longer than the adapter does
MOST = 2  # times as many images are looked at as are wanted


@dataclass(frozen=True)
class FilterRequest(Request):
    """All that determines a filter. steps: of the filter network."""

    stage: ClassVar[str] = "filter"
    task: FewShotTask
    image_size: int
    seed: int
    steps: int

    def params(self) -> dict:
        """Its key in the store is the hash of this."""
        return {
            **self.task.params(),
            "domain": self.task.domain.name,
            "image_size": self.image_size,
            "seed": self.seed,
            "steps": self.steps,
            **({"pixels": PIXELS} if self.image_size > PIXELS else {}),
            **SETTINGS,
        }


class Filter(NamedTuple):
    """model: the network. real: penultimate features of the training images, [n, 512]. score,
    distance: the limits of the two rules.
    """

    model: torch.nn.Module
    real: np.ndarray
    score: float
    distance: float


def train(request: FilterRequest, device: str = "cpu") -> Filter:
    """The filter, from the store or trained now."""
    task, draw = request.task, request.task.draw
    images = task.images(request.image_size)

    def build(folder):
        training, choosing = _seen(images[task.training]), _seen(images[draw.choosing])
        seed = int(partitions.generator("filter", request.seed, draw.number).integers(2**31))
        steps = models.train_resnet(
            torch.from_numpy(training),
            torch.from_numpy(draw.labels[task.training]),
            arms.get("real"),
            steps=request.steps,
            seed=seed,
            init="scratch",
            flips=registry.get(task.domain.name).flips,
            device=device,
        )
        for state in bar(steps, request.steps, "filter network"):
            last = state
        save_file(
            {
                name: value.cpu().half().contiguous()
                for name, value in last["model"].state_dict().items()
            },
            folder / "network.safetensors",
        )
        model = _network(folder, device)  # as it will be read again
        real, _ = _look(model, training, device)
        np.savez(folder / "real.npz", features=real)
        chosen, scores = _look(model, choosing, device)
        away = neighbour_distance(chosen, real, SETTINGS["neighbours"])
        limits = {
            "score": float(np.median(scores[draw.labels[draw.choosing] == 0])),
            "distance": float(np.quantile(away, SETTINGS["quantile"])),
        }
        (folder / "limits.json").write_text(json.dumps(limits))

    folder = request.make(build, device=device)
    with np.load(folder / "real.npz", allow_pickle=False) as file:
        return Filter(
            _network(folder, device),
            file["features"],
            **json.loads((folder / "limits.json").read_text()),
        )


def _seen(pixels: np.ndarray) -> np.ndarray:
    """Images as the network sees them, at most PIXELS wide."""
    return resize(pixels, min(pixels.shape[-1], PIXELS))


def _network(folder, device: str) -> torch.nn.Module:
    model = models.new_resnet("scratch", 0)
    model.load_state_dict(load_file(folder / "network.safetensors"))  # copied into float32
    return model.to(device, memory_format=torch.channels_last).eval()


def _look(model: torch.nn.Module, images: np.ndarray, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Penultimate features [N, 512] and the score that the head gives them [N]."""
    inner = models.score_resnet(model, images, device, penultimate=True)
    weight, bias = (value.detach().cpu().numpy() for value in (model.fc.weight, model.fc.bias))
    return inner, expit((inner @ weight.T + bias)[:, 0].astype(float))


def neighbour_distance(features: np.ndarray, real: np.ndarray, k: int) -> np.ndarray:
    """Euclidean distance of each row of `features` [N, D] to its k-th nearest of `real` [M, D] (the
    farthest where M < k): [N].
    """
    k = min(k, len(real))
    return np.partition(cdist(features, real), k - 1, axis=1)[:, k - 1]


def judge(
    images: np.ndarray, used: Filter, nearest: pd.DataFrame, device: str = "cpu"
) -> pd.DataFrame:
    """Verdicts on images, uint8 [N, C, S, S]: reason ('' kept, else one of RULES), score, distance,
    copy_distance; one row an image.

    nearest: of `copies.judge` on the same images.
    """
    inner, scores = _look(used.model, _seen(images), device)
    away = neighbour_distance(inner, used.real, SETTINGS["neighbours"])
    broken = [nearest["copied"].to_numpy(), scores < used.score, away > used.distance]
    return pd.DataFrame(
        {
            "reason": np.select(broken, RULES, default=""),
            "score": scores,
            "distance": away,
            "copy_distance": nearest["distance"].to_numpy(),
        }
    )


def verdicts(
    pool: PoolRequest, n: int, request: FilterRequest, device: str = "cpu"
) -> Iterator[pd.DataFrame]:
    """`judge` of the first n images of a pool with their `number`, chunk by chunk, each from the
    store or made now; the last is cut to n.
    """
    used = rule = None
    whole = -(-n // sampling.CHUNK) * sampling.CHUNK
    for chunk, images in enumerate(sampling.chunks(pool, whole, device)):

        def build(folder):  # called at once, by `make` below: B023 does not apply
            nonlocal used, rule
            used = used or train(request, device)
            common = request.task.draw.common
            rule = rule or copies.rule(request.task, request.image_size, unseen=common)
            numbers = np.arange(len(images)) + chunk * sampling.CHUNK  # noqa: B023
            meant = sampling.resembled(pool, numbers, rule.rows)
            nearest = copies.judge(images, rule, meant).nearest  # noqa: B023
            table = judge(images, used, nearest, device)  # noqa: B023
            table.insert(0, "number", numbers)
            table.to_parquet(folder / "verdicts.parquet", index=False)

        params = {"pool": pool.key, "chunk": chunk, "filter": request.key}
        folder = store.make("verdicts", params, build, device=device)
        yield pd.read_parquet(folder / "verdicts.parquet")[: n - chunk * sampling.CHUNK]


def until(
    pool: PoolRequest, n: int, request: FilterRequest, device: str = "cpu"
) -> Iterator[pd.DataFrame]:
    """Verdicts on a pool's images in order, up to the one with which n are kept, at most 2 n of
    them.

    So what is kept for 4x is the beginning of what is kept for 20x. Fewer kept rows than n: a
    shortfall.
    """
    for table in verdicts(pool, MOST * n, request, device):
        kept = (table["reason"] == "").cumsum()
        yield table[kept - (table["reason"] == "") < n]
        n -= kept.iloc[-1]
        if n <= 0:
            return


def counts(table: pd.DataFrame) -> dict[str, int]:
    """How many judged images were kept, and how many fell to each rule."""
    found = table["reason"].value_counts()
    return {name or "kept": int(found.get(name, 0)) for name in ("", *RULES)}
