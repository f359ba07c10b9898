"""The separable orthonormal Haar transform of square blocks: pixels to bands and back.

On 16x16 places with many bands a small network costs a twentieth of what it costs on pixels.
"""

import torch
import torch.nn.functional as F


def matrix(levels: int) -> torch.Tensor:
    """Orthonormal [4^levels, 4^levels]: bands (rows, the coarsest first) of a block of 2^levels
    pixels a side (columns, row by row).
    """
    one, low, high = torch.eye(1), torch.tensor([[0.5, 0.5]]).sqrt(), torch.tensor([[0.5]]).sqrt()
    high = torch.cat([high, -high], dim=1)
    for _ in range(levels):
        one = torch.cat([torch.kron(one, low), torch.kron(torch.eye(len(one)), high)])
    return torch.kron(one, one)


def bands(pixels: torch.Tensor, levels: int) -> torch.Tensor:
    """[N, 1, S, S] -> [N, 4^levels, S / 2^levels, S / 2^levels], float."""
    blocks = F.pixel_unshuffle(pixels, 2**levels)
    return torch.einsum("ij,njhw->nihw", matrix(levels).to(blocks), blocks)


def pixels(bands: torch.Tensor, levels: int) -> torch.Tensor:
    """Inverse of `bands`."""
    blocks = torch.einsum("ji,njhw->nihw", matrix(levels).to(bands), bands)
    return F.pixel_shuffle(blocks, 2**levels)
