"""The perceptual measure against the lpips package, a direct computation, and weights that cannot
be had.
"""

import urllib.error
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision

from fsl_utils import StudyError
from fsl_utils.classifier import features
from fsl_utils.pools import distances

SQUEEZE = Path(torch.hub.get_dir()) / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"


@pytest.fixture(scope="module")
def some_images():
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(6, 1, 16, 16)).repeat(4, axis=2).repeat(4, axis=3)
    return np.clip(128 + 50 * smooth + rng.normal(0, 10, (6, 1, 64, 64)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def alexnet_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision.models.alexnet(weights=None).state_dict()


def by_package(package, a, b) -> np.ndarray:
    """The lpips package's distance of image i of a to image i of b."""
    pixels = [torch.from_numpy(x).float().div(127.5).sub(1).expand(-1, 3, -1, -1) for x in (a, b)]
    with torch.no_grad():
        return package(*pixels).flatten().numpy()


@pytest.mark.filterwarnings("ignore")
def test_lpips_agrees_with_its_package(some_images, alexnet_state, monkeypatch):
    package = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    trunk = torchvision.models.alexnet(weights=None)
    trunk.load_state_dict(alexnet_state)
    for i, module in enumerate(
        trunk.features
    ):  # the package's slices hold torchvision's layers under their index
        for part in package.net.children():
            if str(i) in dict(part.named_children()) and isinstance(module, torch.nn.Conv2d):
                part.get_submodule(str(i)).load_state_dict(module.state_dict())
    a, b = some_images[:3], some_images[3:]
    expected = by_package(package, a, b)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: alexnet_state)
    measure = distances.lpips("alex")
    got = distances.between(measure.embed(a), measure.embed(b))
    assert measure.name == "lpips_alex" and expected.min() > 1e-4
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_enet_distance_agrees_with_a_direct_computation(some_images):
    net = features.network()

    def layers(images):
        x = torch.from_numpy(images).float().sub(127).div(128).expand(-1, 3, -1, -1)
        x, found, width = net._swish(net._bn0(net._conv_stem(x))), [], 32
        for block, after in zip(net._blocks, [*net._blocks[1:], None]):
            x = block(x, 0)
            # the last block before the next one halves the resolution
            if after is None or after(x, 0).shape[-1] < width:
                found.append(x.numpy())
                width //= 2
        return found

    a, b = some_images[:2], some_images[2:4]
    with torch.no_grad():
        first, second = layers(a), layers(b)
    expected = np.zeros(2)
    for u, v in zip(first, second):
        u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (u, v))
        expected += np.square(u - v).sum(axis=1).mean(axis=(1, 2)) / len(first)
    measure = distances.enet_distance()
    assert measure.name == "enet_distance" and len(first) == 5
    np.testing.assert_allclose(
        distances.between(measure.embed(a), measure.embed(b)), expected, rtol=1e-3
    )


def test_images_are_nearer_to_less_noisy_copies_and_channels_and_size_are_free(some_images):
    measure = distances.enet_distance()
    rng = np.random.default_rng(1)
    noisy = [
        np.clip(some_images + rng.normal(0, s, some_images.shape), 0, 255).astype(np.uint8)
        for s in (0, 4, 12, 40)
    ]
    original = measure.embed(some_images)
    steps = np.array([distances.between(original, measure.embed(x)) for x in noisy])
    assert (steps[0] == 0).all() and (np.diff(steps, axis=0) > 0).all()
    assert (measure.embed(some_images.repeat(3, axis=1)) == original).all()
    large = measure.embed(some_images.repeat(2, axis=2).repeat(2, axis=3))
    assert (
        distances.between(original, large) < distances.between(np.roll(original, 1, axis=0), large)
    ).all()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache, no network, and no measure remembered."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    distances.measure.cache_clear()
    yield tmp_path / "checkpoints"
    distances.measure.cache_clear()


def refuse(*_, **__):
    raise urllib.error.URLError("no network")


def test_without_its_weights_a_named_measure_is_refused(hub):
    with pytest.raises(StudyError, match="SqueezeNet 1.1 weights .*no network.*enet_distance"):
        distances.measure("lpips_squeeze")
    assert distances.measure("enet_distance").name == "enet_distance"  # asks nobody
    with pytest.raises(StudyError, match="unknown measure 'lpips'"):
        distances.measure("lpips")


def test_cached_weights_are_used_and_damaged_ones_named(hub, alexnet_state):
    path = hub / "alexnet-owt-7be5be79.pth"
    path.parent.mkdir()
    torch.save(alexnet_state, path)
    assert distances.measure("lpips_alex").name == "lpips_alex"
    distances.measure.cache_clear()
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StudyError, match="put a whole alexnet-owt"):
        distances.measure("lpips_alex")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not SQUEEZE.is_file(), reason=f"NOT RUN: {SQUEEZE} is not there (TORCH_HOME)")
def test_lpips_over_the_real_squeezenet_agrees_with_its_package(some_images):
    package = lpips.LPIPS(net="squeeze", verbose=False)
    a, b = some_images[:3], some_images[3:]
    measure = distances.measure("lpips_squeeze")
    found = distances.between(measure.embed(a), measure.embed(b))
    np.testing.assert_allclose(found, by_package(package, a, b), rtol=1e-4)
