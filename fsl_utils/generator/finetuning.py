"""Few-shot fine-tuning: an adapter of the backbone on one draw's shots.

The backbone's weights stay as they are. Under `accelerate launch` every process takes its share of
each batch.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from scipy.stats import binom

from fsl_utils import Interrupted, StudyError, files, store
from fsl_utils.generator import (
    adapter,
    backbones,
    batches,
    checkpoints,
    copies,
    mini,
    sampling,
)
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.generator.gradients import gradients, learning_rate, optimiser

CHECKED = 50  # images that a copy check samples, the same seeds every time
CHECK_STEPS = 20
CHECK_FIRST = 1_000_000  # number of the first of them: no pool reaches so far
# Chance that any check of a run stops an adapter that copies no more than unseen real images seem
# to
ALARM = 0.01


class Step(NamedTuple):
    """What a step was: its number from 1, its loss, those of every step so far, also before an
    interruption, {step, copied, of, allowed} of every copy check, and the backbone as it stands."""

    number: int
    loss: float
    losses: list[float]
    checks: list[dict]
    backbone: object


@dataclass
class TrainingState:
    """What an interrupted run goes on from, beside its weights."""

    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    checks: list[dict] = field(default_factory=list)


def train(request: AdapterRequest, device: str = "cpu") -> Iterator[Step]:
    """Fine-tune; yields after every step, and nothing if the adapter is already there.

    A killed run resumes from its last checkpoint, one stopped by Ctrl-C from the step that it had
    reached (Interrupted is raised then): batch, noise and dropout of a step come from (seed, step).
    From step `check_from` on, a checkpoint must pass the copy check; one that does not ends the
    run, and the one before it is the result (`kept_step` in the manifest). Raises StudyError where
    there is no shot, the loss is not finite, or already the first check fails.
    """
    if request.find():
        return
    run = FineTuningRun.start(request, device)
    with checkpoints.interrupts_held() as interrupted:
        while run.done < request.steps:
            loss = run.step()
            passed = run.check()
            if passed:
                run.save()
            yield Step(run.done, loss, run.state.losses, run.state.checks, run.backbone)
            if not passed:
                run.go_back()
                break
            if broadcast_object_list([interrupted()])[0]:
                run.interrupt()
    run.finish()


class FineTuningRun:
    """One fine-tuning under way: started, stepped, checked, saved and finished by whoever watches
    it (see `train`).
    """

    def __init__(self, request: AdapterRequest, backbone, device: str):
        self.request, self.backbone, self.device = request, backbone, device
        self.trained = {n: p for n, p in backbone.denoiser.named_parameters() if p.requires_grad}
        self.optimiser = optimiser(self.trained.values(), request.settings)
        folder = store.work_folder(request.stage, request.params())
        self.checkpoint: Path = folder / "checkpoint.safetensors"
        # Apart: no copy check has seen it, so that nothing goes back to it.
        self.unchecked: Path = folder / "unchecked.safetensors"
        before = self._resumed(self.unchecked) or self._resumed(self.checkpoint)
        self.state = before or TrainingState()
        if self.done and PartialState().is_main_process:
            print(f"going on from step {self.done} of {request.steps}")
        self.kept, self.parts, self.rule = request.steps, 1, None
        if request.settings.views:
            steps = range(self.done, request.steps)
            self.batch = batches.EncodedBatches(request, backbone, steps)
        else:
            self.batch = batches.Batches(request, backbone)

    @classmethod
    def start(cls, request: AdapterRequest, device: str) -> "FineTuningRun":
        """Open the backbone, attach a fresh adapter, and go on from the last checkpoint if there is
        one.
        """
        task, tuning = request.task, request.settings
        if not task.n_real:
            raise StudyError(
                f"draw {task.draw.number} has no shot: fine-tuning needs at least 1 (n_real)"
            )
        # One process, unless `accelerate launch` started more.
        processes = PartialState(cpu=device == "cpu").num_processes
        if processes > tuning.batch:
            raise StudyError(
                f"{processes} processes, but a batch of {tuning.batch}: "
                "launch fewer, or set batch higher in settings"
            )
        torch.manual_seed(request.seed)
        backbone = request.backbone.open(device)
        backbones.check_size(backbone, request.image_size)
        row = mini.condition(task.domain.name)
        backbone = adapter.attach(backbone, row, tuning.rank, tuning.alpha, tuning.dropout)
        backbone.denoiser.train()
        return cls(request, backbone, device)

    @property
    def done(self) -> int:
        """Steps done."""
        return len(self.state.losses)

    def step(self) -> float:
        """One step of the optimiser; returns its loss. Raises StudyError where that is not
        finite.
        """
        begin, tuning = time.perf_counter(), self.request.settings
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.done, self.request.steps, tuning.learning_rate)
        loss, self.parts = gradients(self.backbone, self.batch(self.done), tuning, self.parts)
        if not math.isfinite(loss):
            raise StudyError(
                f"the loss is {loss} at step {self.done}: "
                f"lower learning_rate ({tuning.learning_rate}) in settings"
            )
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimiser.step()
        self.state.losses.append(loss)
        self.state.seconds += time.perf_counter() - begin
        return loss

    def check(self) -> bool:
        """Whether the adapter copies no more than it may; True too where no check is due."""
        tuning = self.request.settings
        if self.done < tuning.check_from or not (self._due or self.done == self.request.steps):
            return True
        begin, task = time.perf_counter(), self.request.task
        self.rule = self.rule or copies.rule(task, self.request.image_size, unseen=task.draw.common)
        verdict = count_copies(self.backbone, self.request, self.rule)
        verdict = broadcast_object_list([verdict])[0]  # one for all processes
        self.state.checks.append({"step": self.done, **verdict})
        self.state.seconds += time.perf_counter() - begin
        return verdict["copied"] <= verdict["allowed"]

    def save(self) -> None:
        """Write a checkpoint, where one is due."""
        if self._due:
            self._write(self.checkpoint)
            self.unchecked.unlink(missing_ok=True)

    def interrupt(self) -> None:
        """Keep the step that was reached. Raises Interrupted, which says so."""
        if not self._due:
            self._write(self.unchecked)
        raise Interrupted(
            f"interrupted: step {self.done} of {self.request.steps} is kept; {checkpoints.GO_ON}"
        )

    def _write(self, path: Path) -> None:
        if PartialState().is_main_process:
            checkpoints.save(path, self.done, self.trained, self.optimiser, asdict(self.state))

    def go_back(self) -> None:
        """Go back to the last checkpoint, which passed its check. Raises StudyError where the first
        check failed.
        """
        last, settings = self.state.checks[-1], self.request.settings
        said = f"{last['copied']} of {CHECKED} images are copies"
        if len(self.state.checks) == 1:
            raise StudyError(
                f"{said} at step {self.done} already ({last['allowed']} may seem so): "
                f"train on more shots (n_real {self.request.task.n_real}) or "
                f"with a lower learning_rate ({settings.learning_rate})"
            )
        PartialState().wait_for_everyone()
        if (kept := self._resumed(self.checkpoint)) is None:
            raise StudyError(f"{self.checkpoint} is damaged: run again to begin anew")
        self.kept = len(kept.losses)
        print(
            f"stopped at step {self.done}: {said} ({last['allowed']} may seem so); "
            f"step {self.kept} is kept"
        )

    def finish(self) -> None:
        """Put the adapter into the store and remove the checkpoint."""

        def build(folder):
            self.backbone.save_adapter(folder)
            lines = [f"{i + 1},{loss:.6f}\n" for i, loss in enumerate(self.state.losses)]
            (folder / "loss.csv").write_text("step,loss\n" + "".join(lines))
            return {
                "train_seconds": round(self.state.seconds, 1),
                "kept_step": self.kept,
                "checks": self.state.checks,
                "parts": self.parts,
            }

        PartialState().wait_for_everyone()
        self.request.make(build, device=self.device)
        files.discard(self.checkpoint.parent)

    @property
    def _due(self) -> bool:
        return self.done % self.request.settings.check_every == 0

    def _resumed(self, path: Path) -> TrainingState | None:
        facts = checkpoints.resume(path, self.trained, self.optimiser)
        return facts and TrainingState(**facts)


def count_copies(backbone, request: AdapterRequest, rule: copies.Rule) -> dict:
    """Sample and count copies: {copied, of, allowed}, on images of no pool.

    More than `allowed` are copied with a chance of at most ALARM in a whole run, if single images
    are called so as often as unseen real ones are: a binomial quantile at the rule's false-alarm
    rate, ALARM shared among the checks (Bonferroni).
    """
    pool = sampling.PoolRequest.of(request, steps=CHECK_STEPS, seed=request.seed)
    backbone.denoiser.eval()
    painted = sampling.sample(backbone, pool, range(CHECK_FIRST, CHECK_FIRST + CHECKED))
    backbone.denoiser.train()
    looks = -(-request.steps // request.settings.check_every)
    allowed = binom.ppf(1 - ALARM / looks, CHECKED, np.fmax(copies.QUANTILE, rule.false_alarm))
    return {
        "copied": int(copies.judge(painted, rule).nearest["copied"].sum()),
        "of": CHECKED,
        "allowed": int(allowed),
    }
