"""Sampling pools of synthetic images.

Image i of a pool has a generator of its own, seeded from (draw, seed, i), and images are made and
stored in chunks of 50: a pool of 50 is the beginning of a pool of 200, bit for bit, and a
killed run keeps its finished chunks.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from fsl_utils import StudyError, store
from fsl_utils.data import images, partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import adapter as adapters
from fsl_utils.generator import backbones, guidance, hub, layouts, mini, mini_weights, regions
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.request import Request

CHUNK = 50
# from_shot, from_common: image-to-image from a shot or a common training image of the draw.
# inpaint: a region of the latter. mask: from noise, told by a mask where the defect lies.
MODES = ("noise", "from_shot", "from_common", "inpaint", "mask")
FROM_NOISE = ("noise", "mask")


@dataclass(frozen=True)
class PoolRequest(Request):
    """All that determines a pool but its size: sampled with an adapter, or from its backbone alone
    (None).
    """

    stage: ClassVar[str] = "pool"
    task: FewShotTask
    backbone: backbones.Pretrained
    adapter: AdapterRequest | None = None
    mode: str = "noise"
    strength: float = 0.6
    guidance: float = 1.0
    steps: int = 20
    gate: int = 0  # the first steps, which the backbone alone takes, as for a common image
    autoguidance: float = 1.0  # away from what earlier weights say; 1: as the weights in use say
    seed: int = 0
    common: bool = False  # images of the common class, the only one that a backbone alone knows

    def __post_init__(self):
        if self.mode not in MODES:
            raise StudyError(f"unknown mode '{self.mode}': known are {', '.join(MODES)}")
        if self.mode == "mask" and self.backbone.name != "mini128":
            raise StudyError(
                f"mode 'mask' is for mini128, not for {self.backbone.name}: set "
                "backbone='mini128' and image_size=128, or mode='noise'"
            )
        if self.gate and self.backbone.name not in backbones.MINIS:
            raise StudyError(
                f"gate is {self.gate}: it is for mini and mini128, not for {self.backbone.name}, "
                "which would be in memory twice; set gate=0"
            )
        if self.gate >= self.steps:
            raise StudyError(
                f"gate is {self.gate} of {self.steps} steps: take fewer, for none is left "
                "to the adapter"
            )
        if self.autoguidance != 1:
            self._check_autoguidance()
        if not 0 < self.strength <= 1:
            raise StudyError(f"strength is {self.strength}: take a value in (0, 1]")

    def _check_autoguidance(self) -> None:
        name = self.backbone.name
        if name not in mini_weights.EARLIER:
            raise StudyError(
                f"autoguidance is {self.autoguidance}: it is for mini and mini128, not for "
                f"{name}, which has no earlier weights; set autoguidance=1"
            )
        if self.gate:
            raise StudyError(
                f"autoguidance is {self.autoguidance} and gate {self.gate}: take one of the two"
            )
        earlier = mini_weights.EARLIER[name]
        backbones.check_unseen(earlier, name, self.task.domain, "set autoguidance=1")

    @classmethod
    def of(cls, adapter: AdapterRequest, **how):
        """Sampled with an adapter."""
        return cls(adapter.task, adapter.backbone, adapter, **how)

    @classmethod
    def alone(cls, adapter: AdapterRequest, **how):
        """Sampled from an adapter's backbone without it."""
        return cls(adapter.task, adapter.backbone, **how)

    @property
    def condition(self) -> int:
        """Row of the backbone's embedding (see `mini`)."""
        alone = self.common or self.adapter is None
        return mini.condition(self.task.domain.name) if alone else mini.RARE

    def params(self) -> dict:
        """Its key in the store is the hash of this."""
        params = {
            **self.backbone.params(),
            "domain": self.task.domain.name,
            "mode": self.mode,
            "guidance": float(self.guidance),
            "steps": self.steps,
            "draw": self.task.draw.number,
            "seed": self.seed,
            "condition": "rare" if self.condition == mini.RARE else "common",
            "adapter": self.adapter.key if self.adapter else None,
        }
        if self.gate and self.adapter:
            params |= {"gate": self.gate}
        if self.autoguidance != 1:
            earlier = mini_weights.EARLIER[self.backbone.name]
            params |= {"autoguidance": float(self.autoguidance), "earlier": store.sha256(earlier)}
        if self.mode not in FROM_NOISE:  # its sources are images of the draw
            params |= {"strength": float(self.strength)}
        if self.mode != "noise":
            params |= self.task.params()
        if self.mode == "mask":
            params |= {"layout": layouts.SETTINGS}
        if self.mode == "inpaint":
            params |= {"region": regions.SETTINGS}
        return params


def chunks(pool: PoolRequest, n: int, device: str = "cpu") -> Iterator[np.ndarray]:
    """The pool's images in order, uint8 [50, C, S, S] at a time, from the store or made now; the
    last is cut to n.
    """
    backbone = None
    for number in range(-(-n // CHUNK)):

        def build(folder):  # called at once, by `make` below: B023 does not apply
            nonlocal backbone
            backbone = backbone or open_backbone(pool, device)
            numbers = range(number * CHUNK, (number + 1) * CHUNK)  # noqa: B023
            made = {"images": sample(backbone, pool, numbers)}
            if pool.mode == "mask":
                made["masks"] = layouts.of_pool(pool, numbers, backbone.image_size)
            np.savez_compressed(folder / "images.npz", **made)

        folder = store.make("pool", {**pool.params(), "chunk": number}, build, device=device)
        with np.load(folder / "images.npz", allow_pickle=False) as file:
            yield file["images"][: n - number * CHUNK]


def images_of(pool: PoolRequest, n: int, device: str = "cpu") -> np.ndarray:
    """The first n images of a pool, uint8 [n, C, S, S]."""
    return np.concatenate(list(chunks(pool, n, device)))


def open_backbone(pool: PoolRequest, device: str = "cpu"):
    """The backbone that a pool is sampled from, with its adapter. Raises StudyError where that is
    missing.
    """
    backbone = pool.backbone.open(device)
    if pool.adapter is None:
        return backbone
    folder = pool.adapter.place
    if not folder.is_dir() or store.damage(folder):
        raise StudyError(
            f"{folder}: the adapter is missing or damaged; "
            "fine-tune it with notebook 02 and the same parameters"
        )
    return adapters.load(backbone, folder)


def sample(backbone, pool: PoolRequest, numbers) -> np.ndarray:
    """Sample images `numbers` of a pool, uint8 [n, C, S, S], with the backbone's solver and
    `guidance`.

    What a large backbone paints is resized to the study's image_size as real images are. Out of
    memory: the batch is halved until it fits.
    """
    parts, todo, batch = [], list(numbers), min(CHUNK, backbone.batch)
    other = guidance.other(backbone, pool)
    while todo:
        try:
            parts.append(_sample_batch(backbone, other, pool, todo[:batch]))
            todo = todo[batch:]
        except (torch.OutOfMemoryError, MemoryError):
            if batch == 1:
                raise hub.out_of_memory(backbone.name) from None
            batch //= 2
            print(f"out of memory: going on with batches of {batch}")
    return images.resize(np.concatenate(parts), pool.backbone.image_size or backbone.image_size)


@torch.inference_mode()
def _sample_batch(backbone, other, pool: PoolRequest, numbers) -> np.ndarray:
    n, size = len(numbers), backbone.image_size
    noise = _noise(backbone, pool, numbers)
    solver = backbone.solver(pool.steps)
    timesteps, latents = solver.timesteps, noise
    if pool.mode == "mask":
        backbone = backbone.told(torch.from_numpy(layouts.of_pool(pool, numbers, size)))
    if pool.mode not in FROM_NOISE:
        # As diffusers' image-to-image pipelines: the last `strength` of the steps, from the noised
        # source.
        skipped = min(pool.steps - 1, round(pool.steps * (1 - pool.strength)))
        timesteps = timesteps[skipped:]
        solver.set_begin_index(skipped)
        begin_with = pool.task.images(size)[sources(pool, numbers)]
        clean = backbone.encode(begin_with)
        latents = solver.add_noise(clean, noise, timesteps[:1].repeat(n))
    if pool.mode == "inpaint":
        weight = regions.of_pool(backbone, pool, numbers, clean)
        anew = (
            F.adaptive_max_pool2d(torch.from_numpy(weight), clean.shape[-2:]).to(clean.device) > 0
        )
    second = dataclasses.replace(backbone, denoiser=other) if other else backbone
    for k, t in enumerate(timesteps):
        predicted = guidance.predicted(backbone, second, pool, k, latents, t.expand(n))
        latents = solver.step(predicted, t, latents).prev_sample
        if (
            pool.mode == "inpaint"
            # What is kept is the source, noised anew (RePaint, Lugmayr et al. 2022): the region
            # grows into it
        ):
            latents = torch.where(anew, latents, solver.add_noise(clean, noise, t.repeat(n)))
    painted = backbone.decode(latents)
    if pool.mode == "inpaint":
        painted = np.rint(begin_with + weight * (painted.astype(np.float32) - begin_with)).astype(
            np.uint8
        )
    return painted


def _noise(backbone, pool: PoolRequest, numbers) -> torch.Tensor:
    """Of each image its own, [n, *latent_shape], whatever is made beside it."""
    draw, seed = pool.task.draw.number, pool.seed
    seeds = (image_seed(draw, seed, number) for number in numbers)
    each = [
        torch.randn(backbone.latent_shape, generator=torch.Generator().manual_seed(s))
        for s in seeds
    ]
    return torch.stack(each).to(backbone.device, backbone.dtype)


def sources(pool: PoolRequest, numbers) -> np.ndarray | None:
    """Positions in the domain's table of the images that `numbers` of a pool start from, [n]; None
    where they start from noise.
    """
    if pool.mode in FROM_NOISE:
        return None
    rows = pool.task.draw.shots if pool.mode == "from_shot" else pool.task.draw.common
    return np.array(
        [
            partitions.generator("source", pool.task.draw.number, pool.seed, i).choice(rows)
            for i in numbers
        ]
    )


def resembled(pool: PoolRequest, numbers, rows: np.ndarray) -> np.ndarray | None:
    """Which of the real images at positions `rows` [M] the images `numbers` of a pool are meant to
    resemble, bool [n, M], or None.

    An image made from a common one shows that tile or patient again, which is no copy of the rare
    class: all images of its source's group. An image made from a shot that comes out as the shot is
    a copy.
    """
    if pool.mode not in ("from_common", "inpaint"):
        return None
    groups = pool.task.draw.groups
    return groups[sources(pool, numbers)][:, None] == groups[rows]


def image_seed(draw: int, seed: int, number: int) -> int:
    """Seed of the noise of image `number` of a pool: each draw has its own."""
    return int(partitions.generator("image", draw, seed, number).integers(2**62))
