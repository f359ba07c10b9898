"""A step of fine-tuning: its learning rate, the optimiser, and the gradients of a batch within the
memory and the processes at hand.
"""

import math

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from accelerate.utils.memory import should_reduce_batch_size

from fsl_utils import StudyError
from fsl_utils.generator import batches, diversity, hub, mini
from fsl_utils.generator.settings import FineTuning


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Short warm-up, then a cosine to zero."""
    return highest * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))


def optimiser(parameters, tuning):
    """AdamW, or with `optimiser` 'adamw8bit' that of bitsandbytes, whose state takes a quarter of
    the memory (Dettmers et al. 2022).
    """
    kind = torch.optim.AdamW
    if tuning.optimiser == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit as kind
        except ImportError as error:
            raise StudyError(
                "optimiser 'adamw8bit' needs bitsandbytes: "
                "pip install 'fsl-utils[large]', or set optimiser='adamw' in settings"
            ) from error
    return kind(parameters, lr=tuning.learning_rate, weight_decay=0.0)


def gradients(backbone, batch: batches.Batch, tuning: FineTuning, parts: int) -> tuple[float, int]:
    """Fill in the gradients of the batch's mean loss; returns it and the number of parts that
    fitted into memory.

    Out of memory: the batch is taken in twice as many parts, whose gradients add up to its own:
    images, noise and noise levels stay those of the whole, only dropout is drawn anew.
    """
    start = batch.generator.get_state()
    while True:
        batch.generator.set_state(start)
        try:
            loss = _backward(backbone, batch, tuning, parts)
            break
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not should_reduce_batch_size(error):
                raise
        if parts >= len(batch.clean):
            raise hub.out_of_memory(backbone.name)
        parts *= 2
        print(f"out of memory: going on with each batch of {len(batch.clean)} in {parts} parts")
    if PartialState().num_processes > 1:
        for parameter in backbone.denoiser.parameters():
            if parameter.requires_grad:
                parameter.grad = reduce(parameter.grad, "sum")
        loss = reduce(torch.tensor(loss, device=backbone.device), "sum").item()
    return loss, parts


def _backward(backbone, batch: batches.Batch, tuning: FineTuning, parts: int) -> float:
    """Gradients and loss of this process's share of the batch, in parts."""
    clean, generator, processes = batch.clean, batch.generator, PartialState()
    backbone.denoiser.zero_grad(set_to_none=True)
    torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))  # dropout
    device = backbone.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        marked = tuning.defect != 1
        weight = batches.weights(batch.cover, clean, tuning.defect) if marked else None
        backbone = backbone if batch.told is None else backbone.told(batch.told)
        start, n, total = generator.get_state(), len(clean), 0.0
        share = np.array_split(np.arange(n), processes.num_processes)[processes.process_index]
        for part in np.array_split(share, min(parts, len(share))):
            generator.set_state(start)
            rows = slice(part[0], part[-1] + 1)
            condition = batch.condition.to(clean.device)
            loss = backbone.loss(clean, condition, generator, weight, rows).sum() / n
            if tuning.diversity:
                generator.set_state(start)
                alone = torch.where(condition == mini.RARE, batch.common, condition)
                kept = diversity.loss(backbone, clean, (condition, alone), generator, rows)
                loss = loss + tuning.diversity * kept * len(part) / n
            loss.backward()
            total += loss.item()
    return total
