"""Sampling pools of synthetic images.

Image i of a pool has a generator of its own, seeded from (seed, i), and images are made and
stored in chunks of 50: a pool of 50 is the beginning of a pool of 200, bit for bit, and a
killed run keeps its finished chunks.
"""

from collections.abc import Iterator

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler

from . import StudyError, lora, mini, partitions, store

CHUNK = 50
MODES = ("noise", "from_shot", "from_common")


def request(adapter: dict | None, domain, draw, *, mode: str = "noise", strength: float = 0.6, guidance: float = 1.0,
            steps: int = 20, seed: int = 0, common: bool = False) -> dict:
    """All that determines a pool but its size. `adapter`: what lora.request returned, or None for the
    backbone alone. `common`: images of the common class in place of the rare one."""
    if mode not in MODES:
        raise StudyError(f"unknown mode '{mode}': known are {', '.join(MODES)}")
    if not 0 < strength <= 1:
        raise StudyError(f"strength is {strength}: take a value in (0, 1]")
    wanted = {
        "base": store.sha256(mini.weights()), "domain": domain.name, "mode": mode, "guidance": float(guidance),
        "steps": steps, "seed": seed, "condition": "common" if common or adapter is None else "rare",
        "adapter": store.key("adapter", adapter) if adapter else None,
    }
    if mode != "noise":  # its sources are images of the draw
        wanted |= {"strength": float(strength), "data": domain.data_hash, "draw": draw.number, "n_real": len(draw.shots)}
    return wanted


def chunks(wanted: dict, n: int, domain, draw, image_size: int, device: str = "cpu") -> Iterator[np.ndarray]:
    """The pool's images in order, uint8 [50, C, S, S] at a time, from the store or made now; the last is cut to n."""
    backbone = None
    for number in range(-(-n // CHUNK)):
        params = {**wanted, "chunk": number}

        def build(folder):
            nonlocal backbone
            backbone = backbone or open_backbone(wanted, device)
            np.savez_compressed(folder / "images.npz", images=sample(backbone, wanted, range(number * CHUNK, (number + 1) * CHUNK), domain, draw))

        folder = store.make("pool", params, build, device=device)
        with np.load(folder / "images.npz", allow_pickle=False) as file:
            yield file["images"][: n - number * CHUNK]


def pool(wanted: dict, n: int, domain, draw, image_size: int, device: str = "cpu") -> np.ndarray:
    """The first n images of a pool, uint8 [n, C, S, S]."""
    return np.concatenate(list(chunks(wanted, n, domain, draw, image_size, device)))


def open_backbone(wanted: dict, device: str = "cpu") -> mini.Mini:
    """The backbone that a pool is sampled from, with its adapter. Raises StudyError where that is missing."""
    backbone = mini.load(device=device)
    if wanted["adapter"] is None:
        return backbone
    folder = store.root() / "adapter" / wanted["adapter"]
    if not folder.is_dir() or store.damage(folder):
        raise StudyError(f"{folder}: the adapter is missing or damaged; fine-tune it with notebook 02 and the same parameters")
    return lora.load(backbone, folder)


def sample(backbone: mini.Mini, wanted: dict, numbers, domain, draw) -> np.ndarray:
    """Sample images `numbers` of a pool, uint8 [n, C, S, S], with DPM-Solver++ (2M) and `guidance`.

    Out of memory: the batch is halved until it fits.
    """
    row = mini.condition(wanted["domain"]) if wanted["condition"] == "common" else mini.RARE
    parts, todo, batch = [], list(numbers), CHUNK
    while todo:
        try:
            parts.append(_sample_batch(backbone, wanted, todo[:batch], row, domain, draw))
            todo = todo[batch:]
        except (torch.OutOfMemoryError, MemoryError):
            if batch == 1:
                raise StudyError("out of memory while sampling a single image: free some memory") from None
            batch //= 2
            print(f"out of memory: going on with batches of {batch}")
    return np.concatenate(parts)


@torch.inference_mode()
def _sample_batch(backbone, wanted, numbers, row, domain, draw) -> np.ndarray:
    size = backbone.image_size
    blank = backbone.encode(np.zeros((1, 1, size, size), np.uint8))
    noise = torch.cat([torch.randn(blank.shape, generator=torch.Generator().manual_seed(image_seed(wanted["seed"], i))) for i in numbers]).to(blank)
    solver = DPMSolverMultistepScheduler.from_config(backbone.scheduler.config, timestep_spacing="trailing")
    solver.set_timesteps(wanted["steps"], device=blank.device)
    timesteps, latents = solver.timesteps, noise
    if wanted["mode"] != "noise":
        # As diffusers' image-to-image pipelines: the last `strength` of the steps, from the noised source.
        skipped = min(wanted["steps"] - 1, round(wanted["steps"] * (1 - wanted["strength"])))
        timesteps = timesteps[skipped:]
        solver.set_begin_index(skipped)
        latents = solver.add_noise(backbone.encode(domain.images(size)[sources(wanted, numbers, draw)]), noise, timesteps[:1].repeat(len(noise)))
    condition = torch.full((len(numbers),), row, device=blank.device)
    for t in timesteps:
        velocity = backbone.predict(latents, t.expand(len(numbers)), condition)
        if wanted["guidance"] != 1:  # classifier-free guidance, Ho & Salimans 2022
            without = backbone.predict(latents, t.expand(len(numbers)), torch.full_like(condition, mini.NULL))
            velocity = without + wanted["guidance"] * (velocity - without)
        latents = solver.step(velocity, t, latents).prev_sample
    return backbone.decode(latents)


def sources(wanted: dict, numbers, draw) -> np.ndarray | None:
    """Positions in the domain's table of the images that `numbers` of a pool start from, [n]; None for mode 'noise'."""
    if wanted["mode"] == "noise":
        return None
    rows = draw.shots if wanted["mode"] == "from_shot" else draw.common
    return np.array([partitions.generator("source", wanted["seed"], i).choice(rows) for i in numbers])


def image_seed(seed: int, number: int) -> int:
    """Seed of image `number` of a pool."""
    return int(partitions.generator("image", seed, number).integers(2**62))
