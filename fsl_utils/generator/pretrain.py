"""Pretraining of a mini on the base partitions: common images alone, from groups no study ever
sees. Where a folder has no such group, on a draw's own common training images.

A killed run resumes from its last checkpoint and ends with the same weights: every step
draws its batch, noise and dropout from a generator seeded by (seed, step).
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers.training_utils import EMAModel

from fsl_utils import Interrupted, StudyError, store
from fsl_utils.data import domains
from fsl_utils.data.corpora import Corpus
from fsl_utils.generator import batches, checkpoints, mini, mini_weights, precision
from fsl_utils.generator.base_images import BATCH, BaseImages

LEARNING_RATE = 4e-4
WARMUP = 100
DECAY = 0.3  # the last 30 % of the steps bring the learning rate down to 1 % along a cosine
EMA_DECAY = 0.9995
DRAWN_WEIGHT = 5.0  # loss of a marked place to that of any other
SEED = 0


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
    kind: type[mini.Mini] = mini.Mini,
    corpora: tuple[Corpus, ...] = (),
    draw: int | None = None,
) -> Iterator[dict]:
    """Train for `steps` of 32 images, every domain equally often; yields {step, loss} after every
    step. On base images, or on those of a draw (see `BaseImages`).

    From random weights, or from those of `start`, whose band scales are kept. Of each corpus there
    is one image for four of each domain. A kind that takes masks learns what they mean from drawn
    defects.

    Every `checkpoint_every` steps, and where Ctrl-C stops it, it writes `checkpoint.safetensors`
    into `folder`, from which a later run resumes. Every `checkpoint_every` steps it adds to what it
    yields the mean loss since the last checkpoint and that of the averaged weights on held-out
    groups: {step, loss, mean_loss, held_out, seconds}. It ends with `mini.safetensors` and
    `loss.csv` there. Mixed precision (bfloat16) in forward and backward.
    """
    training = Pretraining(tasks, steps, folder, start, kind, corpora, draw)
    if training.done:
        print(f"going on from step {training.done} of {steps}")
    with checkpoints.interrupts_held() as interrupted:
        while training.done < steps:
            row = {"step": training.done + 1, "loss": training.step()}
            due = training.done % checkpoint_every == 0 or training.done == steps
            if due:
                row |= training.look()
                training.curve.append(row)
                training.save()
            yield row
            if interrupted():
                if not due:
                    training.save()
                raise Interrupted(
                    f"interrupted: step {training.done} of {steps} is kept; {checkpoints.GO_ON}"
                )
    training.finish()


class Pretraining:
    """One pretraining under way; it goes on from the checkpoint in `folder` if there is one."""

    def __init__(
        self,
        tasks: list[domains.Domain],
        steps: int,
        folder: Path,
        start: Path | None,
        kind: type[mini.Mini],
        corpora: tuple[Corpus, ...],
        draw: int | None = None,
    ):
        self.tasks, self.steps, self.folder = tasks, steps, folder
        self.base = base = BaseImages(tasks, kind.image_size, corpora, draw)
        if start:
            self.model = mini_weights.load(start, kind=kind)
        else:
            own = np.isin(base.condition, [mini.condition(task.name) for task in tasks])
            scales = mini.band_scales(base.images[own & ~base.held_out], kind)
            self.model = mini.create(scales, SEED, kind)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        net = self.model.denoiser.to(self.device, memory_format=torch.channels_last)
        self.net = net.train().requires_grad_(True)
        self.optimiser = torch.optim.AdamW(
            net.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.99)
        )
        self.ema = EMAModel(
            net.parameters(),
            decay=EMA_DECAY,
            use_ema_warmup=True,
            inv_gamma=1.0,
            power=0.75,
            foreach=True,
        )
        self.path = folder / "checkpoint.safetensors"
        self.tensors = {f"net.{name}": parameter for name, parameter in net.named_parameters()}
        self.tensors |= {f"ema.{i}": average for i, average in enumerate(self.ema.shadow_params)}
        # losses: of every step so far. curve: what `look` said.
        self.facts = checkpoints.resume(self.path, self.tensors, self.optimiser)
        told = json.dumps({"files": self.base.files, "start": self.model.hash})
        data = hashlib.sha256(told.encode()).hexdigest()
        self.facts = self.facts or {"losses": [], "curve": [], "data": data}
        if self.facts.get("data", data) != data:
            raise StudyError(
                f"{self.path}: this checkpoint is of other images or began with other weights; "
                "take another folder (--out), or remove it"
            )
        self.losses, self.curve = self.facts["losses"], self.facts["curve"]
        self.ema.optimization_step = self.done
        self.begin = time.perf_counter()

    @property
    def done(self) -> int:
        """Steps done."""
        return len(self.losses)

    def step(self) -> float:
        """One step of the optimiser; returns its loss. Raises StudyError where that is not
        finite.
        """
        rng = np.random.default_rng([SEED, self.done])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        torch.manual_seed(int(rng.integers(2**62)))  # dropout
        masked = self.model.takes_masks
        pixels, masks, condition = self.base.batch(self.done, rng, generator, drawn=masked)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.done, self.steps)
        fast = precision.bfloat16(self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=fast):
            clean, condition = self.model.encode(pixels), condition.to(self.device)
            weight = batches.weights(masks, clean, DRAWN_WEIGHT) if masked else None
            loss = self.model.told(masks).loss(clean, condition, generator, weight).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        self.ema.step(self.net.parameters())
        if not math.isfinite(loss.item()):
            raise StudyError(
                f"the loss is {loss.item()} at step {self.done}: run again to go on from the last "
                f"checkpoint, or lower LEARNING_RATE in {__name__} ({LEARNING_RATE})"
            )
        self.losses.append(loss.item())
        return self.losses[-1]

    def look(self) -> dict:
        """How it stands: mean_loss since the last look, seconds, held_out (see `run`)."""
        since = self.losses[self.curve[-1]["step"] if self.curve else 0 :]
        mean, seconds = float(np.mean(since)), time.perf_counter() - self.begin
        return {"mean_loss": mean, "seconds": seconds, "held_out": self._held_out_loss()}

    def save(self) -> None:
        """Write a checkpoint."""
        checkpoints.save(self.path, self.done, self.tensors, self.optimiser, self.facts)

    def finish(self) -> None:
        """Write the averaged weights and the curve."""
        self.ema.copy_to(self.net.parameters())
        about = {
            "domains": [task.name for task in self.tasks],
            "start": self.model.hash,
            "steps": self.steps,
            "batch": BATCH,
            "seed": SEED,
            "images": int((~self.base.held_out).sum()),
            "files": self.base.files,
            "unet": self.model.unet,
            "ema_decay": EMA_DECAY,
        }
        mini_weights.save(self.model, self.folder / f"{self.model.name}.safetensors", about)
        lines = [f"{r['step']},{r['mean_loss']:.5f},{r['held_out']:.5f}" for r in self.curve]
        text = "\n".join(["step,loss,held_out", *lines]) + "\n"
        store.write_text(self.folder / "loss.csv", text)

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        """Loss of the averaged weights on held-out groups, at the same noise every time; NaN where
        none are held out.
        """
        base = self.base
        images, condition = base.images[base.held_out], base.condition[base.held_out]
        if not len(images):
            return float("nan")
        self.ema.store(self.net.parameters())
        self.ema.copy_to(self.net.parameters())
        self.net.eval()
        generator, parts = torch.Generator().manual_seed(0), []
        for _ in range(4):
            for i in range(0, len(images), 64):
                rows = torch.from_numpy(condition[i : i + 64]).to(self.net.device)
                clean = self.model.encode(images[i : i + 64])
                parts.append(self.model.loss(clean, rows, generator))
        self.net.train()
        self.ema.restore(self.net.parameters())
        return float(torch.cat(parts).mean())
