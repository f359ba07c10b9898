"""FLUX.2 behind the interface of `mini`: flow matching on packed latents (see `large`)."""

from typing import ClassVar

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

from fsl_utils.generator.large import Large


class FlowSolver(FlowMatchEulerDiscreteScheduler):
    """Euler steps of a flow, with the method by which diffusion schedulers noise an image."""

    def add_noise(
        self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Latents [N, C, h, w] at timesteps [N] in (0, 1000]; while it solves (`set_begin_index`),
        at the step that it stands at.
        """
        if self.begin_index is not None:
            return self.scale_noise(clean, timesteps, noise)
        return torch.lerp(
            clean,
            noise,
            (timesteps / self.config.num_train_timesteps).to(clean)[:, None, None, None],
        )


class Flow(Large):
    """FLUX.2: a transformer that predicts noise - image on the straight line between them, on 2x2
    patches of standardised latents.

    FLUX.2-dev was distilled to take the guidance as an input; FLUX.2-klein-base is guided by two
    predictions.
    """

    part = "transformer"
    first_timestep = 1
    encoding: ClassVar = {}
    # Activations are recomputed in the backward pass: a third more time, a fraction of the memory
    checkpointing = True
    # Those of diffusers' train_dreambooth_lora_flux2*.py: attention of both kinds of block.
    lora_targets = (
        r".*\.(to_q|to_k|to_v|to_out\.0|to_qkv_mlp_proj)"
        r"|single_transformer_blocks\.\d+\.attn\.to_out"
    )

    @property
    def takes_guidance(self) -> bool:
        return self.denoiser.config.guidance_embeds

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        side = self.image_size // (2 * self.pipe.vae_scale_factor)
        return self.denoiser.config.in_channels, side, side

    def _encode(self, pixels):
        return self.pipe._encode_vae_image(pixels, generator=None)

    def _decode(self, latents):
        norm = self.pipe.vae.bn
        mean, deviation = (
            norm.running_mean.view(1, -1, 1, 1),
            torch.sqrt(norm.running_var.view(1, -1, 1, 1) + self.pipe.vae.config.batch_norm_eps),
        )
        return self.pipe.vae.decode(
            self.pipe._unpatchify_latents(latents * deviation.to(latents) + mean.to(latents)),
            return_dict=False,
        )[0]

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        condition: torch.Tensor,
        guidance: float = 1.0,
    ) -> torch.Tensor:
        """Velocity of noisy latents [N, C, h, w] at timesteps [N] in (0, 1000], for rows of a
        condition [N].

        `guidance` is what FLUX.2-dev is told; in training 1, as in diffusers' example.
        """
        latents, text = latents.to(self.embeddings), self.rows(condition)
        told = (
            torch.full((len(latents),), guidance, device=self.device)
            if self.takes_guidance
            else None
        )
        packed = self.denoiser(
            hidden_states=self.pipe._pack_latents(latents),
            timestep=timesteps.to(latents.dtype) / 1000,
            guidance=told,
            encoder_hidden_states=text,
            txt_ids=self.pipe._prepare_text_ids(text[:1]).to(self.device),
            img_ids=self.pipe._prepare_latent_ids(latents[:1]).to(self.device),
            return_dict=False,
        )[0]
        return packed.permute(0, 2, 1).reshape(latents.shape)

    def _target(self, clean, noise, t):  # flow matching (Lipman et al. 2023)
        return noise - clean

    @property
    def scheduler(self) -> FlowSolver:
        """The straight line between image and noise."""
        return FlowSolver.from_config(self.pipe.scheduler.config)

    def solver(self, steps: int) -> FlowSolver:
        """Euler steps, shifted by the number of tokens as the pipeline shifts them."""
        solver = self.scheduler
        _, height, width = self.latent_shape
        solver.set_timesteps(
            sigmas=np.linspace(1.0, 1 / steps, steps),
            device=self.device,
            mu=compute_empirical_mu(height * width, steps),
        )
        return solver
