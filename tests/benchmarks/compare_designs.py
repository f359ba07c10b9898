"""Which small diffusion model learns most from one thread and a few minutes? The record behind
results/mini.md.

    python tests/benchmarks/compare_designs.py DESIGN --seconds 540
        one design of DESIGNS
    python tests/benchmarks/compare_designs.py --report
        table and sheet of those done, curves of the long run

Every design sees the same base images in the same order for the same CPU time; its averaged weights
then draw 100 images a domain. They are judged by KID (EfficientNet-Lite0 features) against the base
images (after so few steps fit is in question, not memory), and by the energy of their fine detail
as a share of the real images'.
"""

import argparse
import json
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from diffusers.training_utils import EMAModel

from fsl_utils import ROOT, store
from fsl_utils.classifier import features
from fsl_utils.data import domains
from fsl_utils.generator import base_images, haar, mini, pretrain
from fsl_utils.pools import measures

NAMES = ("elpv", "magnetic_tile", "chestxray14")
SAMPLED, STEPS = 100, 20
DOWN, UP, ATTENTION_DOWN, ATTENTION_UP = (
    "DownBlock2D",
    "UpBlock2D",
    "AttnDownBlock2D",
    "AttnUpBlock2D",
)

# levels: of the Haar transform (0: pixels). weight: of the bands' losses, by their scale to this
# power.
HAAR2 = dict(
    levels=2, widths=(96, 160), attention=(0, 1), objective="v_prediction", weight=0.5, snr=None
)
DESIGNS = {
    "haar2-96-160": HAAR2,
    "haar2-64-128-128": {**HAAR2, "widths": (64, 128, 128), "attention": (0, 1, 1)},
    "haar1-48-96-144": {**HAAR2, "levels": 1, "widths": (48, 96, 144), "attention": (0, 0, 1)},
    "pixels-16-32-64-128": {
        **HAAR2,
        "levels": 0,
        "widths": (16, 32, 64, 128),
        "attention": (0, 0, 0, 1),
    },
    "haar2-flow": {**HAAR2, "objective": "flow_prediction"},
    "haar2-equal-bands": {**HAAR2, "weight": 0.0},
    "haar2-min-snr": {**HAAR2, "snr": 5.0},
    "haar2-log-normal": {**HAAR2, "snr": "log-normal"},
    "haar2-flow-64-128-128": {
        **HAAR2,
        "widths": (64, 128, 128),
        "attention": (0, 1, 1),
        "objective": "flow_prediction",
    },
}


class Model:
    """A design with random weights: what it needs to be trained and sampled."""

    def __init__(self, design: dict, images: np.ndarray):
        torch.manual_seed(0)
        self.design, self.block = design, 2 ** design["levels"]
        widths, attention = design["widths"], design["attention"]
        groups = 8 if min(widths) < 32 else 16
        self.net = UNet2DModel(
            sample_size=64 // self.block,
            in_channels=self.block**2,
            out_channels=self.block**2,
            num_class_embeds=6,
            block_out_channels=widths,
            layers_per_block=1,
            norm_num_groups=groups,
            attention_head_dim=32,
            dropout=0.1,
            down_block_types=[ATTENTION_DOWN if a else DOWN for a in attention],
            up_block_types=[ATTENTION_UP if a else UP for a in attention[::-1]],
        )
        self.scales = torch.ones(self.block**2)
        self.scales = self.encode(images).std(dim=(0, 2, 3))
        self.schedule = DDPMScheduler(**mini.SCHEDULE)

    def encode(self, images) -> torch.Tensor:
        pixels = torch.as_tensor(np.asarray(images)).float().div(127.5).sub(1)
        return haar.bands(pixels, self.design["levels"]) / self.scales[:, None, None]

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        bands = latents.float() * self.scales[:, None, None]
        pixels = haar.pixels(bands, self.design["levels"])
        return pixels.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).numpy()

    def loss(
        self, clean: torch.Tensor, condition: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        noise, n = torch.randn(clean.shape, generator=generator), len(clean)
        each = 1.0
        if (
            self.design["objective"] == "flow_prediction"
        ):  # rectified flow, logit-normal times (Esser et al. 2024)
            sigma = torch.sigmoid(torch.randn(n, generator=generator))
            s = sigma[:, None, None, None]
            noisy, target, t = (1 - s) * clean + s * noise, noise - clean, sigma * 1000
        else:
            t = torch.randint(0, 1000, (n,), generator=generator)
            if (
                self.design["snr"] == "log-normal"
                # The flow's noise levels and weights, for v: u = (sigma - alpha) z + (alpha +
                # sigma) v
            ):
                ratio = (1 / self.schedule.alphas_cumprod - 1).sqrt()
                t = torch.searchsorted(ratio, torch.randn(n, generator=generator).exp()).clamp(
                    max=999
                )
            noisy, target = (
                self.schedule.add_noise(clean, noise, t),
                self.schedule.get_velocity(clean, noise, t),
            )
            alpha = self.schedule.alphas_cumprod[t]
            snr = alpha / (1 - alpha)
            if self.design["snr"] == "log-normal":
                each = (alpha.sqrt() + (1 - alpha).sqrt()) ** 2
            elif self.design["snr"]:  # min-SNR (Hang et al. 2023) for v
                each = snr.clamp(max=self.design["snr"]) / (snr + 1)
        error = (
            (self.net(noisy, t, class_labels=condition).sample.float() - target)
            .square()
            .mean(dim=(2, 3))
        )
        weight = self.scales ** self.design["weight"]
        return (error * (weight / weight.mean())).mean(dim=1) * each

    @torch.inference_mode()
    def sample(self, n: int, row: int) -> np.ndarray:
        kind = {
            "prediction_type": self.design["objective"],
            "use_flow_sigmas": self.design["objective"] == "flow_prediction",
        }
        made = []
        for i in range(0, n, 50):
            solver = DPMSolverMultistepScheduler.from_config(
                self.schedule.config, timestep_spacing="trailing", **kind
            )
            solver.set_timesteps(STEPS)
            side = 64 // self.block
            latents = torch.randn(
                50, self.block**2, side, side, generator=torch.Generator().manual_seed(i)
            )
            condition = torch.full((50,), row)
            for t in solver.timesteps:
                latents = solver.step(
                    self.net(latents, t.expand(50), class_labels=condition).sample, t, latents
                ).prev_sample
            made.append(self.decode(latents))
        return np.concatenate(made)[:n]


def run(name: str, seconds: float, folder: Path) -> None:
    """Train and judge one design; writes NAME.json and NAME.npz (the samples)."""
    torch.set_num_threads(1)
    base = base_images.BaseImages([domains.load(n) for n in NAMES])
    model = Model(DESIGNS[name], base.images[~base.held_out])
    net = model.net.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=pretrain.LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.99)
    )
    ema = EMAModel(
        net.parameters(),
        decay=pretrain.EMA_DECAY,
        use_ema_warmup=True,
        inv_gamma=1.0,
        power=0.75,
        foreach=True,
    )
    begin, step, curve, losses = time.process_time(), 0, [], []
    while (spent := time.process_time() - begin) < seconds:
        rng = np.random.default_rng([0, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        pixels, _, labels = base.batch(step, rng, generator)
        for group in (
            optimiser.param_groups
        ):  # the shape of the long run's rate, over time in place of steps
            group["lr"] = pretrain.learning_rate(round(spent / seconds * 10_000), 10_000) * min(
                1, (step + 1) / 100
            )
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(model.encode(pixels), labels, generator).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        ema.step(net.parameters())
        losses.append(loss.item())
        step += 1
        if step % 50 == 0:
            curve.append(
                {"seconds": round(spent, 1), "step": step, "loss": float(np.mean(losses[-50:]))}
            )
            print(name, curve[-1], flush=True)
    ema.copy_to(net.parameters())
    net.eval()
    begin = time.process_time()
    samples = {n: model.sample(SAMPLED, mini.condition(n)) for n in NAMES}
    result = {
        "design": name,
        "steps": step,
        "parameters": sum(p.numel() for p in net.parameters()),
        "seconds": seconds,
        "sampling_seconds": round(time.process_time() - begin, 1),
        "curve": curve,
    }
    folder.mkdir(parents=True, exist_ok=True)

    def save(partial: Path) -> None:
        with open(partial, "wb") as file:
            np.savez_compressed(file, **samples)

    store.write_whole(folder / f"{name}.npz", save)
    for n in NAMES:
        result[n] = judge(samples[n], base.images[base.condition == mini.condition(n)])
    store.write_text(folder / f"{name}.json", json.dumps(result, indent=1))
    print(json.dumps({k: v for k, v in result.items() if k != "curve"}), flush=True)


def judge(synthetic: np.ndarray, real: np.ndarray) -> dict:
    """KID of synthetic images, and of a random half of the real ones, to real ones; energy of the
    finest Haar bands over the real ones'.
    """
    made, base = (np.concatenate(list(features.batches(pixels))) for pixels in (synthetic, real))
    order = np.random.default_rng(0).permutation(len(base))
    half = len(base) // 2
    return {
        "kid": measures.kid(made, base, 0)[0],
        "kid_real": measures.kid(base[order[:half]], base[order[half:]], 0)[0],
        "fine": detail(synthetic) / detail(real),
        "n_real": len(real),
    }


def detail(images: np.ndarray) -> float:
    """Mean square of what a 2x2 mean takes away, in grey levels squared."""
    pixels = torch.from_numpy(images).float()
    return float((pixels - F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2)).square().mean())


def report(folder: Path) -> None:
    """Print the table of finished designs, best KID first; writes designs.csv and designs.png
    beside their results.
    """
    done = [json.loads(p.read_text()) for p in folder.glob("*.json")]
    done.sort(key=lambda r: np.mean([r[n]["kid"] for n in NAMES]))
    table = pd.DataFrame(
        [
            {
                "design": r["design"],
                "parameters (M)": r["parameters"] / 1e6,
                "steps": r["steps"],
                **{f"KID {n}": r[n]["kid"] for n in NAMES},
                "KID mean": np.mean([r[n]["kid"] for n in NAMES]),
                **{f"fine {n}": r[n]["fine"] for n in NAMES},
                "sampling (s)": r["sampling_seconds"],
            }
            for r in done
        ]
    ).round(3)
    table.to_csv(folder / "designs.csv", index=False, lineterminator="\n")
    print(table.to_string(index=False))
    figure, (axis, sheet) = plt.subplots(
        1, 2, figsize=(11, 0.53 * len(done) + 1), width_ratios=(1, 3), sharey=True
    )
    rows = np.arange(len(done)) * 66 + 32
    for offset, n in zip((-15, 0, 15), NAMES):
        axis.barh(rows + offset, [r[n]["kid"] for r in done], height=14, label=n)
    axis.set(
        xlabel="KID to base images (lower is better)",
        yticks=rows,
        yticklabels=[f"{r['design']}\n{r['steps']} steps" for r in done],
    )
    axis.legend(fontsize=6, ncols=3, loc="lower right", bbox_to_anchor=(1.05, 1), frameon=False)
    for row, r in zip(rows, done):
        with np.load(folder / f"{r['design']}.npz", allow_pickle=False) as file:
            strip = np.concatenate(
                [np.pad(image, 1, constant_values=255) for n in NAMES for image in file[n][:5, 0]],
                axis=1,
            )
        sheet.imshow(
            strip, cmap="gray", vmin=0, vmax=255, extent=(0, strip.shape[1], row + 33, row - 33)
        )
    sheet.set(ylim=(66 * len(done), 0), title="samples of the averaged weights")
    sheet.set_aspect("auto")
    sheet.axis("off")
    figure.tight_layout()
    figure.savefig(folder / "designs.png", dpi=130)


def curves(folder: Path) -> None:
    """Draw loss.png of the long training's stages, loss_STAGE.csv, which have losses of different
    weights.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.6))
    for axis, stage in zip(axes, ("uniform", "log_normal")):
        frame = pd.read_csv(folder / f"loss_{stage}.csv")
        axis.plot(frame["step"], frame["loss"], color=".6", label="training")
        axis.plot(
            frame["step"], frame["held_out"], color="k", label="held-out groups, averaged weights"
        )
        axis.set(title=f"{stage.replace('_', '-')} noise levels", xlabel="step", ylabel="loss")
    axes[0].set_ylim(top=0.8)
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(folder / "loss.png", dpi=130)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("design", nargs="?", choices=list(DESIGNS))
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--folder", type=Path, default=store.root() / "designs")
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    if asked.report:
        report(asked.folder)
        curves(ROOT / "results" / "mini")
    else:
        run(asked.design, asked.seconds, asked.folder)
