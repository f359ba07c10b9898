"""The diffusion models that can be fine-tuned, by name: `mini` ships with the package, for the
others see `hub`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from fsl_utils import StudyError, store
from fsl_utils.data import cache, partitions
from fsl_utils.data.datasets import registry
from fsl_utils.generator import hub, mini, mini_weights
from fsl_utils.generator.mini128 import Mini128

MINIS = {"mini": mini.Mini, "mini128": Mini128}
NAMES = (*MINIS, *hub.CARDS)


@dataclass(frozen=True)
class Pretrained:
    """What determines a pretrained backbone, as part of the key of an adapter or a pool.

    The large ones paint more pixels than the study's `image_size`: their images are resized as real
    ones are.
    """

    name: str
    base: str  # what names the weights
    prompts: tuple[str, ...] = ()
    channels: int = 1  # of the domain's images
    image_size: int | None = None  # None: images stay as the backbone paints them

    def params(self) -> dict:
        """Its part of a key."""
        if self.name in MINIS:
            return {"base": self.base, **MINIS[self.name].sampling}
        return {
            "backbone": self.name,
            "base": self.base,
            "prompts": list(self.prompts),
            "channels": self.channels,
            "image_size": self.image_size,
        }

    def open(self, device: str = "cpu"):
        """The backbone in eval mode: a mini.Mini, or a large.Large with the domain's prompts.

        Raises StudyError where weights are missing, gated, incomplete or damaged, or memory or disk
        does not suffice.
        """
        if self.name in MINIS:
            return mini_weights.load(device=device, kind=MINIS[self.name])
        from fsl_utils.generator import pipelines  # transformers is imported only where needed

        try:
            return pipelines.load(self, hub.weights(self.name), device)
        except torch.OutOfMemoryError as error:
            raise hub.out_of_memory(self.name) from error


def pretrained(name: str, domain, image_size: int = 64, quantise: str = "") -> Pretrained:
    """The backbone of a name for a domain's images. Raises StudyError where a mini's weights saw
    images of the domain's test partition.
    """
    base = identity(name, quantise)
    if name in MINIS:
        variable = mini_weights.variable(name)
        mend = (
            f"unset {variable} for the shipped weights, or run fsl pretrain on today's partitions"
        )
        check_unseen(mini_weights.in_use(MINIS[name]), name, domain, mend)
        return Pretrained(name, base)
    return Pretrained(name, base, prompts(domain), 1, image_size)


def check_unseen(path: Path, name: str, domain, mend: str) -> None:
    """Raise StudyError with a mend where weights of a mini saw images of the test partition."""
    table = domain.table
    test = table["image"][table["partition"].isin(("test", partitions.SEALED))]
    if known := sorted(mini_weights.seen(path, MINIS[name], domain.name) & set(test)):
        raise StudyError(
            f"{path}: these weights saw {len(known)} images of the test partition of "
            f"{domain.name} (first: {known[0]}): {mend}"
        )


def prompts(domain) -> tuple[str, str, str]:
    """The empty prompt, that of the common and that of the rare class."""
    rare, common = registry.get(domain.name).prompts
    names = (name.replace("_", " ") for name in (domain.common_class, domain.rare_class))
    return "", *(text.format(name) for text, name in zip((common, rare), names))


def check_size(backbone, image_size: int) -> None:
    """Raise StudyError where a backbone cannot be fine-tuned for images of this size."""
    size = backbone.image_size
    if image_size > size or (backbone.name in MINIS and image_size != size):
        raise StudyError(
            f"image_size is {image_size}, but {backbone.name} paints {size} pixels: "
            f"set image_size={size}"
        )


def identity(name: str, quantise: str = "") -> str:
    """What names a backbone's weights in keys: the commit, or the hash of a local folder's files;
    of mini the file's SHA-256.

    Raises StudyError for an unknown name.
    """
    if name not in NAMES:
        raise StudyError(f"unknown backbone '{name}': known are {', '.join(NAMES)}")
    if name in MINIS:
        return store.sha256(mini_weights.in_use(MINIS[name]))
    local = os.environ.get(hub.variable(name))
    files = (
        sorted(p for p in Path(local).rglob("*") if p.suffix in (".json", ".safetensors"))
        if local
        else []
    )
    base = (
        cache.data_hash(files, [str(p.relative_to(local)) for p in files])
        if local
        else hub.CARDS[name].revision
    )
    return f"{base}+{quantise}" if quantise else base
