"""`mini128`: mini at 128 pixels, told by masks where a defect lies.

A three-level Haar transform gives 64 bands of 16x16 places, so that the network is on the grid of
`mini`'s. Each band is divided by the square root of its spread: coarse bands stay the larger ones,
and come out of the noise before fine ones, as pixels' do. On the straight path of rectified flow
the network predicts the clean image through the skip of EDM (Karras et al. 2022, arXiv 2206.00364),
band by band, so that a network that does nothing is already the best linear denoiser of each. What
it is told: the source of the image as `mini` is, and two channels of a mask, thin marks and wide
ones (see `structures`), nothing where there is no mask.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from diffusers import DPMSolverMultistepScheduler

from fsl_utils.generator import mini, structures

TIMES = 1000  # the network is told the noise level times this
BLOCK = 8  # pixels of a place
# Of a solver's noise levels (Esser et al. 2024, section 5.3.2): coarse bands are large, so most of
# an image is decided near pure noise. results/mini.md compares 1 to 16.
SHIFT = 6.0
MARKS = structures.CHANNELS * BLOCK**2


@dataclass
class Mini128(mini.Mini):
    """The backbone. marks [N, 128, 16, 16]: what masks say of the images at hand, or None."""

    marks: torch.Tensor | None = None

    name: ClassVar[str] = "mini128"
    image_size: ClassVar[int] = 128
    levels: ClassVar[int] = 3
    sampling: ClassVar[dict] = {"shift": SHIFT}
    latent_shape: ClassVar[tuple[int, int, int]] = (64, 16, 16)
    takes_masks: ClassVar[bool] = True
    unet: ClassVar[dict] = mini.UNET | dict(
        in_channels=64 + MARKS,
        out_channels=64,
        num_class_embeds=16,
        block_out_channels=(128, 192),
        dropout=0.0,
    )

    @classmethod
    def divisors(cls, spread: torch.Tensor) -> torch.Tensor:
        """What bands of this standard deviation [B] are divided by: mean power is 1 then."""
        return (spread * spread.mean()).sqrt()

    @property
    def spread(self) -> torch.Tensor:
        """Standard deviation of each band of latents, [B, 1, 1]."""
        return (self.scales / self.scales.square().mean().sqrt())[:, None, None]

    def told(self, masks: torch.Tensor) -> Self:
        """This backbone, told where the defects of its images lie: uint8 [N, 1, 128, 128]."""
        marks = F.pixel_unshuffle(structures.channels(masks.to(self.device)), BLOCK)
        return dataclasses.replace(self, marks=marks)

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """The clean latents of noisy ones [N, 64, 16, 16], at noise levels [N] in 0..1000."""
        s = (timesteps / TIMES).to(latents)[:, None, None, None]
        skip, out, into = _preconditioning(s, self.spread.to(latents))
        return skip * latents + out * self._network(into * latents, timesteps, condition)

    def _network(self, latents, timesteps, condition) -> torch.Tensor:
        n, marks = len(latents), self.marks
        if marks is None:
            marks = latents.new_zeros(n, MARKS, *latents.shape[2:])
        # With guidance each image comes twice.
        seen = torch.cat([latents, marks.to(latents).repeat(n // len(marks), 1, 1, 1)], dim=1)
        seen = seen.contiguous(memory_format=torch.channels_last)
        return self.denoiser(seen, timesteps, class_labels=self.rows(condition)).sample

    def loss(
        self,
        clean: torch.Tensor,
        condition: torch.Tensor,
        generator: torch.Generator,
        weight: torch.Tensor | None = None,
        part: slice = slice(None),
    ) -> torch.Tensor:
        """Mean loss of each image [N]: squared error of flow's velocity, which is that of the clean
        image over the noise level; logit-normal levels (Esser et al. 2024).

        Bands, weight and part: as `mini.Mini.loss`.
        """
        predicted, level = self._denoised(clean, condition, generator, part)
        error = ((predicted.float() - clean[part]) / level[:, None, None, None]).square()
        return self.mean_error(error if weight is None else error * weight[part])

    def _denoised(self, clean, condition, generator, part) -> tuple[torch.Tensor, torch.Tensor]:
        """`denoised`, and the noise levels of its images."""
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        level = torch.randn(len(clean), generator=generator).sigmoid().to(clean)
        clean, condition, noise, level = (each[part] for each in (clean, condition, noise, level))
        s = level[:, None, None, None]
        here = self if self.marks is None else dataclasses.replace(self, marks=self.marks[part])
        return here.predict((1 - s) * clean + s * noise, level * TIMES, condition), level

    @property
    def scheduler(self) -> DPMSolverMultistepScheduler:
        """Flow's path from image to noise, as a solver of all levels."""
        return self._flow(TIMES, 1.0)

    def solver(self, steps: int) -> DPMSolverMultistepScheduler:
        """DPM-Solver++ (2M) along flow's path, its timesteps set."""
        return self._flow(steps, SHIFT)

    def _flow(self, steps: int, shift: float) -> DPMSolverMultistepScheduler:
        solver = DPMSolverMultistepScheduler(
            num_train_timesteps=TIMES,
            prediction_type="sample",
            use_flow_sigmas=True,
            flow_shift=shift,
        )
        solver.set_timesteps(steps, device=self.device)
        return solver


def _preconditioning(
    s: torch.Tensor, spread: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The share of the noisy latents z and that of the network in the prediction of the clean ones,
    and what z is multiplied by for the network (EDM, table 1).

    At noise level s in 0..1 of z = (1 - s) x + s n; x has the given spread, n unit variance.
    """
    power = ((1 - s) * spread).square() + s.square()
    return (1 - s) * spread.square() / power, -s * spread * power.rsqrt(), power.rsqrt()
