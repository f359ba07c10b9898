"""Sampling pools of synthetic images.

Image i of a pool has a generator of its own, seeded from (seed, i), and images are made and
stored in chunks of 50: a pool of 50 is the beginning of a pool of 200, bit for bit, and a
killed run keeps its finished chunks.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from fsl_utils import StudyError, store
from fsl_utils.data import images, partitions
from fsl_utils.generator import backbones, lora, mini, regions

CHUNK = 50
# from_shot, from_common: image-to-image from a shot or a common training image of the draw. inpaint: a region of the latter.
MODES = ("noise", "from_shot", "from_common", "inpaint")


def request(
    adapter: dict | None,
    domain,
    draw,
    *,
    mode: str = "noise",
    strength: float = 0.6,
    guidance: float = 1.0,
    steps: int = 20,
    seed: int = 0,
    common: bool = False,
    alone: bool = False,
) -> dict:
    """All that determines a pool but its size. `adapter`: what lora.request returned; `alone`: its backbone without it
    (None: mini alone). `common`: images of the common class in place of the rare one."""
    if mode not in MODES:
        raise StudyError(f"unknown mode '{mode}': known are {', '.join(MODES)}")
    if not 0 < strength <= 1:
        raise StudyError(f"strength is {strength}: take a value in (0, 1]")
    backbone = (
        backbones.of(adapter) if adapter else backbones.request("mini", domain, mini.IMAGE_SIZE)
    )
    adapter = None if alone else adapter
    wanted = {
        **backbone,
        "domain": domain.name,
        "mode": mode,
        "guidance": float(guidance),
        "steps": steps,
        "seed": seed,
        "condition": "common" if common or adapter is None else "rare",
        "adapter": store.key("adapter", adapter) if adapter else None,
    }
    if mode != "noise":  # its sources are images of the draw
        wanted |= {
            "strength": float(strength),
            "data": domain.data_hash,
            "draw": draw.number,
            "n_real": len(draw.shots),
        }
    if mode == "inpaint":
        wanted |= {"region": regions.SETTINGS}
    return wanted


def chunks(wanted: dict, n: int, domain, draw, device: str = "cpu") -> Iterator[np.ndarray]:
    """The pool's images in order, uint8 [50, C, S, S] at a time, from the store or made now; the last is cut to n."""
    backbone = None
    for number in range(-(-n // CHUNK)):
        params = {**wanted, "chunk": number}

        def build(folder):
            nonlocal backbone
            backbone = backbone or open_backbone(wanted, device)
            np.savez_compressed(
                folder / "images.npz",
                images=sample(
                    backbone, wanted, range(number * CHUNK, (number + 1) * CHUNK), domain, draw
                ),
            )

        folder = store.make("pool", params, build, device=device)
        with np.load(folder / "images.npz", allow_pickle=False) as file:
            yield file["images"][: n - number * CHUNK]


def pool(wanted: dict, n: int, domain, draw, device: str = "cpu") -> np.ndarray:
    """The first n images of a pool, uint8 [n, C, S, S]."""
    return np.concatenate(list(chunks(wanted, n, domain, draw, device)))


def open_backbone(wanted: dict, device: str = "cpu"):
    """The backbone that a pool is sampled from, with its adapter. Raises StudyError where that is missing."""
    backbone = backbones.load(wanted, device)
    if wanted["adapter"] is None:
        return backbone
    folder = store.root() / "adapter" / wanted["adapter"]
    if not folder.is_dir() or store.damage(folder):
        raise StudyError(
            f"{folder}: the adapter is missing or damaged; fine-tune it with notebook 02 and the same parameters"
        )
    return lora.load(backbone, folder)


def sample(backbone, wanted: dict, numbers, domain, draw) -> np.ndarray:
    """Sample images `numbers` of a pool, uint8 [n, C, S, S], with the backbone's solver and `guidance`.

    What a large backbone paints is resized to the study's image_size as real images are. Out of memory: the batch is halved until it fits.
    """
    row = mini.condition(wanted["domain"]) if wanted["condition"] == "common" else mini.RARE
    parts, todo, batch = [], list(numbers), min(CHUNK, backbone.batch)
    while todo:
        try:
            parts.append(_sample_batch(backbone, wanted, todo[:batch], row, domain, draw))
            todo = todo[batch:]
        except (torch.OutOfMemoryError, MemoryError):
            if batch == 1:
                raise backbones.out_of_memory(backbone.name) from None
            batch //= 2
            print(f"out of memory: going on with batches of {batch}")
    return images.resize(np.concatenate(parts), wanted.get("image_size", backbone.image_size))


@torch.inference_mode()
def _sample_batch(backbone, wanted, numbers, row, domain, draw) -> np.ndarray:
    size, mode, n = backbone.image_size, wanted["mode"], len(numbers)
    noise = torch.stack(
        [
            torch.randn(
                backbone.latent_shape,
                generator=torch.Generator().manual_seed(image_seed(wanted["seed"], i)),
            )
            for i in numbers
        ]
    )
    noise = noise.to(backbone.device, backbone.dtype)
    solver = backbone.solver(wanted["steps"])
    timesteps, latents = solver.timesteps, noise
    if mode != "noise":
        # As diffusers' image-to-image pipelines: the last `strength` of the steps, from the noised source.
        skipped = min(wanted["steps"] - 1, round(wanted["steps"] * (1 - wanted["strength"])))
        timesteps = timesteps[skipped:]
        solver.set_begin_index(skipped)
        begin_with = domain.images(size)[sources(wanted, numbers, draw)]
        clean = backbone.encode(begin_with)
        latents = solver.add_noise(clean, noise, timesteps[:1].repeat(n))
    if mode == "inpaint":
        weight = regions.of_pool(backbone, wanted, numbers, clean, domain, draw)
        anew = (
            F.adaptive_max_pool2d(torch.from_numpy(weight), clean.shape[-2:]).to(clean.device) > 0
        )
    condition = torch.full((n,), row, device=noise.device)
    for t in timesteps:
        latents = solver.step(
            _guided(backbone, latents, t.expand(n), condition, wanted["guidance"]), t, latents
        ).prev_sample
        if (
            mode == "inpaint"
        ):  # what is kept is the source, noised anew (RePaint, Lugmayr et al. 2022): the region grows into it
            latents = torch.where(anew, latents, solver.add_noise(clean, noise, t.repeat(n)))
    painted = backbone.decode(latents)
    if mode == "inpaint":
        painted = np.rint(begin_with + weight * (painted.astype(np.float32) - begin_with)).astype(
            np.uint8
        )
    return painted


def _guided(backbone, latents, timesteps, condition, guidance: float) -> torch.Tensor:
    """The prediction with classifier-free guidance (Ho & Salimans 2022), both conditions in one pass, or told it (FLUX.2-dev)."""
    if guidance == 1:
        return backbone.predict(latents, timesteps, condition)
    if backbone.takes_guidance:
        return backbone.predict(latents, timesteps, condition, guidance)
    both = torch.cat([torch.full_like(condition, mini.NULL), condition])
    without, with_it = backbone.predict(
        latents.repeat(2, 1, 1, 1), timesteps.repeat(2), both
    ).chunk(2)
    return without + guidance * (with_it - without)


def sources(wanted: dict, numbers, draw) -> np.ndarray | None:
    """Positions in the domain's table of the images that `numbers` of a pool start from, [n]; None for mode 'noise'."""
    if wanted["mode"] == "noise":
        return None
    rows = draw.shots if wanted["mode"] == "from_shot" else draw.common
    return np.array(
        [partitions.generator("source", wanted["seed"], i).choice(rows) for i in numbers]
    )


def resembled(wanted: dict, numbers, rows: np.ndarray, draw) -> np.ndarray | None:
    """Which of the real images at positions `rows` [M] the images `numbers` of a pool are meant to resemble, bool [n, M], or None.

    An image made from a common one shows that tile or patient again, which is no copy of the rare class: all images of
    its source's group. An image made from a shot that comes out as the shot is a copy.
    """
    if wanted["mode"] not in ("from_common", "inpaint"):
        return None
    return draw.groups[sources(wanted, numbers, draw)][:, None] == draw.groups[rows]


def image_seed(seed: int, number: int) -> int:
    """Seed of image `number` of a pool."""
    return int(partitions.generator("image", seed, number).integers(2**62))
