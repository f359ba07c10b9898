"""Images a second of the study's training and sampling loops, as a share of a bare loop of the same
network.

    python tests/benchmarks/bench_training.py

Each pair runs interleaved in one process, so that a busy machine slows both; the ratio of medians
is what counts. A bare step is forward and backward on random tensors with the same batch; it draws
no data and updates nothing.
"""

import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch

from fsl_utils.classifier import models
from fsl_utils.classifier.arms import ARMS
from fsl_utils.data import domains, partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import base_images, finetuning, mini, mini_weights, pretrain, sampling
from fsl_utils.generator.adapter import AdapterRequest, attach
from fsl_utils.generator.sampling import PoolRequest

ROUNDS = 30


def compare(name: str, ours, bare, images: int) -> None:
    """Time both in turn for ROUNDS rounds and print images a second and the ratio."""
    for _ in range(2):
        ours(), bare()
    times = {ours: [], bare: []}
    for _ in range(ROUNDS):
        for step in (ours, bare):
            begin = time.perf_counter()
            step()
            times[step].append(time.perf_counter() - begin)
    a, b = (images / statistics.median(times[step]) for step in (ours, bare))
    print(f"{name:12} {a:7.1f} images/s   bare {b:7.1f}   ratio {a / b:.2f}", flush=True)


def bare_diffusion(net, batch: int, autocast: bool = False):
    latents, t, row = (
        torch.randn(batch, 16, 16, 16),
        torch.randint(0, 1000, (batch,)),
        torch.ones(batch, dtype=torch.long),
    )

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = net(latents, t, class_labels=row).sample.float().square().mean()
        loss.backward()

    return step


def main() -> None:
    elpv = domains.load("elpv")
    task = FewShotTask(elpv, partitions.draw(elpv.table, 0, 40))
    folder = Path(tempfile.mkdtemp())

    steps = pretrain.run([elpv], 10_000, folder, checkpoint_every=10_000)
    net = mini.create(torch.ones(16), 0).denoiser.to(memory_format=torch.channels_last).train()
    compare(
        "pretraining",
        lambda: next(steps),
        bare_diffusion(net, base_images.BATCH, autocast=True),
        base_images.BATCH,
    )

    request = AdapterRequest.new(task, 10_000, seed=987_654)
    batch, steps = request.settings.batch, finetuning.train(request)
    net = attach(mini_weights.load(), 1).denoiser.train()
    compare("fine-tuning", lambda: next(steps), bare_diffusion(net, batch), batch)

    images = torch.from_numpy(task.images(64)[task.training])
    labels = torch.from_numpy(task.draw.labels[task.training])
    steps = models.train_resnet(
        images, labels, ARMS["real"], steps=10_000, seed=0, init="scratch", flips="hv"
    )
    model = models.new_resnet("scratch", 0).to(memory_format=torch.channels_last).train()
    batch = models.RESNET["batch"]
    pixels = torch.randn(batch, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    compare(
        "resnet18", lambda: next(steps), lambda: model(pixels).square().mean().backward(), batch
    )

    backbone, wanted = mini_weights.load(), PoolRequest(task, request.backbone, steps=2)
    latents, t, row = (
        torch.randn(50, 16, 16, 16),
        torch.tensor(500),
        torch.ones(50, dtype=torch.long),
    )

    def bare():
        with torch.inference_mode():
            for _ in range(2):
                backbone.denoiser(latents, t, class_labels=row)

    numbers = itertools.count(0, 50)
    compare(
        "sampling",
        lambda: sampling.sample(backbone, wanted, range(start := next(numbers), start + 50)),
        bare,
        50,
    )


if __name__ == "__main__":
    main()
