"""Large latent diffusion models behind the interface of `mini`: what they share, and Stable
Diffusion 1.5. FLUX.2 is in `flow`.

A prompt takes the place of mini's class embedding: of a condition's rows mini.NULL is the empty
prompt, mini.RARE that of the rare class and any other that of the common class. Prompts are encoded
once and kept in the store; the text encoder is gone before the rest is loaded. Packing of latents,
guidance and noise schedules are those of diffusers' pipelines, called or followed line by line, so
that an image equals theirs.

Grey images go in as three equal channels and come out as PIL's luminance.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from diffusers import (
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
)
from diffusers.training_utils import cast_training_params
from peft import LoraConfig, get_peft_model_state_dict

from fsl_utils.data import images
from fsl_utils.generator import mini


@dataclass
class Large:
    """What both families share. `hash` names the weights; `embeddings` are those of `prompts`, [3,
    L, D].
    """

    name: str
    hash: str
    pipe: DiffusionPipeline  # without its text encoder
    denoiser: torch.nn.Module
    embeddings: torch.Tensor
    channels: int  # of the domain's images
    batch: int  # images that are sampled at once
    adapter_file: str = (
        "pytorch_lora_weights.safetensors"  # the name that pipe.load_lora_weights(folder) looks for
    )
    takes_masks: ClassVar[bool] = False

    @property
    def device(self) -> torch.device:
        return self.embeddings.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embeddings.dtype

    @property
    def image_size(self) -> int:
        """Side of the images it paints; FLUX.2's own 1,024 are halved, as in the paper."""
        return min(512, self.pipe.vae.config.sample_size)

    def encode(self, pixels) -> torch.Tensor:
        """uint8 [N, C, S, S] -> standardised latents [N, *latent_shape]: the posterior's mode, so
        that the same image gives the same latents.
        """
        pixels = torch.as_tensor(np.asarray(pixels)).expand(-1, 3, -1, -1)
        with torch.no_grad():
            return self._encode(
                pixels.to(self.device).float().div(127.5).sub(1).to(self.embeddings)
            )

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Latents -> uint8 [N, C, S, S], as diffusers' image processor rounds; of a grey domain the
        luminance.
        """
        with torch.no_grad():
            pixels = self._decode(latents.to(self.embeddings))
        rgb = (
            (self.pipe.image_processor.postprocess(pixels, output_type="np") * 255)
            .round()
            .astype(np.uint8)
        )
        return images.chain(rgb, self.image_size, self.channels)

    def rows(self, condition: torch.Tensor) -> torch.Tensor:
        """Embeddings [N, L, D] for rows of a condition [N]."""
        common, rare = torch.full_like(condition, 1), torch.full_like(condition, 2)
        index = torch.where(
            condition == mini.NULL, condition, torch.where(condition == mini.RARE, rare, common)
        )
        return self.embeddings[index]

    def loss(
        self,
        clean: torch.Tensor,
        condition: torch.Tensor,
        generator: torch.Generator,
        weight: torch.Tensor | None = None,
        part: slice = slice(None),
    ) -> torch.Tensor:
        """Mean squared error of each image of `part` [n] at uniformly random timesteps, of noise, v
        or velocity as the family predicts; arguments as of mini.Mini.loss.
        """
        noise = torch.randn(clean.shape, generator=generator).to(self.device)
        last = self.first_timestep + self.scheduler.config.num_train_timesteps
        t = torch.randint(self.first_timestep, last, (len(clean),), generator=generator)
        t = t.to(self.device)
        clean, condition, noise, t = (each[part] for each in (clean.float(), condition, noise, t))
        predicted = self.predict(self.scheduler.add_noise(clean, noise, t), t, condition)
        error = (predicted.float() - self._target(clean, noise, t)).square()
        return (error if weight is None else error * weight[part]).mean(dim=(1, 2, 3))

    def attach(self, config: LoraConfig, row: int) -> "Large":
        """Add a fresh adapter (float32) to the denoiser alone."""
        self.denoiser.add_adapter(config)
        cast_training_params(self.denoiser)
        if self.checkpointing:
            self.denoiser.enable_gradient_checkpointing()
        return self

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter in diffusers' own format: `pipe.load_lora_weights(folder)` opens it in
        the plain pipeline.

        Without its dropout, which diffusers would leave switched on when it samples.
        """
        self.pipe.save_lora_weights(
            folder,
            **{
                f"{self.part}_lora_layers": get_peft_model_state_dict(self.denoiser),
                f"{self.part}_lora_adapter_metadata": self.denoiser.peft_config["default"].to_dict()
                | {"lora_dropout": 0.0},
            },
        )

    def load_adapter(self, folder: Path) -> "Large":
        """Load a stored adapter into the denoiser, in eval mode. Raises ValueError, RuntimeError,
        OSError or SafetensorError where the two do not fit.
        """
        self.denoiser.load_lora_adapter(
            folder,
            prefix=self.part,
            weight_name=self.adapter_file,
            adapter_name="default",
            use_safetensors=True,
            local_files_only=True,
        )
        if not getattr(self.denoiser, "peft_config", None):
            raise ValueError("it holds no matrix of this denoiser")
        self.denoiser.eval()
        return self


class Diffusion(Large):
    """Stable Diffusion: a U-Net that predicts the noise (or v), latents scaled by one number."""

    part = "unet"
    first_timestep = 0
    encoding: ClassVar = {"num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    checkpointing = False  # fits without, one image at a time
    takes_guidance = False
    lora_targets: ClassVar = ["to_q", "to_k", "to_v", "to_out.0"]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        side = self.image_size // self.pipe.vae_scale_factor
        return self.denoiser.config.in_channels, side, side

    def _encode(self, pixels):
        return self.pipe.vae.encode(pixels).latent_dist.mode() * self.pipe.vae.config.scaling_factor

    def _decode(self, latents):
        return self.pipe.vae.decode(
            latents / self.pipe.vae.config.scaling_factor, return_dict=False
        )[0]

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """Noise (or v) of noisy latents [N, C, h, w] at timesteps [N] in 0..999, for rows of a
        condition [N].
        """
        return self.denoiser(
            latents.to(self.embeddings),
            timesteps,
            encoder_hidden_states=self.rows(condition),
            return_dict=False,
        )[0]

    def _target(self, clean, noise, t):
        velocity = self.scheduler.config.prediction_type == "v_prediction"
        return self.scheduler.get_velocity(clean, noise, t) if velocity else noise

    @property
    def scheduler(self) -> DDPMScheduler:
        """The noise schedule of training."""
        return DDPMScheduler.from_config(self.pipe.scheduler.config)

    def solver(self, steps: int) -> DPMSolverMultistepScheduler:
        """DPM-Solver++ (2M), its timesteps set."""
        solver = DPMSolverMultistepScheduler.from_config(
            self.pipe.scheduler.config, timestep_spacing="trailing"
        )
        solver.set_timesteps(steps, device=self.device)
        return solver
