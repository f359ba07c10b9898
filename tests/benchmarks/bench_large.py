"""A tiny Stable Diffusion: fine-tuning against a step that encodes its images and prompts anew,
sampling against diffusers' own pipeline call.

    python tests/benchmarks/bench_large.py

Medians of rounds that run in turn in one process. Encoding an image costs 1.4 times a pass through
the denoiser, counted in operations, as it does with Stable Diffusion 1.5 at 512 pixels (1,117 to
803 GFLOP).
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import diffusers
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

from fsl_utils.data import domains, partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import batches, finetuning, gradients, sampling
from fsl_utils.generator.adapter import AdapterRequest, attach
from fsl_utils.generator.sampling import PoolRequest

ROUNDS = 30
STEPS = 10  # of the solver
IMAGES = 8


def compare(name: str, ours, theirs) -> float:
    """Time both in turn for ROUNDS rounds; prints the medians and returns how many times as fast
    ours is.
    """
    for _ in range(2):
        ours(), theirs()
    times = {ours: [], theirs: []}
    for _ in range(ROUNDS):
        for step in (ours, theirs):
            begin = time.perf_counter()
            step()
            times[step].append(time.perf_counter() - begin)
    a, b = (1000 * statistics.median(times[step]) for step in (ours, theirs))
    print(f"{name:12} ours {a:7.1f} ms   theirs {b:7.1f} ms   {b / a:.2f}x", flush=True)
    return b / a


def main() -> None:
    folder = tiny.sd15(Path(tempfile.mkdtemp()) / "sd15", widths=(64, 128), vae=(20, 40, 80, 80))
    os.environ["FSL_SD15"] = str(folder)
    elpv = domains.load("elpv")
    task = FewShotTask(elpv, partitions.draw(elpv.table, 0, 40))
    seed = time.time_ns() % 2**31  # an adapter that is not there yet

    request = AdapterRequest.new(task, 1000, seed, backbone="sd15")
    tuning, prompts = request.settings, request.backbone.prompts
    begin = time.perf_counter()
    steps = finetuning.train(request)
    next(steps)
    print(
        f"{'before':12} {time.perf_counter() - begin:.1f} s until the first step: "
        "weights, prompts, all views of the images encoded"
    )

    other = attach(request.backbone.open(), 1, tuning.rank, tuning.alpha)
    other.denoiser.train()
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    trained = {n: p for n, p in other.denoiser.named_parameters() if p.requires_grad}
    optimiser = gradients.optimiser(trained.values(), tuning)
    batch, number = batches.Batches(request, other), iter(range(10**6))

    def uncached():
        """The same step, but images and prompts go through their encoders."""
        with torch.no_grad():
            other.embeddings = pipe.encode_prompt(list(prompts), "cpu", 1, False)[0]
        gradients.gradients(other, batch(next(number)), request.settings, 1)
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimiser.step()

    compare("fine-tuning", lambda: next(steps), uncached)

    plain = request.backbone.open()
    pool = PoolRequest.of(request, steps=STEPS, guidance=2.0)
    pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing"
    )

    def theirs():
        made = pipe(
            [prompts[2]] * IMAGES,
            num_inference_steps=STEPS,
            guidance_scale=2.0,
            height=64,
            width=64,
            output_type="np",
            generator=[
                torch.Generator().manual_seed(sampling.image_seed(0, 0, i)) for i in range(IMAGES)
            ],
        ).images
        return (made * 255).round().astype(np.uint8)

    compare("sampling", lambda: sampling.sample(plain, pool, range(IMAGES)), theirs)
    grey = sampling.sample(plain, pool, range(IMAGES))[:, 0]
    print(
        f"{'':12} largest difference of a pixel: "
        f"{np.abs(grey - theirs() @ [0.299, 0.587, 0.114]).max():.1f} of 255"
    )


if __name__ == "__main__":
    main()
