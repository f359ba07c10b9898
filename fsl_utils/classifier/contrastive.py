"""Supervised contrastive loss across domains: what looks generated leaves the embedding.

Khosla et al. 2020 (arXiv 2004.11362, eq. 2) on the images of a batch. The positives of a real image
are the synthetic ones of its class, and the other way round; where a class has images of one domain
alone they are the others of its class, as in the paper itself.
"""

import torch
import torch.nn.functional as F

from fsl_utils.classifier.arms import CONTRASTIVE


def loss(embedded: torch.Tensor, labels: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean over the images that have a positive; zero where none has.

    embedded [N, D], of any length: their directions count. labels [N]; real [N], bool.
    """
    direction = F.normalize(embedded, dim=1)
    near = direction @ direction.T / CONTRASTIVE["temperature"]
    itself = torch.eye(len(near), dtype=torch.bool, device=near.device)
    share = near.masked_fill(itself, -torch.inf).log_softmax(dim=1)
    positives = _positives(labels, real) & ~itself
    counts = positives.sum(dim=1)
    each = -share.masked_fill(~positives, 0).sum(dim=1) / counts.clamp(min=1)
    return each.sum() / (counts > 0).sum().clamp(min=1)


def _positives(labels: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Which image is to lie near which, bool [N, N]."""
    same = labels[:, None] == labels
    across = same & (real[:, None] != real)
    return torch.where(across.any(dim=1, keepdim=True), across, same)
