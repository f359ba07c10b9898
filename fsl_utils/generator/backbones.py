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
from fsl_utils.data import images
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

# What a backbone changes in lora.SETTINGS. shift is in pixels of 512; dropout of the adapter; optimiser 'adamw8bit' holds its
# state in 8 bits, quantise 'nf4' the transformer in 4 (both bitsandbytes'); views: augmented views of an image, encoded once.
COMMON = dict(
    rank=16,
    alpha=16.0,
    learning_rate=1e-4,
    batch=4,
    prior=0.25,
    shift=16,
    dropout=0.0,
    optimiser="adamw",
    quantise="",
    views=4,
)
PAPER = dict(
    rank=64, alpha=8.0, dropout=0.08, learning_rate=5e-3, optimiser="adamw8bit", quantise="nf4"
)  # arXiv 2605.11898, with adapter_steps=200
SETTINGS = {"mini": {}, "sd15": COMMON, "flux2-klein-4b": COMMON, "flux2-dev": COMMON | PAPER}
PRESETS = {"": {}, "paper": PAPER}


def settings(name: str, preset: str = "") -> dict:
    """What a backbone and a preset change in lora.SETTINGS. Raises StudyError for an unknown name, or a preset where it has no meaning."""
    if name not in NAMES:
        raise StudyError(f"unknown backbone '{name}': known are {', '.join(NAMES)}")
    if preset not in PRESETS:
        raise StudyError(
            f"unknown preset '{preset}': known are {', '.join(p for p in PRESETS if p)}, or '' for none"
        )
    if preset and name in ("mini", "sd15"):
        raise StudyError(f"preset '{preset}' is for FLUX.2: set preset='' or backbone='flux2-dev'")
    return SETTINGS[name] | PRESETS[preset]


def request(name: str, domain, image_size: int, quantise: str = "") -> dict:
    """What determines a backbone, as part of the key of an adapter or a pool; `load` opens it from there.

    The large ones paint more pixels than the study's `image_size`: their images are resized as real ones are.
    """
    if name == "mini":
        return {"base": store.sha256(mini.weights())}
    from fsl_utils.generator import (
        large,  # here and below: transformers is imported only where it is needed
    )

    return {
        "backbone": name,
        "base": identity(name, quantise),
        "prompts": list(large.prompts(domain)),
        "channels": domain.channels,
        "image_size": image_size,
    }


def of(adapter: dict) -> dict:
    """The backbone's part of what lora.request returned: what `request` had put in."""
    if adapter["backbone"] == "mini":
        return {"base": adapter["base"]}
    return {
        name: adapter[name] for name in ("backbone", "base", "prompts", "channels", "image_size")
    }


def load(asked: dict, device: str = "cpu"):
    """Open a backbone that was asked for with `request`, in eval mode: mini.Mini, or a large.Large with the domain's prompts.

    Raises StudyError where weights are missing, gated, incomplete or damaged, or memory or disk does not suffice.
    """
    name = asked.get("backbone", "mini")
    if name == "mini":
        return mini.load(device=device)
    from fsl_utils.generator import large

    card, folder, quantise = CARDS[name], weights(name), asked["base"].partition("+")[2]
    try:
        return large.load(
            name,
            card.pipeline,
            folder,
            asked["base"],
            asked["prompts"],
            asked["channels"],
            card.batch,
            device,
            quantise,
        )
    except torch.OutOfMemoryError as error:
        raise out_of_memory(name) from error


def identity(name: str, quantise: str = "") -> str:
    """What names a backbone's weights in keys: the commit, or the hash of a local folder's files; of mini the file's SHA-256."""
    if name == "mini":
        return store.sha256(mini.weights())
    local = os.environ.get(variable(name))
    files = (
        sorted(p for p in Path(local).rglob("*") if p.suffix in (".json", ".safetensors"))
        if local
        else []
    )
    base = (
        images.data_hash(files, [str(p.relative_to(local)) for p in files])
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
