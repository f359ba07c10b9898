"""Which form of mini128 learns most from one thread and a few minutes, and how good are weights?
The record behind results/mini.md.

    python tests/benchmarks/compare_mini128.py train DESIGN --seconds 390
        one design of DESIGNS, into <store>/mini128/DESIGN
    python tests/benchmarks/compare_mini128.py judge [DESIGN ...]
        KID and fine detail of what each paints without an adapter, the weights in use among them
        (`mini` enlarged); writes bases.csv and bases.png beside them
    python tests/benchmarks/compare_mini128.py shift 1 3 6 10 16
        the same of the weights in use under other noise levels of the solver; writes shift.csv
    python tests/benchmarks/compare_mini128.py autoguidance 1 1.5 2 3
        the same, drawn away from earlier weights; writes autoguidance.csv; --backbone mini: at 64
    python tests/benchmarks/compare_mini128.py steps 20 40
        the same, with more of the solver's steps; writes steps.csv

Every design sees the same images and noise in the same order. Judged by KID (EfficientNet-Lite2,
which trained none of them) to a random half of a domain's base images, and by the energy of the
finest Haar bands as a share of the real images'.
"""

import argparse
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from compare_designs import detail
from PIL import Image

from fsl_utils import store
from fsl_utils.classifier import features
from fsl_utils.classifier import judge as network
from fsl_utils.data import domains, partitions
from fsl_utils.data.corpora import CORPORA
from fsl_utils.generator import backbones, mini, mini128, mini_weights, pretrain
from fsl_utils.generator.mini128 import TIMES, Mini128
from fsl_utils.pools import measures

NAMES = ("elpv", "magnetic_tile", "chestxray14", "pv_cracks")
SAMPLED, STEPS, SHOWN = 32, 20, 8
SAMPLED_BY = ("shift", "autoguidance", "steps")
LEAST = 0.05  # noise level from which down the loss of a clean image weighs no more


class Powers(Mini128):
    """Bands divided by their spread to a `power`: 1 makes them equal, 0 leaves pixels' own."""

    power: ClassVar[float]

    @classmethod
    def divisors(cls, spread: torch.Tensor) -> torch.Tensor:
        divided = spread**cls.power
        return divided * (spread / divided).square().mean().sqrt()

    @property
    def spread(self) -> torch.Tensor:
        left = self.scales ** (1 / self.power - 1)
        return (left / left.square().mean().sqrt())[:, None, None]


class Equal(Powers):
    """Bands of equal power: the first form of mini128."""

    power = 1.0


class FourthRoot(Powers):
    """Nearer to pixels than the root is."""

    power = 0.25


class NoSkip(Equal):
    """The network's output is the clean image (JiT, arXiv 2511.13720)."""

    def predict(self, latents, timesteps, condition):
        return self._network(latents, timesteps, condition)

    def loss(self, clean, condition, generator, weight=None, part=slice(None)):
        """As Mini128's; at low noise, where a network without a skip is far off, bounded."""
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        s = torch.randn(len(clean), generator=generator).sigmoid().to(clean)[:, None, None, None]
        predicted = self.predict((1 - s) * clean + s * noise, s.flatten() * TIMES, condition)
        error = ((predicted.float() - clean) / s.clamp(min=LEAST)).square()
        return self.mean_error(error if weight is None else error * weight)


class NoSkipPixels(NoSkip):
    """The same on bands as pixels have them, all divided by one number."""

    @classmethod
    def divisors(cls, spread: torch.Tensor) -> torch.Tensor:
        return torch.full_like(spread, float(spread.square().mean().sqrt()))

    def mean_error(self, error: torch.Tensor) -> torch.Tensor:
        return error.mean(dim=(1, 2, 3))


DESIGNS = {
    "root": Mini128,
    "fourth_root": FourthRoot,
    "equal": Equal,
    "no_skip": NoSkip,
    "no_skip_pixels": NoSkipPixels,
}


def train(name: str, seconds: float, folder: Path) -> None:
    """Train a design for so long on one thread; writes weights.safetensors. The learning rate falls
    with time as that of `pretrain` does with steps.
    """
    torch.set_num_threads(1)
    tasks = [domains.load(n) for n in NAMES]
    run = pretrain.Pretraining(tasks, 10_000, folder, None, DESIGNS[name], CORPORA)
    begin, rate = time.perf_counter(), pretrain.learning_rate

    def by_time(step: int, steps: int) -> float:
        share = min((time.perf_counter() - begin) / seconds, 1)
        return rate(round(share * steps), steps) * min(1, (step + 1) / pretrain.WARMUP)

    pretrain.learning_rate = by_time
    while time.perf_counter() - begin < seconds:
        loss = run.step()
        if run.done % 50 == 0:
            print(f"{name} step {run.done} loss {loss:.3f}", flush=True)
    run.ema.copy_to(run.net.parameters())
    mini_weights.save(run.model, folder / "weights.safetensors", {"steps": run.done, "files": {}})


@torch.inference_mode()
def paint(
    model: mini.Mini,
    row: int,
    n: int = SAMPLED,
    seed: int = 0,
    autoguidance: float = 1.0,
    steps: float = STEPS,
) -> np.ndarray:
    """Images of the backbone alone, uint8 [n, 1, S, S]."""
    noise = torch.randn(n, *model.latent_shape, generator=torch.Generator().manual_seed(seed))
    solver, rows = model.solver(int(steps)), torch.full((n,), row)
    earlier = mini_weights.earlier(model) if autoguidance != 1 else None
    for t in solver.timesteps:
        clean = model.predict(noise, t.expand(n), rows)
        if earlier:
            worse = earlier.predict(noise, t.expand(n), rows)
            clean = worse + autoguidance * (clean - worse)
        noise = solver.step(clean, t, noise).prev_sample
    return model.decode(noise)


def _enlarged(images: np.ndarray) -> np.ndarray:
    pixels = torch.from_numpy(images).float()
    large = F.interpolate(pixels, size=(128, 128), mode="bicubic", antialias=True)
    return large.round().clamp(0, 255).byte().numpy()


def judge(designs: list[str], folder: Path) -> None:
    """Print and write what each paints: KID, its spread, fine detail; a sheet with real ones."""
    models = {name: mini_weights.load(kind=kind) for name, kind in backbones.MINIS.items()}
    for name in designs:
        models[name] = mini_weights.load(folder / name / "weights.safetensors", kind=DESIGNS[name])
    rows, strips = [], []
    for domain in NAMES:
        kept, other = _halves(domain)
        painted = {"real": other} | {
            name: _enlarged(paint(model, mini.condition(domain))) for name, model in models.items()
        }
        judged = _embedded(kept)
        for name, images in painted.items():
            kid, spread = measures.kid(_embedded(images), judged, 0)
            fine = detail(images) / detail(kept)
            measured = {"kid": kid, "spread": spread, "fine": fine}
            rows.append({"domain": domain, "images": name} | measured)
            print(rows[-1], flush=True)
            strips.append(np.concatenate(list(images[:SHOWN, 0]), axis=1))
    pd.DataFrame(rows).round(4).to_csv(folder / "bases.csv", index=False, lineterminator="\n")
    Image.fromarray(np.concatenate(strips)).save(folder / "bases.png")


def sampled(name: str, values: list[float], backbone: str, folder: Path) -> None:
    """Print and write KID and fine detail under each value of what SAMPLED_BY names, of 64 images a
    domain.
    """
    model, rows = mini_weights.load(kind=backbones.MINIS[backbone]), []
    for domain in model.about["domains"]:
        kept, _ = _halves(domain, model.image_size)
        judged, fine = _embedded(kept), detail(kept)
        for value in values:
            if name == "shift":
                mini128.SHIFT = value
            how = {} if name == "shift" else {name: value}
            images = paint(model, mini.condition(domain), 64, 1, **how)
            kid, spread = measures.kid(_embedded(images), judged, 0)
            measured = {"kid": kid, "spread": spread, "fine": detail(images) / fine}
            rows.append({"domain": domain, name: value} | measured)
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).round(4)
    table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def _halves(domain: str, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A domain's base images at random in two halves, uint8 [N, 1, S, S]."""
    task = domains.load(domain)
    real = task.images(size)[task.rows("base", label=0)]
    order = partitions.generator("judge", domain).permutation(len(real))
    return real[order[: len(real) // 2]], real[order[len(real) // 2 :]]


def _embedded(images: np.ndarray) -> np.ndarray:
    return np.concatenate(list(features.batches(images, view=network.VIEW)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=store.root() / "mini128")
    verbs = parser.add_subparsers(dest="verb", required=True)
    training = verbs.add_parser("train")
    training.add_argument("design", choices=list(DESIGNS))
    training.add_argument("--seconds", type=float, default=390)
    verbs.add_parser("judge").add_argument("designs", nargs="*")
    for name in SAMPLED_BY:
        verb = verbs.add_parser(name)
        verb.add_argument("values", nargs="+", type=float)
        verb.add_argument("--backbone", choices=list(backbones.MINIS), default="mini128")
    asked = parser.parse_args()
    if asked.verb == "train":
        train(asked.design, asked.seconds, asked.folder / asked.design)
    elif asked.verb == "judge":
        judge(asked.designs, asked.folder)
    else:
        sampled(asked.verb, asked.values, asked.backbone, asked.folder)
