"""Checkpoints that a killed training resumes from, to the same bits as an unbroken one."""

import hashlib
import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fsl_utils import store

GO_ON = "run the same cell or command again to go on from there"


def save(path: Path, step: int, tensors: dict, optimiser, facts: dict) -> None:
    """Write named tensors, what the optimiser keeps of each, the number of steps done and `facts`
    (JSON), with a digest of it all, whole or not at all."""
    held = dict(tensors)
    for name, tensor in tensors.items():
        state = optimiser.state.get(tensor, {})
        held |= {f"{name}:{key}": value for key, value in state.items() if key != "step"}
    # Cloned: bitsandbytes shares its tables among tensors, which safetensors refuses.
    held = {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in held.items()
    }
    told = json.dumps({"step": step, "facts": facts})
    metadata = {"told": told, "digest": _digest(told, held)}
    store.write_whole(path, lambda partial: save_file(held, partial, metadata=metadata))


@torch.no_grad()
def resume(path: Path, tensors: dict, optimiser) -> dict | None:
    """Copy a checkpoint into the tensors and the optimiser's state; returns its facts.

    None, and nothing is copied, where there is no checkpoint or a damaged one.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            keys = file.keys()
            saved = {name: file.get_tensor(name) for name in keys}
        if metadata["digest"] != _digest(metadata["told"], saved):
            return None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError):
        return None
    told = json.loads(metadata["told"])
    step = told["step"]
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
    return told["facts"]


def _digest(told: str, tensors: dict) -> str:
    """Hex SHA-256 of a checkpoint's content; safetensors itself notices no changed value."""
    digest = hashlib.sha256(told.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _like(value: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """In the tensor's own memory layout: else the last bits differ from an unbroken run's, and a
    mixture is several times slower."""
    if value.shape != tensor.shape:
        return value
    return torch.empty_like(tensor, dtype=value.dtype).copy_(value)


@contextmanager
def interrupts_held() -> Iterator[Callable[[], bool]]:
    """Ctrl-C waits for the end of a step: yields a function that says whether one came.

    A second one stops at once. Outside of the main thread, which alone gets signals, nothing waits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came = []

    def note(number, frame):
        came.append(number)
        signal.signal(signal.SIGINT, again)
        print("stopping after this step; interrupt again to stop at once", flush=True)

    before = signal.getsignal(signal.SIGINT) or signal.default_int_handler
    # A process that began with SIGINT ignored, as a shell's background job, stops all the same.
    again = before if callable(before) else signal.default_int_handler
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(came)
    finally:
        with suppress(ValueError):  # a generator that was left half way may be closed in a thread
            signal.signal(signal.SIGINT, before)
