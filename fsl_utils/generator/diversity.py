"""DDPM-PA's losses (Zhu et al. 2022, arXiv 2211.03264): an adapter keeps how the images of a batch
differ for the backbone alone, and the fine detail of the shots.

Compared are predictions of the clean latents, under the noise of the step. In a Haar transform all
bands but the coarsest are detail.
"""

import torch
import torch.nn.functional as F

DETAIL = 0.05  # weight of the detail's own error, beside 1 of both comparisons of pairs


def loss(
    backbone,
    clean: torch.Tensor,
    conditions: tuple[torch.Tensor, torch.Tensor],
    generator: torch.Generator,
    part: slice = slice(None),
) -> torch.Tensor:
    """Mean over the images of a `part`, for a mini with an adapter.

    clean [N, B, h, w]. conditions [N]: those of the adapter, and of the backbone alone. generator:
    at the state from which the step's loss draws its noise; it is moved on.
    """
    start = generator.get_state()
    found = backbone.denoised(clean, conditions[0], generator, part)
    generator.set_state(start)
    backbone.denoiser.eval()  # no dropout in what the pairs are compared with
    with torch.no_grad(), backbone.denoiser.disable_adapter():
        source = backbone.denoised(clean, conditions[1], generator, part)
    backbone.denoiser.train()
    fine, true = found[:, 1:], clean[part][:, 1:]
    return (
        pairwise(found, source)
        + pairwise(fine, source[:, 1:])
        + DETAIL * (fine - true).square().mean()
    )


def pairwise(found: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Mean Kullback-Leibler divergence of an image's likeness to the others, found from source.

    [N, ...] each; likeness is the softmax of cosines to the other images (equations 3 to 5). Zero
    where all likenesses are the same, and for fewer than three images, which have no choice.
    """
    if len(found) < 3:
        return found.new_zeros(())
    ours, theirs = _log_likeness(found), _log_likeness(source)
    return F.kl_div(theirs, ours, reduction="batchmean", log_target=True)


def _log_likeness(images: torch.Tensor) -> torch.Tensor:
    """Log of an image's likeness to the others, [N, N - 1]."""
    n = len(images)
    unit = F.normalize(images.flatten(1).float(), dim=1)
    others = ~torch.eye(n, dtype=torch.bool, device=images.device)
    return (unit @ unit.T)[others].view(n, n - 1).log_softmax(dim=1)
