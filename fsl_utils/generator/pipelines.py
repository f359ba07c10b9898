"""Opening a large backbone: a diffusers pipeline from its folder, without its text encoder, which
only encodes the prompts.
"""

import importlib.util
from pathlib import Path

import diffusers
import torch
from accelerate.utils.memory import clear_device_cache
from diffusers import DiffusionPipeline
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fsl_utils import StudyError, store
from fsl_utils.generator import hub
from fsl_utils.generator.flow import Flow
from fsl_utils.generator.large import Diffusion, Large

# What a study does without.
NO_CHECKER = {
    "safety_checker": None,
    "feature_extractor": None,
    "image_encoder": None,
    "requires_safety_checker": False,
}


def load(pretrained, folder: Path, device: str = "cpu", dtype: torch.dtype | None = None) -> Large:
    """Open what `pretrained` (backbones.Pretrained) names from a folder as `save_pretrained` writes
    it, in eval mode, frozen.

    bfloat16 on a GPU, float32 on a CPU, unless `dtype` says otherwise; a base that ends with '+nf4'
    is loaded in 4 bits. No code from the folder is run and no pickle is read. Raises StudyError
    where files are missing or damaged.
    """
    card, name = hub.CARDS[pretrained.name], pretrained.name
    dtype = dtype or (torch.bfloat16 if device == "cuda" else torch.float32)
    family = Diffusion if card.pipeline == "StableDiffusionPipeline" else Flow
    small = pretrained.base.endswith("+nf4")

    def opened(part: str, **without) -> DiffusionPipeline:
        how = without | (NO_CHECKER if family is Diffusion else {})
        if small:
            how["quantization_config"] = _in_four_bits(part, device, dtype)
        return _open(card.pipeline, folder, dtype=dtype, **how).to(device)

    def build(out):
        pipe = opened("text_encoder", vae=None, **{family.part: None})
        with torch.no_grad():
            found = pipe.encode_prompt(texts, device=device, **family.encoding)[0]
        save_file({"embeddings": found.cpu().contiguous()}, out / "embeddings.safetensors")

    texts = list(pretrained.prompts)
    params = {"base": pretrained.base, "prompts": texts, "dtype": str(dtype)}
    encoded = store.make("prompts", params, build, device=device)
    clear_device_cache(garbage_collection=True)  # of what the text encoder held
    embeddings = load_file(encoded / "embeddings.safetensors")["embeddings"].to(device, dtype)
    pipe = opened(family.part, text_encoder=None, tokenizer=None)
    denoiser = getattr(pipe, family.part)
    for module in (denoiser, pipe.vae):
        module.eval().requires_grad_(False)
    return family(
        name, pretrained.base, pipe, denoiser, embeddings, pretrained.channels, card.batch
    )


def _open(pipeline: str, folder: Path, **how) -> DiffusionPipeline:
    try:
        pipe = getattr(diffusers, pipeline).from_pretrained(
            folder, use_safetensors=True, local_files_only=True, **how
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).strip().splitlines()[0]
        raise StudyError(
            f"{folder}: not the whole weights of a {pipeline} ({reason}); "
            "remove the folder and download it again"
        ) from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _in_four_bits(part: str, device: str, dtype: torch.dtype):
    """NF4 (QLoRA, Dettmers et al. 2023) for a part of a pipeline. Raises StudyError without a GPU
    or bitsandbytes.
    """
    if device != "cuda" or not importlib.util.find_spec("bitsandbytes"):
        raise StudyError(
            f"4-bit weights need a CUDA device (device is '{device}') and bitsandbytes: "
            "pip install 'fsl-utils[large]' there, or take backbone='sd15'"
        )
    import transformers

    kind = transformers if part == "text_encoder" else diffusers
    config = kind.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )
    return diffusers.PipelineQuantizationConfig(quant_mapping={part: config})
