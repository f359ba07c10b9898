"""Pretraining of `mini` on the base partitions: common images alone, from groups no study ever sees.

A killed run resumes from its last checkpoint and ends with the same weights: every step
draws its batch, noise and dropout from a generator seeded by (seed, step).
"""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers.training_utils import EMAModel

from fsl_utils import Interrupted, StudyError, store
from fsl_utils.data import augmentation, domains, partitions
from fsl_utils.data.datasets import registry
from fsl_utils.generator import checkpoints, mini

BATCH = 32
LEARNING_RATE = 4e-4
WARMUP = 200
DECAY = 0.3  # the last 30 % of the steps bring the learning rate down to 1 % along a cosine
EMA_DECAY = 0.9995
NO_CONDITION = 0.1  # share of images trained without condition, for guidance
HELD_OUT = 0.1  # share of base groups that only the loss curve sees
SEED = 0


def base_images(tasks: list[domains.Domain]) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    """Base images of the domains: uint8 [N, 1, 64, 64], condition [N], held out [N] (bool), file names by domain.

    Raises StudyError where a domain has no base image.
    """
    pixels, condition, held_out, files = [], [], [], {}
    for domain in tasks:
        name, rows = domain.name, domain.rows("base", label=0)
        if not len(rows):
            raise StudyError(
                f"{name} has no base image: pretraining needs common images of groups without a rare one"
            )
        groups = domain.table["group"].iloc[rows]
        apart = partitions.pick(
            pd.Series(name, index=groups.unique()),
            HELD_OUT,
            partitions.generator(name, "held out of pretraining"),
        )
        pixels.append(domain.images(mini.IMAGE_SIZE)[rows])
        condition.append(np.full(len(rows), mini.condition(name)))
        held_out.append(groups.isin(apart).to_numpy())
        files[name] = domain.table["image"].iloc[rows].tolist()
    return np.concatenate(pixels), np.concatenate(condition), np.concatenate(held_out), files


def batch(
    images: np.ndarray,
    condition: np.ndarray,
    train: list[np.ndarray],
    flips: dict[int, str],
    step: int,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch of a step: images uint8 [32, 1, 64, 64], mirrored and moved, and condition [32], now and then none.

    train: rows of the images of each domain, which take turns. flips: by condition, the axes along which it may be mirrored.
    """
    rows = np.array([rng.choice(train[i]) for i in (step * BATCH + np.arange(BATCH)) % len(train)])
    pixels = torch.from_numpy(images[rows])
    for c, allowed in flips.items():
        chosen = torch.from_numpy(condition[rows] == c)
        pixels[chosen] = augmentation.flips_and_shifts(pixels[chosen], allowed, 2, generator)
    return pixels, torch.from_numpy(
        np.where(rng.random(BATCH) < NO_CONDITION, mini.NULL, condition[rows])
    )


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, a plateau, then a cosine down to 1 %."""
    start = steps * (1 - DECAY)
    down = 0.0 if step < start else (step - start) / (steps - start)
    return (
        LEARNING_RATE
        * min(1, (step + 1) / WARMUP)
        * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * down)))
    )


def run(
    tasks: list[domains.Domain],
    steps: int,
    folder: Path,
    start: Path | None = None,
    checkpoint_every: int = 250,
) -> Iterator[dict]:
    """Train for `steps` of 32 images, every domain equally often; yields {step, loss} after every step.

    From random weights, or from those of `start`, whose band scales are kept.

    Every `checkpoint_every` steps, and where Ctrl-C stops it, it writes `checkpoint.safetensors` into `folder`, from
    which a later run resumes; every `checkpoint_every` steps it adds to what it yields the mean loss since the last checkpoint and that of the averaged
    weights on held-out groups: {step, loss, mean_loss, held_out, seconds}. It ends with `mini.safetensors` and
    `loss.csv` there. Mixed precision (bfloat16) in forward and backward.
    """
    images, condition, held_out, files = base_images(tasks)
    flips = {mini.condition(task.name): registry.get(task.name).flips for task in tasks}
    model = mini.load(start) if start else mini.create(mini.band_scales(images[~held_out]), SEED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = model.denoiser.to(device, memory_format=torch.channels_last).train().requires_grad_(True)
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.99)
    )
    ema = EMAModel(
        net.parameters(),
        decay=EMA_DECAY,
        use_ema_warmup=True,
        inv_gamma=1.0,
        power=0.75,
        foreach=True,
    )

    path = folder / "checkpoint.safetensors"
    held = {f"net.{name}": parameter for name, parameter in net.named_parameters()}
    held |= {f"ema.{i}": average for i, average in enumerate(ema.shadow_params)}
    facts = checkpoints.resume(path, held, optimiser) or {"losses": [], "curve": []}
    losses, curve = facts["losses"], facts["curve"]  # losses: of every step so far
    first = ema.optimization_step = len(losses)
    if first:
        print(f"going on from step {first} of {steps}")
    train = [np.flatnonzero((condition == c) & ~held_out) for c in flips]
    begin = time.perf_counter()
    with checkpoints.interrupts_held() as interrupted:
        for step in range(first, steps):
            rng = np.random.default_rng([SEED, step])
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            torch.manual_seed(int(rng.integers(2**62)))  # dropout
            pixels, labels = batch(images, condition, train, flips, step, rng, generator)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, steps)
            with torch.autocast(device, torch.bfloat16):
                loss = model.loss(model.encode(pixels), labels.to(device), generator).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            ema.step(net.parameters())
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise StudyError(
                    f"the loss is {losses[-1]} at step {step}: run again to go on from the last "
                    f"checkpoint, or lower LEARNING_RATE in {__name__} ({LEARNING_RATE})"
                )

            done = {"step": step + 1, "loss": losses[-1]}
            if due := (step + 1) % checkpoint_every == 0 or step + 1 == steps:
                since = losses[curve[-1]["step"] if curve else 0 :]
                done |= {
                    "mean_loss": float(np.mean(since)),
                    "seconds": time.perf_counter() - begin,
                    "held_out": _held_out_loss(model, ema, images[held_out], condition[held_out]),
                }
                curve.append(done)
                checkpoints.save(path, step + 1, held, optimiser, facts)
            yield done
            if interrupted():
                if not due:
                    checkpoints.save(path, step + 1, held, optimiser, facts)
                raise Interrupted(
                    f"interrupted: step {step + 1} of {steps} is kept; {checkpoints.GO_ON}"
                )

    ema.copy_to(net.parameters())
    about = {
        "domains": [task.name for task in tasks],
        "start": model.hash,
        "steps": steps,
        "batch": BATCH,
        "seed": SEED,
        "images": int((~held_out).sum()),
        "files": files,
        "unet": mini.UNET,
        "schedule": mini.SCHEDULE,
        "ema_decay": EMA_DECAY,
    }
    mini.save(model, folder / "mini.safetensors", about)
    lines = ["step,loss,held_out"] + [
        f"{r['step']},{r['mean_loss']:.5f},{r['held_out']:.5f}" for r in curve
    ]
    store.write_text(folder / "loss.csv", "\n".join(lines) + "\n")


@torch.no_grad()
def _held_out_loss(model, ema, images, condition) -> float:
    """Loss of the averaged weights on held-out groups, at the same noise every time; NaN where none are held out."""
    if not len(images):
        return float("nan")
    net = model.denoiser
    ema.store(net.parameters())
    ema.copy_to(net.parameters())
    net.eval()
    generator = torch.Generator().manual_seed(0)
    parts = [
        model.loss(
            model.encode(images[i : i + 64]),
            torch.from_numpy(condition[i : i + 64]).to(net.device),
            generator,
        )
        for _ in range(4)
        for i in range(0, len(images), 64)
    ]
    net.train()
    ema.restore(net.parameters())
    return float(torch.cat(parts).mean())
