"""The arms of the study: what a classifier is trained on, in one table. A new arm is one entry."""

from dataclasses import dataclass

import numpy as np

from fsl_utils import StudyError


@dataclass(frozen=True)
class Arm:
    """images: where the rare training images come from (see `mix`). sampling: natural or balanced.
    augmentation: light or strong. loss: bce or focal. refit: the head is fitted again on balanced real images."""

    images: str
    sampling: str = "natural"
    augmentation: str = "light"
    loss: str = "bce"
    refit: bool = False


ARMS = {
    "real": Arm("real"),
    "duplicate": Arm("duplicate"),
    "balanced": Arm("real", sampling="balanced"),
    "focal": Arm("real", loss="focal"),
    "augment": Arm("real", augmentation="strong"),
    "base_synth": Arm("base_synth"),
    "paste": Arm("paste"),
    "lora": Arm("lora"),
    "lora_filtered": Arm("lora_filtered"),
    "lora_augment": Arm("lora", augmentation="strong"),
    "synth_only": Arm("synth_only"),
    "synth_both": Arm("synth_both"),
    "crt": Arm("real", refit=True),
    "lora_crt": Arm("lora", refit=True),
    "real_more": Arm("real_more"),
}

# The probe is a convex fit on frozen features, weighted by class: balancing it again, or fitting its
# head twice, gives the same classifier, and it knows no focal loss.
NOT_FOR_PROBE = {"balanced", "focal", "crt", "lora_crt"}

# The pools that images come from (see `cells.pools`); `lora_filtered` takes those of the first that the filter keeps.
POOLS = {
    "lora": ("rare",),
    "lora_filtered": ("rare",),
    "synth_only": ("rare",),
    "synth_both": ("rare", "common"),
    "base_synth": ("base",),
}


def get(name: str) -> Arm:
    """An arm by name. Raises StudyError where there is none."""
    if name not in ARMS:
        raise StudyError(f"unknown arm '{name}': known are {', '.join(ARMS)}")
    return ARMS[name]


def ratios_of(name: str, ratios: list[float], classifier: str) -> list[float]:
    """The ratios at which an arm is run: all, or 0 alone where a ratio has no meaning."""
    arm = get(name)
    copies = (
        classifier == "probe" and arm.augmentation == "strong"
    )  # there: so many augmented copies
    if arm.images == "real" and not copies:
        return [0.0]
    # At 0x these arms are `real`; a cell of its own would be the same again.
    return [float(r) for r in ratios if r > 0]


@dataclass(frozen=True)
class Mix:
    """A training set: positions of real images in the domain's table, and how many of the first images made for it."""

    rare: np.ndarray
    common: np.ndarray
    synthetic: int = 0
    synthetic_common: int = 0

    @property
    def labels(self) -> np.ndarray:
        """1 rare, 0 common, in the order of `gather`."""
        n_rare = len(self.rare) + self.synthetic
        return np.repeat([1, 0], [n_rare, len(self.common) + self.synthetic_common])

    def gather(self, real: np.ndarray, synthetic=None, synthetic_common=None) -> np.ndarray:
        """Rows of `real` (images or features of the domain) and of the pools, rare first."""
        parts = [real[self.rare]]
        if self.synthetic:
            parts.append(synthetic[: self.synthetic])
        parts.append(real[self.common])
        if self.synthetic_common:
            parts.append(synthetic_common[: self.synthetic_common])
        return np.concatenate(parts)


def mix(name: str, ratio: float, draw) -> Mix:
    """The training set of an arm at a ratio (images added per shot).

    real: the shots. duplicate: the shots again and again. lora, base_synth: the first images of the pool
    beside the shots. lora_filtered: the first that the filter keeps (there may be fewer). paste: common images
    with a shot's defect on them (`regions.paste`). synth_only: in their place. synth_both: as many synthetic common images too.
    real_more: further real rare images of the training groups. Common images are all those of the
    training groups, in every arm.
    """
    if ratio < 0:
        raise StudyError(f"ratio is {ratio}: it must be >= 0")
    images, shots = get(name).images, draw.shots
    n = round(ratio * len(shots))
    if images == "real" or (n == 0 and images != "synth_only"):
        return Mix(shots, draw.common)
    if images == "duplicate":
        return Mix(np.concatenate([shots, shots[np.arange(n) % len(shots)]]), draw.common)
    if images == "real_more":
        if n > len(draw.more):
            raise StudyError(
                f"real_more at {ratio}x needs {n} further rare images, but the draw has {len(draw.more)}"
            )
        return Mix(np.concatenate([shots, draw.more[:n]]), draw.common)
    if images == "synth_only":
        if n == 0:
            raise StudyError(f"synth_only at {ratio}x has no rare image at all: take a ratio > 0")
        return Mix(shots[:0], draw.common, n)
    return Mix(shots, draw.common, n, n if images == "synth_both" else 0)
