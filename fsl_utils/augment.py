"""Augmentation in batches, on uint8 tensors in memory."""

import torch
from torchvision.transforms import v2


def flips_and_shifts(images: torch.Tensor, flips: str, shift: int, generator: torch.Generator) -> torch.Tensor:
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


class Strong:
    """The strong augmentation on top of the light one: TrivialAugment (Müller & Hutter 2021), then CutMix (Yun et al. 2019)."""

    def __init__(self):
        self.trivial = v2.TrivialAugmentWide()
        self.cutmix = v2.CutMix(num_classes=2)

    def images(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """TrivialAugment of each uint8 image by itself."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            return torch.stack([self.trivial(image) for image in images])

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 [N, C, H, W], labels [N] -> the same shapes; labels become the mixed share of the rare class."""
        images = self.images(images, generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            mixed, soft = self.cutmix(images, labels.long())
        return mixed, soft[:, 1]
