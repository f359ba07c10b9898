"""`mini`: a small class-conditional diffusion model for 64x64 grey images, pretrained here.

A diffusers UNet2DModel works on a separable two-level Haar transform of the image
(16 bands of 16x16, each scaled to unit variance), which on a CPU costs a twentieth of the
same network on pixels. It predicts v (Salimans & Ho 2022) under the cosine schedule
(Nichol & Dhariwal 2021). The condition is one embedding: the domain, none, or the rare
class, whose row is learned with the adapter.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from peft import LoraConfig, PeftModel, get_peft_model

from fsl_utils.data.datasets import registry
from fsl_utils.generator import haar

# Rows of the class embedding. OTHER is for a user's own folder, RARE for the adapter.
NULL, OTHER, RARE = 0, 4, 5

UNET = dict(
    sample_size=16,
    in_channels=16,
    out_channels=16,
    num_class_embeds=6,
    block_out_channels=(96, 160),
    layers_per_block=1,
    norm_num_groups=16,
    attention_head_dim=32,
    dropout=0.1,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
)
SCHEDULE = dict(
    num_train_timesteps=1000,
    beta_schedule="squaredcos_cap_v2",
    prediction_type="v_prediction",
    clip_sample=False,
)

# Modules that get LoRA matrices: attention and every convolution of the residual blocks.
LORA_TARGETS = r".*\.(to_q|to_k|to_v|to_out\.0|conv1|conv2|conv_shortcut)"


@dataclass
class Mini:
    """The backbone: `denoiser` and the transform around it. `hash` names the weights it was loaded
    from.
    """

    denoiser: UNet2DModel
    scales: torch.Tensor  # [B], what each band is divided by
    hash: str
    about: dict

    name: ClassVar[str] = "mini"
    image_size: ClassVar[int] = 64
    levels: ClassVar[int] = 2  # of the Haar transform
    unet: ClassVar[dict] = UNET
    sampling: ClassVar[dict] = {}  # what else its solver hangs on, as part of a key
    latent_shape: ClassVar[tuple[int, int, int]] = (16, 16, 16)
    takes_masks: ClassVar[bool] = False  # whether it is told where a defect lies
    lora_targets: ClassVar[str] = LORA_TARGETS
    embedding: ClassVar[str] = "class_embedding"
    adapter_file: ClassVar[str] = "adapter_model.safetensors"
    batch: ClassVar[int] = 50  # images that are sampled at once
    dtype: ClassVar[torch.dtype] = torch.float32  # of latents
    # Whether `predict` is told the guidance; else it is that of two predictions.
    takes_guidance: ClassVar[bool] = False

    @property
    def device(self) -> torch.device:
        return self.denoiser.device

    @classmethod
    def divisors(cls, spread: torch.Tensor) -> torch.Tensor:
        """What bands of this standard deviation [B] are divided by: unit variance is left."""
        return spread

    def encode(self, images) -> torch.Tensor:
        """uint8 [N, 1, S, S] -> scaled bands, float32 [N, *latent_shape]."""
        pixels = torch.as_tensor(np.asarray(images), device=self.device).float().div(127.5).sub(1)
        bands = haar.bands(pixels, self.levels)
        return bands / self.scales.to(bands)[:, None, None]

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Inverse of `encode`, rounded and clipped to uint8 [N, 1, S, S]."""
        bands = latents.float() * self.scales.to(latents)[:, None, None]
        pixels = haar.pixels(bands, self.levels)
        return pixels.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()

    def told(self, masks: torch.Tensor) -> Self:
        """This backbone, told by masks where the defects of its images lie; mini takes none."""
        return self

    def rows(self, condition: torch.Tensor) -> torch.Tensor:
        """Rows of the embedding that these weights have: a domain that they never saw is OTHER."""
        return torch.where(condition < self.unet["num_class_embeds"], condition, OTHER)

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """v for noisy latents [N, 16, 16, 16], timesteps [N] in 0..999, condition [N] (rows of the
        embedding).
        """
        return self.denoiser(latents, timesteps, class_labels=self.rows(condition)).sample

    def loss(
        self,
        clean: torch.Tensor,
        condition: torch.Tensor,
        generator: torch.Generator,
        weight: torch.Tensor | None = None,
        part: slice = slice(None),
    ) -> torch.Tensor:
        """Mean loss of each image [N] at random noise levels: squared error of v, bands weighted
        by the square root of their scale (fine bands hold little energy but much of what a noisy
        prediction spoils). Levels and their weights are those of rectified flow with logit-normal
        times (Esser et al. 2024): the ratio of noise to signal is log-normal, and flow's target is
        (sigma - alpha) z + (alpha + sigma) v. results/mini.md compares them with others.
        weight: of each place of the latents, [N, 1, 16, 16] of mean 1. part: the images to take,
        under the noise that they have in the whole batch."""
        noise, t = self._noise(clean, generator)
        signal = self.scheduler.alphas_cumprod
        level = (signal[t].sqrt() + (1 - signal[t]).sqrt()).square().to(clean)
        clean, condition, noise, t, level = (
            each[part] for each in (clean, condition, noise, t.to(clean.device), level)
        )
        target = self.scheduler.get_velocity(clean, noise, t)
        error = (
            self.predict(self.scheduler.add_noise(clean, noise, t), t, condition).float() - target
        ).square()
        return self.mean_error(error if weight is None else error * weight[part]) * level

    def _noise(self, clean, generator) -> tuple[torch.Tensor, torch.Tensor]:
        """The noise of a step and its timesteps [N]."""
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        signal = self.scheduler.alphas_cumprod
        ratio = torch.randn(len(clean), generator=generator).exp()
        t = torch.searchsorted((1 / signal - 1).sqrt(), ratio)
        return noise, t.clamp(max=len(signal) - 1)

    def denoised(
        self,
        clean: torch.Tensor,
        condition: torch.Tensor,
        generator: torch.Generator,
        part: slice = slice(None),
    ) -> torch.Tensor:
        """Predicted clean latents of `part`, under the noise that `loss` draws from the same
        state.
        """
        return self._denoised(clean, condition, generator, part)[0]

    def _denoised(self, clean, condition, generator, part) -> tuple[torch.Tensor, torch.Tensor]:
        """`denoised`, and the timesteps of its images."""
        noise, t = self._noise(clean, generator)
        signal = self.scheduler.alphas_cumprod[t][part].to(clean)[:, None, None, None]
        t = t[part].to(clean.device)
        noisy = self.scheduler.add_noise(clean[part], noise[part], t)
        v = self.predict(noisy, t, condition[part])
        return signal.sqrt() * noisy - (1 - signal).sqrt() * v, t

    def mean_error(self, error: torch.Tensor) -> torch.Tensor:
        """Mean of errors of latents [N, B, h, w] in each image [N], bands weighted by the square
        root of their scale.
        """
        band = self.scales.to(error).sqrt()
        return (error.mean(dim=(2, 3)) * (band / band.mean())).mean(dim=1)

    def attach(self, config: LoraConfig, row: int) -> Self:
        """This backbone with a fresh adapter, and the embedding learned with it: the rare class
        begins as `row`.
        """
        config.modules_to_save = [self.embedding]
        model = get_peft_model(self.denoiser, config).to(memory_format=torch.channels_last)
        with torch.no_grad():
            weight = (
                model.get_submodule(f"base_model.model.{self.embedding}")
                .modules_to_save["default"]
                .weight
            )
            weight[RARE] = weight[self.rows(torch.tensor(row))]
        return dataclasses.replace(self, denoiser=model)

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter in peft's own format."""
        self.denoiser.save_pretrained(folder)

    def load_adapter(self, folder: Path) -> Self:
        """This backbone with a stored adapter, in eval mode; errors are peft's own.

        Its matrices are added to the weights, which then sample as fast as without: 1.4 times as
        fast at rank 64.
        """
        return dataclasses.replace(
            self,
            denoiser=PeftModel.from_pretrained(self.denoiser, folder).merge_and_unload().eval(),
        )

    @property
    def scheduler(self) -> DDPMScheduler:
        """The noise schedule that training and every solver share."""
        return _SCHEDULER

    def solver(self, steps: int) -> DPMSolverMultistepScheduler:
        """DPM-Solver++ (2M), its timesteps set."""
        solver = DPMSolverMultistepScheduler.from_config(
            self.scheduler.config, timestep_spacing="trailing"
        )
        solver.set_timesteps(steps, device=self.device)
        return solver


_SCHEDULER = DDPMScheduler(**SCHEDULE)


def condition(domain: str) -> int:
    """Row of the embedding for a domain's common class."""
    return registry.get(domain).condition


def create(scales: torch.Tensor, seed: int, kind: type[Mini] = Mini) -> Mini:
    """An untrained mini with random weights from `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        denoiser = UNet2DModel(**kind.unet)
    return kind(denoiser, scales, hash="", about={})


def band_scales(images: np.ndarray, kind: type[Mini] = Mini) -> torch.Tensor:
    """What each band is divided by, from its spread over images, uint8 [N, 1, S, S] -> float32
    [B].
    """
    pixels = torch.from_numpy(np.asarray(images)).float().div(127.5).sub(1)
    return kind.divisors(haar.bands(pixels, kind.levels).std(dim=(0, 2, 3)))
