"""Where a defect goes: the part of a common image that is made anew (mode `inpaint`) or pasted over
(arm `paste`).

Where the domain has pixel masks, the mask of a random shot, mirrored, turned and moved inside the
frame. Elsewhere DiffEdit (Couairon et al. 2022): where the backbone's prediction changes most
between the rare and the common class. Every choice is seeded by the pool's seed and the image's
number, and sees images of the draw alone.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import affine_transform, distance_transform_edt, gaussian_filter

from fsl_utils import StudyError
from fsl_utils.data import partitions
from fsl_utils.data.datasets import registry
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import mini

# Lengths are pixels of 64. margin: around a mask, whose edge is part of the defect. feather: the
# ramp from anew to kept. rotation: degrees at most, since the grain of a tile that is pasted does
# not turn. reach: share of the side that a mask moves at most, so that a broken edge stays near an
# edge. maps, level: DiffEdit's noises and noise level. area: share of the image that its region
# covers.
SETTINGS = dict(margin=2, feather=4, rotation=10, reach=0.25, maps=5, level=0.5, area=0.25)
# Grey level of a scaled-down mask from which a pixel counts as marked: thin defects leave no white
MARKED = 32
SMOOTH = 1.0  # standard deviation of the blur of DiffEdit's map, in latent pixels


def masks(task: FewShotTask, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The shots that have a mask with a mark, as positions in the domain's table [n], and these
    masks, bool [n, size, size].

    A few rare tiles have an empty mask. Raises StudyError where no shot has a mark, or a mask is
    missing.
    """
    shots = task.draw.shots
    found = task.domain.masks(shots, size)[:, 0] >= MARKED
    marked = found.any(axis=(1, 2))
    if not marked.any():
        raise StudyError(
            f"none of the masks of the {len(shots)} shots of draw {task.draw.number} marks a pixel "
            f"(first: {task.domain.table['image'].iloc[shots[0]]}): take another draw, or a mode "
            "without masks"
        )
    return shots[marked], found[marked]


def placement(
    mask: np.ndarray, flips: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random place for a mask, bool [S, S]: matrix [2, 2] and offset [2] for
    `scipy.ndimage.affine_transform`.

    Mirrored along the axes of `flips`, turned and moved; every marked pixel stays inside the frame.
    A mask that does not fit when turned is not turned.
    """
    size = len(mask)
    mirror = np.diag([-1.0 if axis in flips and rng.random() < 0.5 else 1.0 for axis in "vh"])
    drawn, reach = (
        np.deg2rad(rng.uniform(-1, 1) * SETTINGS["rotation"]),
        np.rint(rng.uniform(-1, 1, 2) * SETTINGS["reach"] * size),
    )
    points = np.argwhere(mask)
    centre, middle = (points.min(axis=0) + points.max(axis=0)) / 2, (size - 1) / 2
    for angle in (drawn, 0.0):
        forward = mirror @ np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        moved = (points - centre) @ forward.T
        low, high = (
            -moved.min(axis=0),
            size - 1 - moved.max(axis=0),
        )  # where the centre may come to lie
        if (low <= high).all():
            break
    target = np.clip(mirror @ (centre - middle) + middle + reach, low, high)
    inverse = np.linalg.inv(forward)
    return inverse, centre - inverse @ target


def moved(array: np.ndarray, place: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """A mask or image [S, S] at the place that `placement` found: a bool stays bool, all else
    becomes float, its edge repeated.
    """
    matrix, offset = place
    if array.dtype == bool:
        cover = affine_transform(array.astype(float), matrix, offset, order=1)
        return cover >= min(0.5, cover.max())  # a single pixel between four others is not lost
    return affine_transform(array.astype(float), matrix, offset, order=1, mode="nearest")


def feathered(mask: np.ndarray) -> np.ndarray:
    """Weight of what is new, float32 in 0..1 like the bool mask [S, S]: 1 on it and its margin, a
    ramp, 0 beyond.
    """
    scale = len(mask) / 64
    away = distance_transform_edt(~mask) / scale
    return np.clip(
        (SETTINGS["margin"] + SETTINGS["feather"] - away) / SETTINGS["feather"], 0, 1
    ).astype(np.float32)


def of_pool(backbone, pool, numbers, clean: torch.Tensor) -> np.ndarray:
    """Weight of what is made anew in images `numbers` of a pool (a PoolRequest), float32 [n, 1, S,
    S] in 0..1 (see `feathered`).

    clean: latents of their sources, [n, C, h, w]. Raises StudyError where an image has no region.
    """
    domain = pool.task.domain
    if domain.has_masks:
        flips, (_, found) = (
            registry.get(domain.name).flips,
            masks(pool.task, backbone.image_size),
        )
        marked = [
            warped(
                found, flips, partitions.generator("region", pool.task.draw.number, pool.seed, i)
            )
            for i in numbers
        ]
    else:
        # The backbone alone knows no rare class; there, what sets the common class apart from any
        # image.
        rows = (mini.RARE if pool.adapter else mini.NULL, mini.condition(domain.name))
        marked = [
            difference(backbone, latents[None], rows, pool.seed, i)
            for latents, i in zip(clean, numbers)
        ]
    return np.stack([feathered(mask) for mask in marked])[:, None]


def warped(found: np.ndarray, flips: str, rng: np.random.Generator) -> np.ndarray:
    """One of the masks, bool [n, S, S], at a random place: bool [S, S]."""
    mask = found[rng.integers(len(found))]
    return moved(mask, placement(mask, flips, rng))


def difference(
    backbone, clean: torch.Tensor, rows: tuple[int, int], seed: int, number: int
) -> np.ndarray:
    """DiffEdit's region of one image, bool [S, S]: where predictions under two rows of the
    embedding differ most.

    clean: its latents [1, C, h, w]. The differences are averaged over several noises, blurred and
    cut at the quantile that leaves a quarter of the image (`area`). One image at a time, so that
    its region is the same in every batch. Raises StudyError where the two conditions predict the
    same.
    """
    n, generator = (
        SETTINGS["maps"],
        torch.Generator().manual_seed(
            int(partitions.generator("region", seed, number).integers(2**62))
        ),
    )
    noise = torch.randn((n, *clean.shape[1:]), generator=generator).to(clean)
    t = torch.full(
        (n,),
        int(SETTINGS["level"] * backbone.scheduler.config.num_train_timesteps),
        device=clean.device,
    )
    noisy = backbone.scheduler.add_noise(clean.expand(n, -1, -1, -1), noise, t)
    condition = torch.tensor(rows, device=clean.device).repeat_interleave(n)
    one, other = backbone.predict(noisy.repeat(2, 1, 1, 1), t.repeat(2), condition).float().chunk(2)
    values = gaussian_filter((one - other).abs().mean(dim=(0, 1)).cpu().numpy(), SMOOTH)
    region = values > np.quantile(values, 1 - SETTINGS["area"])
    if not region.any():
        raise StudyError(
            f"image {number}: no region for mode 'inpaint', "
            "since the backbone predicts the same for the rare and the common class: "
            "fine-tune for more steps, or take another mode"
        )
    size = backbone.image_size
    return (
        F.interpolate(torch.from_numpy(region)[None, None].float(), size=(size, size))[0, 0].numpy()
        > 0
    )


def paste(task: FewShotTask, size: int, seed: int, numbers) -> np.ndarray:
    """Common training images with a shot's defect pasted on, uint8 [n, C, size, size]: the arm
    `paste`.

    Image i depends on the draw, seed and i alone. The shot is mirrored, turned and moved with its
    mask, brought to the brightness of the image around the mask, and blended over the mask's
    margin: NSA (Schlüter et al. 2022) without its Poisson blending.
    """
    domain = task.domain
    shots, found = masks(task, size)
    real, flips, out = domain.images(size), registry.get(domain.name).flips, []
    for i in numbers:
        rng = partitions.generator("paste", task.draw.number, seed, i)
        target, k = real[rng.choice(task.draw.common)].astype(float), rng.integers(len(found))
        place = placement(found[k], flips, rng)
        patch = np.stack([moved(channel, place) for channel in real[shots[k]]])
        weight = feathered(moved(found[k], place))
        around = (weight > 0) & (weight < 1)
        if around.any():
            patch += (target[:, around] - patch[:, around]).mean(axis=1)[:, None, None]
        out.append(np.rint(target + weight * (patch - target)).clip(0, 255).astype(np.uint8))
    return np.stack(out)
