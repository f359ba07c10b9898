"""Checkpoints that a killed training resumes from, to the same bits as an unbroken one."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fsl_utils import store


def save(path: Path, step: int, tensors: dict, optimiser, facts: dict) -> None:
    """Write named tensors, what the optimiser keeps of each, the number of steps done and `facts` (JSON), whole or not at all."""
    held = dict(tensors)
    for name, tensor in tensors.items():
        state = optimiser.state.get(tensor, {})
        held |= {f"{name}:{key}": value for key, value in state.items() if key != "step"}
    # Cloned: bitsandbytes shares its tables among tensors, which safetensors refuses.
    held = {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in held.items()
    }
    metadata = {"step": str(step), "facts": json.dumps(facts)}
    store.write_whole(path, lambda partial: save_file(held, partial, metadata=metadata))


@torch.no_grad()
def resume(path: Path, tensors: dict, optimiser) -> dict | None:
    """Copy a checkpoint into the tensors and the optimiser's state; returns its facts, None where there is none or a damaged one."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            step, facts = int(metadata["step"]), json.loads(metadata["facts"])
            saved = {name: file.get_tensor(name) for name in file.keys()}
    except (FileNotFoundError, SafetensorError, KeyError, TypeError):
        return None
    for name, tensor in tensors.items():
        tensor.copy_(saved[name])
        state = {
            key.removeprefix(f"{name}:"): _like(value.to(tensor.device), tensor)
            for key, value in saved.items()
            if key.startswith(f"{name}:")
        }
        if state:
            counted = isinstance(optimiser, torch.optim.AdamW)
            optimiser.state[tensor] = {
                "step": torch.tensor(float(step)) if counted else step,
                **state,
            }
    return facts


def _like(value: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """In the tensor's own memory layout: else the last bits differ from an unbroken run's, and a mixture is several times slower."""
    if value.shape != tensor.shape:
        return value
    return torch.empty_like(tensor, dtype=value.dtype).copy_(value)
