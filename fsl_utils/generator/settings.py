"""Settings of fine-tuning: defaults, and what a domain, a backbone or a preset changes.
results/experiments.md chose them.
"""

from dataclasses import fields
from typing import Annotated, ClassVar, Literal

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from fsl_utils import StudyError
from fsl_utils.data.datasets import registry

CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=CONFIG)
class FineTuning:
    """What determines an adapter beside its data. A checkpoint is written every `check_every`
    steps; from step `check_from` on it must first pass the copy check."""

    rank: PositiveInt = 64
    alpha: NonNegativeFloat = 64.0
    learning_rate: NonNegativeFloat = 2e-3
    batch: PositiveInt = 16
    prior: Share = 0.0  # of common images in a batch (DreamBooth's prior preservation)
    no_condition: Share = 0.1  # of images trained without condition, for guidance
    shift: NonNegativeInt = 2  # pixels, at most, as turn (degrees) and zoom (times) are
    turn: NonNegativeFloat = 0.0
    zoom: Annotated[float, Field(ge=1)] = 1.0
    defect: NonNegativeFloat = 1.0  # loss of a marked place to that of any other, where masks exist
    diversity: NonNegativeFloat = 0.0  # weight of DDPM-PA's losses (see `diversity`), of a mini
    check_every: PositiveInt = 100
    check_from: NonNegativeInt = 200

    # What only large backbones can have otherwise.
    dropout: ClassVar[float] = 0.0
    optimiser: ClassVar[str] = "adamw"
    quantise: ClassVar[str] = ""
    views: ClassVar[int] = 0  # 0: augmented anew at every step


@dataclass(frozen=True, config=CONFIG)
class LargeFineTuning(FineTuning):
    """Of a large backbone: shift in pixels of 512, 8-bit optimiser state and 4-bit weights (both
    bitsandbytes').
    """

    rank: PositiveInt = 16
    alpha: NonNegativeFloat = 16.0
    learning_rate: NonNegativeFloat = 1e-4
    batch: PositiveInt = 4
    prior: Share = 0.25
    shift: NonNegativeInt = 16
    dropout: Share = 0.0  # of the adapter
    optimiser: Literal["adamw", "adamw8bit"] = "adamw"
    quantise: Literal["", "nf4"] = ""
    views: PositiveInt = 4  # augmented views of an image, each encoded once


# arXiv 2605.11898, with adapter_steps=200
PAPER = dict(
    rank=64, alpha=8.0, dropout=0.08, learning_rate=5e-3, optimiser="adamw8bit", quantise="nf4"
)
PRESETS = {"": {}, "paper": PAPER}
BACKBONES = {
    "mini": (FineTuning, {}),
    # With common images beside them, whose empty masks say what no mark means.
    "mini128": (FineTuning, dict(learning_rate=1e-3, prior=0.4, defect=5.0)),
    "sd15": (LargeFineTuning, {}),
    "flux2-klein-4b": (LargeFineTuning, {}),
    "flux2-dev": (LargeFineTuning, PAPER),
}


def of(domain: str, backbone: str = "mini", preset: str = "", **changed) -> FineTuning:
    """Settings of a domain's adapters of a backbone: its own, the domain's, the preset's, then
    `changed`.

    Raises StudyError for an unknown name, another type, a value out of range, or a preset where it
    has no meaning.
    """
    if backbone not in BACKBONES:
        raise StudyError(f"unknown backbone '{backbone}': known are {', '.join(BACKBONES)}")
    if preset not in PRESETS:
        known = ", ".join(name for name in PRESETS if name)
        raise StudyError(f"unknown preset '{preset}': known are {known}, or '' for none")
    if preset and not backbone.startswith("flux2"):
        raise StudyError(f"preset '{preset}' is for FLUX.2: set preset='' or backbone='flux2-dev'")
    kind, own = BACKBONES[backbone]
    if changed.get("diversity") and kind is LargeFineTuning:
        raise StudyError(
            f"diversity is {changed['diversity']}: it is for mini and mini128, not for {backbone}; "
            "set diversity=0"
        )
    try:
        return kind(**dict(registry.get(domain).finetuning) | own | PRESETS[preset] | changed)
    except ValidationError as error:
        fault = error.errors()[0]
        name = fault["loc"][0]
        if fault["type"] == "unexpected_keyword_argument":
            known = ", ".join(field.name for field in fields(kind))
            text = f"unknown setting '{name}' of fine-tuning {backbone}: known are {known}"
        else:
            text = f"setting {name} is {fault['input']!r}: {fault['msg'].lower()}"
        raise StudyError(text) from error
