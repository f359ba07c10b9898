"""What is predicted at a step of sampling: by two conditions, by two networks, or by one of each.

Classifier-free guidance (Ho & Salimans 2022), a gate that leaves the first steps to the backbone
alone, and autoguidance (Karras et al. 2024, arXiv 2406.02507).
"""

import torch

from fsl_utils.generator import mini, mini_weights


def other(backbone, pool):
    """The second network of a pool: with a gate the backbone alone, with autoguidance the earlier
    weights with the same adapter, else None.
    """
    if pool.gate and pool.adapter:
        return pool.backbone.open(str(backbone.device)).denoiser
    if pool.autoguidance == 1:
        return None
    earlier = mini_weights.earlier(backbone)
    return (earlier.load_adapter(pool.adapter.place) if pool.adapter else earlier).denoiser


def predicted(backbone, second, pool, step: int, latents, timesteps) -> torch.Tensor:
    """The prediction for noisy latents [n, ...] at timesteps [n], those of one step of the solver.

    second: the backbone with the network of `other`, or the backbone itself.
    """
    condition = torch.full((len(latents),), pool.condition, device=latents.device)
    if step < pool.gate:
        common = torch.full_like(condition, mini.condition(pool.task.domain.name))
        return by_conditions(second, latents, timesteps, common, pool.guidance)
    good = by_conditions(backbone, latents, timesteps, condition, pool.guidance)
    if pool.autoguidance == 1:
        return good
    worse = second.predict(latents, timesteps, condition)
    return worse + pool.autoguidance * (good - worse)


def by_conditions(backbone, latents, timesteps, condition, weight: float) -> torch.Tensor:
    """With classifier-free guidance, both conditions in one pass, or told it (FLUX.2-dev)."""
    if weight == 1:
        return backbone.predict(latents, timesteps, condition)
    if backbone.takes_guidance:
        return backbone.predict(latents, timesteps, condition, weight)
    both = torch.cat([torch.full_like(condition, mini.NULL), condition])
    without, with_it = backbone.predict(
        latents.repeat(2, 1, 1, 1), timesteps.repeat(2), both
    ).chunk(2)
    return without + weight * (with_it - without)
