"""Where the weights of the large backbones come from, what they need, and what is said where they
cannot be had.

They are fetched from the Hugging Face hub, at one commit, the first time they are opened;
`FSL_SD15`, `FSL_FLUX2_KLEIN_4B` and `FSL_FLUX2_DEV` name a local folder of such a pipeline instead.
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

from fsl_utils import StudyError
from fsl_utils.generator import mini, mini_weights
from fsl_utils.generator.mini128 import Mini128


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


def variable(name: str) -> str:
    """The environment variable that may name a local folder with a backbone's weights."""
    return "FSL_" + name.upper().replace("-", "_")


def weights(name: str) -> Path:
    """Folder of a large backbone's weights, downloaded at the pinned commit if they are not at
    hand.

    Raises StudyError, one line, where they cannot be had.
    """
    card = CARDS[name]
    if local := os.environ.get(variable(name)):
        if lacking := missing(Path(local), card.parts):
            raise StudyError(
                f"{variable(name)}={local}: {lacking} is missing; it must be a folder of a "
                f"{card.pipeline} as save_pretrained writes it"
            )
        return Path(local)
    here = _cached(card)
    if here and not missing(here, card.parts):
        return here
    _room(name)
    try:
        folder = _download(card)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise StudyError(_reason(name, error)) from error
    if lacking := missing(folder, card.parts):
        raise StudyError(
            f"{folder}: {lacking} is missing, the download broke off: run `{_command(card)}`, "
            "which goes on where it stopped"
        )
    return folder


def _cached(card: Card) -> Path | None:
    """The hub's folder of a backbone, whole or not."""
    found = huggingface_hub.try_to_load_from_cache(
        card.repository, "model_index.json", revision=card.revision
    )
    return Path(found).parent if isinstance(found, str) else None


def _download(card: Card) -> Path:
    folder = huggingface_hub.snapshot_download(
        repo_id=card.repository,
        revision=card.revision,
        allow_patterns=[
            "model_index.json",
            "scheduler/*",
            "tokenizer/*",
            *(f"{part}/*.{kind}" for part in card.parts for kind in ("json", "safetensors")),
        ],
        ignore_patterns=["*.fp16*", "*.non_ema*"],
    )
    return Path(folder)


def _command(card: Card) -> str:
    return f"hf download {card.repository} --revision {card.revision}"


def _reason(name: str, error: Exception) -> str:
    """Why a download failed and what to do, in one line. Of classes that are each other's kin the
    narrower comes first.
    """
    card = CARDS[name]
    needs = (
        f"{name} needs {card.disk:g} GB of disk and {card.memory:g} GB of GPU memory; "
        f"smaller: backbone='{card.smaller}'"
    )
    if isinstance(error, GatedRepoError):
        said = (
            f"{name} is gated: accept its licence ({card.licence}) at "
            f"https://huggingface.co/{card.repository}, then `hf auth login`"
        )
    elif isinstance(error, RevisionNotFoundError):
        return (
            f"{name}: commit {card.revision} has gone from {card.repository}; "
            f"take another in {__name__}.CARDS (adapters of the old one will not fit), "
            f"or set {variable(name)} to a copy of the old weights"
        )
    elif isinstance(error, RepositoryNotFoundError):
        said = f"{name}: {card.repository} is not on the hub, or needs `hf auth login`"
    elif isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        said = (
            f"the weights of {name} are not here and the hub cannot be reached: `{_command(card)}` "
            f"where there is a network, or set {variable(name)} to a folder of them"
        )
    elif getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        said = (
            f"disk full while fetching {name}: set HF_HOME to a larger disk and run again, "
            "the download goes on where it stopped"
        )
    else:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        said = (
            f"fetching {name} failed ({first}): run it again, the download goes on where it stopped"
        )
    return f"{said}; {needs}"


def missing(folder: Path, parts: tuple[str, ...]) -> str | None:
    """The first file that a pipeline's folder lacks, or None: of sharded weights every shard must
    be there, and none of size 0.
    """
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
            f"{name} takes {CARDS[name].disk:g} GB of disk, but "
            f"{free:.0f} GB are free in {_cache()}: "
            f"set HF_HOME to a larger disk, or backbone='{CARDS[name].smaller}'"
        )


def out_of_memory(name: str) -> StudyError:
    """Advice by numbers, for where not even one image fits."""
    if name not in CARDS:
        return StudyError("out of memory on a single image: free some memory")
    card, total = CARDS[name], gpu_memory()
    return StudyError(
        f"out of memory: {name} needs about {card.memory:g} GB at one image a time, "
        f"this device has {total:.0f} GB: close what else uses it, "
        f"set preset='paper' (4-bit weights), or take backbone='{card.smaller}'"
    )


def gpu_memory() -> float:
    """Memory of the CUDA device in GB, 0 without one."""
    return (
        torch.cuda.get_device_properties(0).total_memory / 1e9 if torch.cuda.is_available() else 0.0
    )


def feasible() -> pd.DataFrame:
    """Which backbones this machine could run: licence, needs in GB, `here` (yes, or what is
    missing).
    """
    rows = [(kind.name, "CC BY-NC-SA 4.0", 0.02, 0.0, _own(kind)) for kind in (mini.Mini, Mini128)]
    for name, card in CARDS.items():
        licence = card.licence + (", gated" if card.gated else "")
        rows.append((name, licence, card.disk, card.memory, _here(name, card)))
    columns = ["backbone", "licence", "disk, GB", "GPU memory, GB", "here"]
    return pd.DataFrame(rows, columns=columns).set_index("backbone")


def _own(kind: type[mini.Mini]) -> str:
    return (
        "yes"
        if mini_weights.in_use(kind).is_file()
        else f"needs fsl pretrain --backbone {kind.name}"
    )


def _here(name: str, card: Card) -> str:
    free, gpu = shutil.disk_usage(_cache()).free / 1e9, gpu_memory()
    there, lacks = bool(os.environ.get(variable(name)) or _cached(card)), []
    if gpu < card.memory:
        has = f"{gpu:.0f} GB" if gpu else "none"
        lacks.append(f"a GPU of {card.memory:g} GB (this machine: {has})")
    if not there and free < card.disk:
        lacks.append(f"{card.disk:g} GB of disk ({free:.0f} GB are free)")
    if lacks:
        return "needs " + " and ".join(lacks)
    return "yes" if there else "yes, after a download"
