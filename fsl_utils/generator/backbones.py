"""The diffusion models that can be fine-tuned, opened by name, and what each needs.

`mini` ships with the package. The others are fetched from the Hugging Face hub, at one commit, the first time they
are opened; `FSL_SD15`, `FSL_FLUX2_KLEIN_4B` and `FSL_FLUX2_DEV` name a local folder of such a pipeline instead.
"""

import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import pandas as pd
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fsl_utils import StudyError, store
from fsl_utils.data import cache
from fsl_utils.generator import mini


@dataclass(frozen=True)
class Card:
    """What a user must know before taking a backbone; sizes in GB (10^9 bytes)."""

    pipeline: str  # class of diffusers
    repository: str
    revision: str  # the commit
    parts: tuple[str, ...]  # components whose weights are needed
    licence: str
    gated: bool
    disk: float  # of the download
    memory: float  # of the GPU, to fine-tune and to sample at 512 pixels (see README)
    batch: int  # images sampled at once
    smaller: str  # the backbone to take where this one does not fit


CARDS = {
    "sd15": Card(
        "StableDiffusionPipeline",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        ("unet", "vae", "text_encoder"),
        "CreativeML OpenRAIL-M",
        gated=False,
        disk=4.3,
        memory=10,
        batch=8,
        smaller="mini",
    ),
    "flux2-klein-4b": Card(
        "Flux2KleinPipeline",
        "black-forest-labs/FLUX.2-klein-base-4B",
        "a3b4f4849157f664bdbc776fd7453c2783562f4d",
        ("transformer", "vae", "text_encoder"),
        "Apache-2.0",
        gated=False,
        disk=16,
        memory=16,
        batch=4,
        smaller="sd15",
    ),
    "flux2-dev": Card(
        "Flux2Pipeline",
        "black-forest-labs/FLUX.2-dev",
        "26afe3a78bb242c0a8bb181dcc8937bb16e5c66c",
        ("transformer", "vae", "text_encoder"),
        "FLUX non-commercial",
        gated=True,
        disk=113,
        memory=32,
        batch=2,
        smaller="flux2-klein-4b",
    ),
}
NAMES = ("mini", *CARDS)


@dataclass(frozen=True)
class Pretrained:
    """What determines a pretrained backbone, as part of the key of an adapter or a pool.

    The large ones paint more pixels than the study's `image_size`: their images are resized as real ones are.
    """

    name: str
    base: str  # what names the weights
    prompts: tuple[str, ...] = ()
    channels: int = 1  # of the domain's images
    image_size: int | None = None  # None: images stay as the backbone paints them

    def params(self) -> dict:
        """Its part of a key."""
        if self.name == "mini":
            return {"base": self.base}
        return {
            "backbone": self.name,
            "base": self.base,
            "prompts": list(self.prompts),
            "channels": self.channels,
            "image_size": self.image_size,
        }

    def open(self, device: str = "cpu"):
        """The backbone in eval mode: mini.Mini, or a large.Large with the domain's prompts.

        Raises StudyError where weights are missing, gated, incomplete or damaged, or memory or disk does not suffice.
        """
        if self.name == "mini":
            return mini.load(device=device)
        from fsl_utils.generator import large

        try:
            return large.load(
                self.name,
                CARDS[self.name].pipeline,
                weights(self.name),
                self.base,
                list(self.prompts),
                self.channels,
                CARDS[self.name].batch,
                device,
                self.base.partition("+")[2],
            )
        except torch.OutOfMemoryError as error:
            raise out_of_memory(self.name) from error


def pretrained(name: str, domain, image_size: int = 64, quantise: str = "") -> Pretrained:
    """The backbone of a name for a domain's images."""
    base = identity(name, quantise)
    if name == "mini":
        return Pretrained(name, base)
    from fsl_utils.generator import large  # transformers is imported only where it is needed

    return Pretrained(name, base, large.prompts(domain), 1, image_size)


def check_size(backbone, image_size: int) -> None:
    """Raise StudyError where a backbone cannot be fine-tuned for images of this size."""
    size = backbone.image_size
    if image_size > size or (backbone.name == "mini" and image_size != size):
        raise StudyError(
            f"image_size is {image_size}, but {backbone.name} paints {size} pixels: set image_size={size}"
        )


def identity(name: str, quantise: str = "") -> str:
    """What names a backbone's weights in keys: the commit, or the hash of a local folder's files; of mini the file's SHA-256.

    Raises StudyError for an unknown name.
    """
    if name not in NAMES:
        raise StudyError(f"unknown backbone '{name}': known are {', '.join(NAMES)}")
    if name == "mini":
        return store.sha256(mini.weights())
    local = os.environ.get(variable(name))
    files = (
        sorted(p for p in Path(local).rglob("*") if p.suffix in (".json", ".safetensors"))
        if local
        else []
    )
    base = (
        cache.data_hash(files, [str(p.relative_to(local)) for p in files])
        if local
        else CARDS[name].revision
    )
    return f"{base}+{quantise}" if quantise else base


def variable(name: str) -> str:
    """The environment variable that may name a local folder with a backbone's weights."""
    return "FSL_" + name.upper().replace("-", "_")


def weights(name: str) -> Path:
    """Folder of a large backbone's weights, downloaded at the pinned commit if they are not at hand. Raises StudyError, one line."""
    card = CARDS[name]
    if local := os.environ.get(variable(name)):
        if lacking := missing(Path(local), card.parts):
            raise StudyError(
                f"{variable(name)}={local}: {lacking} is missing; it must be a folder of a {card.pipeline} as save_pretrained writes it"
            )
        return Path(local)
    wanted = dict(
        repo_id=card.repository,
        revision=card.revision,
        allow_patterns=[
            "model_index.json",
            "scheduler/*",
            "tokenizer/*",
            *(f"{p}/*.json" for p in card.parts),
            *(f"{p}/*.safetensors" for p in card.parts),
        ],
        ignore_patterns=["*.fp16*", "*.non_ema*"],
    )
    here = huggingface_hub.try_to_load_from_cache(
        card.repository, "model_index.json", revision=card.revision
    )
    if isinstance(here, str) and not missing(Path(here).parent, card.parts):
        return Path(here).parent
    _room(name)
    needs = f"{card.disk:g} GB of disk and {card.memory:g} GB of GPU memory; smaller: backbone='{card.smaller}'"
    command = f"hf download {card.repository} --revision {card.revision}"
    try:
        folder = Path(huggingface_hub.snapshot_download(**wanted))
    except GatedRepoError as error:
        raise StudyError(
            f"{name} is gated: accept its licence ({card.licence}) at https://huggingface.co/{card.repository}, "
            f"then `hf auth login`; it needs {needs}"
        ) from error
    except RevisionNotFoundError as error:
        raise StudyError(
            f"{name}: commit {card.revision} has gone from {card.repository}; take another in fsl_utils.generator.backbones.CARDS "
            f"(adapters of the old one will not fit), or set {variable(name)} to a copy of the old weights"
        ) from error
    except RepositoryNotFoundError as error:
        raise StudyError(
            f"{name}: {card.repository} is not on the hub, or needs `hf auth login`; it needs {needs}"
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise StudyError(
            f"the weights of {name} are not here and the hub cannot be reached: `{command}` where there is a network, "
            f"or set {variable(name)} to a folder of them; {name} needs {needs}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise StudyError(
                f"disk full while fetching {name}: it needs {needs}; set HF_HOME to a larger disk and run again, "
                "the download goes on where it stopped"
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StudyError(
            f"fetching {name} failed ({reason}): run it again, the download goes on where it stopped; it needs {needs}"
        ) from error
    if lacking := missing(folder, card.parts):
        raise StudyError(
            f"{folder}: {lacking} is missing, the download broke off: run `{command}`, which goes on where it stopped"
        )
    return folder


def missing(folder: Path, parts: tuple[str, ...]) -> str | None:
    """The first file that a pipeline's folder lacks, or None: of sharded weights every shard must be there, and none of size 0."""
    if not (folder / "model_index.json").is_file():
        return "model_index.json"
    for part in parts:
        found = [p for p in (folder / part).glob("*.safetensors") if p.stat().st_size]
        index = next((folder / part).glob("*.safetensors.index.json"), None)
        if index is None and not found:
            return f"{part}/*.safetensors"
        shards = set(json.loads(index.read_text())["weight_map"].values()) if index else set()
        if lacking := sorted(shards - {p.name for p in found}):
            return f"{part}/{lacking[0]}"
    return None


def _cache() -> Path:
    """The nearest folder that is there of the hub's cache."""
    folder = Path(huggingface_hub.constants.HF_HUB_CACHE)
    return next(p for p in (folder, *folder.parents) if p.is_dir())


def _room(name: str) -> None:
    """Raise StudyError where the disk cannot take the weights."""
    free = shutil.disk_usage(_cache()).free / 1e9
    if free < CARDS[name].disk:
        raise StudyError(
            f"{name} takes {CARDS[name].disk:g} GB of disk, but {free:.0f} GB are free in {_cache()}: "
            f"set HF_HOME to a larger disk, or backbone='{CARDS[name].smaller}'"
        )


def out_of_memory(name: str) -> StudyError:
    """Advice by numbers, for where not even one image fits."""
    if name == "mini":
        return StudyError("out of memory on a single image: free some memory")
    card, total = CARDS[name], gpu_memory()
    return StudyError(
        f"out of memory: {name} needs about {card.memory:g} GB at one image a time, this device has {total:.0f} GB: close what else uses it, "
        f"set preset='paper' (4-bit weights), or take backbone='{card.smaller}'"
    )


def gpu_memory() -> float:
    """Memory of the CUDA device in GB, 0 without one."""
    return (
        torch.cuda.get_device_properties(0).total_memory / 1e9 if torch.cuda.is_available() else 0.0
    )


def feasible() -> pd.DataFrame:
    """Which backbones this machine could run: licence, needs in GB, `here` (yes, or what is missing)."""
    free, gpu = shutil.disk_usage(_cache()).free / 1e9, gpu_memory()
    rows = [
        {
            "backbone": "mini",
            "licence": "CC BY-NC-SA 4.0",
            "disk, GB": 0.02,
            "GPU memory, GB": 0,
            "here": "yes",
        }
    ]
    for name, card in CARDS.items():
        there = bool(os.environ.get(variable(name))) or isinstance(
            huggingface_hub.try_to_load_from_cache(
                card.repository, "model_index.json", revision=card.revision
            ),
            str,
        )
        lacks = (
            []
            if gpu >= card.memory
            else [
                f"a GPU of {card.memory:g} GB (this machine: {f'{gpu:.0f} GB' if gpu else 'none'})"
            ]
        )
        lacks += (
            []
            if there or free >= card.disk
            else [f"{card.disk:g} GB of disk ({free:.0f} GB are free)"]
        )
        rows.append(
            {
                "backbone": name,
                "licence": card.licence + (", gated" if card.gated else ""),
                "disk, GB": card.disk,
                "GPU memory, GB": card.memory,
                "here": "needs " + " and ".join(lacks)
                if lacks
                else "yes" + ("" if there else ", after a download"),
            }
        )
    return pd.DataFrame(rows).set_index("backbone")
