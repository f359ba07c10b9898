"""Few-shot fine-tuning: a LoRA adapter (Hu et al. 2021) of the backbone on one draw's shots.

The adapter holds low-rank matrices on attention and convolutions and the embedding of the
rare class; the backbone's weights stay as they are. Saved in peft's own format.
"""

import dataclasses
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from . import StudyError, augment, domains, mini, store

# What determines an adapter beside its data: part of its key.
SETTINGS = dict(rank=16, alpha=16, learning_rate=1e-3, batch=16, shift=2, no_condition=0.1, prior=0.25)
CHECKPOINT_EVERY = 100


def request(domain, draw, image_size: int, seed: int, steps: int, backbone: str = "mini") -> dict:
    """All that determines an adapter: its key in the store is the hash of this."""
    return {
        "backbone": backbone, "base": store.sha256(mini.weights()), "data": domain.data_hash, "domain": domain.name,
        "rare_class": domain.rare_class, "protocol": domain.protocol, "image_size": image_size,
        "draw": draw.number, "n_real": len(draw.shots), "seed": seed, "steps": steps, **SETTINGS,
    }


def attach(backbone: mini.Mini, condition: int) -> mini.Mini:
    """The backbone with a fresh adapter: output unchanged, the rare class begins as the row `condition`."""
    config = LoraConfig(
        r=SETTINGS["rank"], lora_alpha=SETTINGS["alpha"], target_modules=backbone.lora_targets,
        modules_to_save=[backbone.embedding],
    )
    model = get_peft_model(backbone.denoiser, config)
    with torch.no_grad():
        weight = model.get_submodule(f"base_model.model.{backbone.embedding}").modules_to_save["default"].weight
        weight[mini.RARE] = weight[condition]
    return dataclasses.replace(backbone, denoiser=model)


def load(backbone: mini.Mini, folder: Path) -> mini.Mini:
    """The backbone with a stored adapter, in eval mode. Raises StudyError where the two do not fit."""
    made_for = store.manifest(folder)["params"]["base"]
    if made_for != backbone.hash:
        raise StudyError(f"{folder}: this adapter is for the base {made_for[:12]}, not {backbone.hash[:12]}; fine-tune again with notebook 02")
    try:
        model = PeftModel.from_pretrained(backbone.denoiser, folder)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise StudyError(f"{folder}: the adapter does not fit {backbone.name} ({str(error).splitlines()[0]}); remove it and fine-tune again") from error
    return dataclasses.replace(backbone, denoiser=model.eval())


def learning_rate(step: int, steps: int) -> float:
    """Short warm-up, then a cosine to zero."""
    return SETTINGS["learning_rate"] * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))


def train(domain, draw, image_size: int, seed: int, steps: int, device: str = "cpu") -> Iterator[dict]:
    """Fine-tune; yields {step, loss, backbone} after every step, and nothing if the adapter is already there.

    An interrupted run resumes from its last checkpoint: batch, noise and dropout of a step come from
    (seed, step). A share `prior` of the batch are common training images of the draw under their own
    condition (prior preservation, DreamBooth), so that the rare class must differ from them.
    Raises StudyError where the loss is not finite.
    """
    wanted = request(domain, draw, image_size, seed, steps)
    if store.find("adapter", wanted):
        return
    torch.manual_seed(seed)
    base = mini.load(device=device)
    if image_size != base.image_size:
        raise StudyError(f"image_size is {image_size}, but mini paints {base.image_size} pixels: set image_size={base.image_size}")
    common_row = mini.condition(domain.name)
    backbone = attach(base, common_row)
    net = backbone.denoiser.to(memory_format=torch.channels_last).train()
    trained = {n: p for n, p in net.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(trained.values(), lr=SETTINGS["learning_rate"], weight_decay=0.0)
    work = store.work_folder("adapter", wanted)
    first, seconds, losses = _resume(work / "checkpoint.safetensors", trained, optimiser)

    images, flips = domain.images(image_size), domains.SHEETS[domain.name].flips
    n_prior = round(SETTINGS["prior"] * SETTINGS["batch"])
    n_rare = SETTINGS["batch"] - n_prior
    for step in range(first, steps):
        begin = time.perf_counter()
        rng = np.random.default_rng([seed, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        torch.manual_seed(int(rng.integers(2**62)))  # dropout
        rows = np.concatenate([rng.choice(draw.shots, n_rare), rng.choice(draw.common, n_prior)])
        rows_of = np.where(np.arange(len(rows)) < n_rare, mini.RARE, common_row)
        condition = np.where(rng.random(len(rows)) < SETTINGS["no_condition"], mini.NULL, rows_of)
        batch = augment.flips_and_shifts(torch.from_numpy(images[rows]), flips, SETTINGS["shift"], generator)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = backbone.loss(backbone.encode(batch), torch.from_numpy(condition).to(device), generator).mean()
        if not torch.isfinite(loss):
            raise StudyError(f"the loss is {loss.item()} at step {step}: lower learning_rate in fsl_utils.lora.SETTINGS ({SETTINGS['learning_rate']})")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        seconds += time.perf_counter() - begin
        if (step + 1) % CHECKPOINT_EVERY == 0:
            _save(work / "checkpoint.safetensors", seconds, losses, trained, optimiser)
        yield {"step": step + 1, "loss": losses[-1], "backbone": backbone}

    def build(folder):
        net.save_pretrained(folder)
        (folder / "loss.csv").write_text("step,loss\n" + "".join(f"{i + 1},{v:.6f}\n" for i, v in enumerate(losses)))
        return {"train_seconds": round(seconds, 1)}

    store.make("adapter", wanted, build, device=device)
    (work / "checkpoint.safetensors").unlink(missing_ok=True)


def _save(path: Path, seconds: float, losses: list[float], trained: dict, optimiser) -> None:
    tensors = {}
    for name, parameter in trained.items():
        tensors[name] = parameter
        tensors |= {f"{name}:{key}": optimiser.state[parameter][key] for key in ("exp_avg", "exp_avg_sq")}
    tensors = {k: v.detach().contiguous() for k, v in tensors.items()}
    metadata = {"seconds": str(seconds), "losses": json.dumps(losses)}
    store.write_whole(path, lambda partial: save_file(tensors, partial, metadata=metadata))


def _resume(path: Path, trained: dict, optimiser) -> tuple[int, float, list[float]]:
    """Load a checkpoint; returns steps done, seconds spent and losses. Without one, or with a damaged one: (0, 0, [])."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (FileNotFoundError, SafetensorError):
        return 0, 0.0, []
    losses = json.loads(metadata["losses"])
    for name, parameter in trained.items():
        parameter.data.copy_(tensors[name])
        state = {key: tensors[f"{name}:{key}"].to(parameter.device) for key in ("exp_avg", "exp_avg_sq")}
        optimiser.state[parameter] = {"step": torch.tensor(float(len(losses))), **state}
    return len(losses), float(metadata["seconds"]), losses
