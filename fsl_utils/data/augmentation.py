"""Augmentation in batches, on uint8 tensors in memory."""

import math

import torch
import torch.nn.functional as F
from torchvision.transforms import v2


def flips_and_shifts(
    images: torch.Tensor, flips: str, shift: int, generator: torch.Generator
) -> torch.Tensor:
    """The light augmentation: each image of [N, C, H, W] flipped and shifted at random, by itself.

    flips: the axes along which the domain looks the same ('hv', 'h' or ''). shift: at most so
    many pixels each way, the edge repeated. Dtype and shape stay.
    """
    n, _, height, width = images.shape
    draw = torch.rand(2, n, generator=generator).to(images.device) < 0.5
    offset = torch.randint(0, 2 * shift + 1, (2, n, 1), generator=generator).to(images.device)
    ys = torch.arange(height, device=images.device).expand(n, height)
    xs = torch.arange(width, device=images.device).expand(n, width)
    if "v" in flips:
        ys = torch.where(draw[0][:, None], height - 1 - ys, ys)
    if "h" in flips:
        xs = torch.where(draw[1][:, None], width - 1 - xs, xs)
    # An index beyond the edge repeats the edge.
    ys = (ys + offset[0] - shift).clamp(0, height - 1)
    xs = (xs + offset[1] - shift).clamp(0, width - 1)
    rows = torch.arange(n, device=images.device)[:, None, None]
    return images[rows, :, ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2)


def turn_and_zoom(
    images: torch.Tensor,
    degrees: float,
    zoom: float,
    generator: torch.Generator,
    masks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Each square uint8 image of [N, C, S, S], by itself, turned by up to `degrees` either way and
    magnified 1 to `zoom` times.

    The magnified window lies anywhere inside the frame; where `masks`, uint8 [N, 1, S, S], mark a
    defect, it is laid over a random place of it, so that a small defect grows and stays in view.
    What turning leaves empty is filled by reflection. Bicubic; with degrees 0 and zoom 1 the images
    come back as they are.
    """
    if degrees == 0 and zoom == 1:
        return images
    n, size = len(images), images.shape[-1]
    angle = math.radians(degrees) * (2 * torch.rand(n, generator=generator) - 1)
    half = zoom ** -torch.rand(
        n, 1, generator=generator
    )  # of the window's side; the frame reaches from -1 to 1
    low, high = half - 1, 1 - half
    pick, place = (
        torch.rand(n, 1, generator=generator, dtype=torch.float64),
        torch.rand(n, 2, generator=generator),
    )
    if masks is not None:
        share = masks.cpu().flatten(1).double().cumsum(1)
        pixel = torch.searchsorted(
            share, pick * share[:, -1:], right=True
        )  # a random pixel, as often as the mask is white there
        defect = (torch.cat([pixel % size, pixel // size], 1) + 0.5) * 2 / size - 1
        marked = share[:, -1:] > 0
        low = torch.where(marked, torch.maximum(low, defect - half), low)
        high = torch.where(marked, torch.minimum(high, defect + half), high)
    x, y = (low + (high - low) * place).unbind(1)
    cos, sin = half[:, 0] * angle.cos(), half[:, 0] * angle.sin()
    theta = torch.stack([cos, -sin, x, sin, cos, y], 1).view(n, 2, 3).to(images.device)
    grid = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
    moved = F.grid_sample(
        images.float(), grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    return moved.round().clamp(0, 255).to(torch.uint8)


class Strong:
    """The strong augmentation on top of the light one: TrivialAugment (Müller & Hutter 2021), then
    CutMix (Yun et al. 2019).
    """

    def __init__(self):
        self.trivial = v2.TrivialAugmentWide()
        self.cutmix = v2.CutMix(num_classes=2)

    def images(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """TrivialAugment of each uint8 image by itself."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            return torch.stack([self.trivial(image) for image in images])

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 [N, C, H, W], labels [N] -> the same shapes; labels become the mixed share of the
        rare class.
        """
        images = self.images(images, generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            mixed, soft = self.cutmix(images, labels.long())
        return mixed, soft[:, 1]
