"""Files of a mini's weights: which are in use, reading and writing them, what they saw.

One safetensors file: float16 weights, the band scales, and a JSON of facts in its metadata.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fsl_utils import StudyError, store
from fsl_utils.generator.mini import Mini, create

FOLDER = Path(__file__).parent / "weights"
# After the first of two stages of the same training, for autoguidance.
EARLIER = {name: FOLDER / f"{name}_earlier.safetensors" for name in ("mini", "mini128")}


def in_use(kind: type[Mini] = Mini) -> Path:
    """The weights in use: those that `FSL_MINI` names (`FSL_MINI128` for mini128; pretraining
    continued on a user's folder), else the shipped ones.
    """
    return Path(os.environ.get(variable(kind.name)) or FOLDER / f"{kind.name}.safetensors")


def seen(path: Path, kind: type[Mini], domain: str) -> set[str]:
    """Names of the images of a domain that a file of weights was pretrained on.

    Raises StudyError where the file is missing or damaged.
    """
    with _explained(path, kind), safe_open(path, "pt") as file:
        return set(_about(file).get("files", {}).get(domain, ()))


def variable(name: str) -> str:
    """The environment variable that names a mini's weights."""
    return f"FSL_{name.upper()}"


def save(model: Mini, path: Path, about: dict) -> None:
    """Write float16 weights, the band scales and a JSON of facts to one safetensors file, whole or
    not at all.
    """
    tensors = {k: v.detach().half().contiguous() for k, v in model.denoiser.state_dict().items()}
    tensors["band_scales"] = model.scales.float()
    store.write_whole(
        path, lambda partial: save_file(tensors, partial, metadata={"about": json.dumps(about)})
    )


def load(path: Path | None = None, device: str = "cpu", kind: type[Mini] = Mini) -> Mini:
    """Load pretrained weights (those in use, if no path is given) as float32, in eval mode.

    Raises StudyError where the file is missing or damaged.
    """
    path = path or in_use(kind)
    with _explained(path, kind):
        with safe_open(path, "pt") as file:
            about, keys = _about(file), file.keys()
            tensors = {name: file.get_tensor(name).float() for name in keys}
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise ValueError("values that are no numbers")
        model = create(tensors.pop("band_scales"), 0, kind)
        model.denoiser.load_state_dict(tensors)
    model.hash, model.about = store.sha256(path), about
    model.denoiser.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    return model


def earlier(model: Mini) -> Mini:
    """The earlier weights of a model's kind, which know less of the same latents.

    Raises StudyError where the latents of the weights in use are scaled otherwise.
    """
    found = load(EARLIER[model.name], str(model.device), type(model))
    if not torch.equal(found.scales, model.scales):
        raise StudyError(
            f"{in_use(type(model))}: its bands are not scaled as those of "
            f"{EARLIER[model.name].name}; set autoguidance=1"
        )
    return found


def _about(file) -> dict:
    return json.loads((file.metadata() or {})["about"])


@contextmanager
def _explained(path: Path, kind: type[Mini]) -> Iterator[None]:
    """What is wrong with a file of weights, as a StudyError."""
    if not path.is_file():
        raise StudyError(
            f"{path}: the weights of {kind.name} are missing; "
            f"check the file out again or run fsl pretrain --backbone {kind.name}"
        )
    try:
        yield
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise StudyError(
            f"{path}: not the weights of this {kind.name} ({reason}); check the file out again"
        ) from error
