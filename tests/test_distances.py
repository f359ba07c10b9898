"""The perceptual measure against the lpips package, a direct computation, and a network that fails."""

import http.server
import socket
import threading
import time

import numpy as np
import pytest
import torch
import torchvision

from fsl_utils import StudyError
from fsl_utils.classifier import features
from fsl_utils.pools import distances


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


@pytest.mark.filterwarnings("ignore")
def test_lpips_agrees_with_its_package(some_images, alexnet_state):
    import lpips

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
    pixels = [torch.from_numpy(x).float().div(127.5).sub(1).expand(-1, 3, -1, -1) for x in (a, b)]
    with torch.no_grad():
        expected = package(*pixels).flatten().numpy()

    measure = distances.lpips_alex(alexnet_state)
    got = distances.between(measure.embed(a), measure.embed(b))
    assert measure.name == "LPIPS"
    assert expected.min() > 1e-4
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
def no_hub(tmp_path, monkeypatch):
    """An empty hub cache, no network but what the test opens, and no measure remembered."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(distances, "PATIENCE", 0.5)
    distances.measure.cache_clear()
    yield tmp_path / "checkpoints" / distances.ALEXNET_URL.rpartition("/")[2]
    distances.measure.cache_clear()


def test_without_a_network_the_measure_is_not_called_lpips(no_hub, monkeypatch):
    with socket.socket() as closed:  # bound, not listening: refuses
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(
            distances,
            "ALEXNET_URL",
            f"http://127.0.0.1:{closed.getsockname()[1]}/alexnet-owt-7be5be79.pth",
        )
        assert distances.measure().name == "enet_distance"


def test_a_network_that_never_answers_is_given_up(no_hub, monkeypatch):
    before = socket.getdefaulttimeout()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(
            distances,
            "ALEXNET_URL",
            f"http://127.0.0.1:{silent.getsockname()[1]}/alexnet-owt-7be5be79.pth",
        )
        begin = time.perf_counter()
        assert distances.alexnet_weights() is None
        assert time.perf_counter() - begin < 10
    assert socket.getdefaulttimeout() == before


def test_a_page_in_place_of_the_weights_is_not_taken_for_them(no_hub, monkeypatch):
    class Portal(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"<html>please log in</html>")

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Portal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(
            distances,
            "ALEXNET_URL",
            f"http://127.0.0.1:{server.server_port}/alexnet-owt-7be5be79.pth",
        )
        assert distances.alexnet_weights() is None
        server.shutdown()
    assert not no_hub.exists()


def test_cached_weights_are_used_and_damaged_ones_named(no_hub, alexnet_state):
    no_hub.parent.mkdir()
    torch.save(alexnet_state, no_hub)
    assert distances.measure().name == "LPIPS"
    no_hub.write_bytes(no_hub.read_bytes()[:5000])
    with pytest.raises(StudyError, match="alexnet-owt.*remove the file"):
        distances.alexnet_weights()
