"""`patch_probe`, `whitened` and `calibrated`."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from fsl_utils import StudyError
from fsl_utils.classifier import calibrated, patch_probe, probe, whitened
from fsl_utils.classifier.probe import scaler
from fsl_utils.classifier.training import TrainingSet


@pytest.fixture
def spots():
    """Maps [160, 8, 6, 6]; rare: one place of 36 stands out in one channel."""
    rng = np.random.default_rng(0)
    maps, labels = rng.normal(size=(160, 8, 6, 6)), np.repeat([1, 0], [40, 120])
    for image in maps[:40]:
        image[3, rng.integers(6), rng.integers(6)] += 6
    return maps.astype(np.float16), labels, np.array([f"g{i % 40}" for i in range(160)])


def test_a_patch_probe_sees_one_place_that_an_average_dilutes(spots):
    maps, labels, groups = spots
    train = np.arange(160) % 2 == 0
    training = TrainingSet(maps[train], labels[train], groups[train])
    fitted, again = patch_probe.fit(training), patch_probe.fit(training)
    scores = fitted.score(maps[~train])
    assert np.array_equal(scores, again.score(maps[~train])) and scores.dtype == float
    averages = maps.mean(axis=(2, 3), dtype=np.float32)
    average = probe.fit(TrainingSet(averages[train], labels[train], groups[train]))
    held = labels[~train]
    assert roc_auc_score(held, scores) > roc_auc_score(held, average.score(averages[~train])) + 0.05


def test_whitened_is_the_discriminant_under_ledoit_and_wolfs_covariance():
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [12, 90])
    x = rng.normal(size=(102, 5)) @ rng.normal(size=(5, 5)) + labels[:, None]
    fitted = whitened.fit(TrainingSet(x, labels, np.full(102, "a")))
    z = scaler(x)(x)
    precision = LedoitWolf().fit(z[labels == 0]).precision_
    expected = precision @ (z[labels == 1].mean(0) - z[labels == 0].mean(0))
    np.testing.assert_allclose(
        fitted.weight / np.linalg.norm(fitted.weight),
        expected / np.linalg.norm(expected),
        atol=1e-6,
    )
    middle = (z[labels == 1].mean(0) + z[labels == 0].mean(0)) / 2
    assert middle @ fitted.weight + fitted.bias == pytest.approx(0, abs=1e-9)
    assert np.unique(fitted.score(x)).size == 102  # none saturates


def test_calibrated_features_have_the_mean_and_covariance_that_were_asked_for():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(300, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 2]])
    shots = common[:4] + 1
    x = calibrated.sample(shots, common, 40_000, 0)
    scale = scaler(np.concatenate([shots, common]))
    z, rare, shrink = scale(x), scale(shots), calibrated.SETTINGS["shrink"]
    np.testing.assert_allclose(np.median(x, 0), np.median(shots, 0), atol=0.5)
    expected = LedoitWolf().fit(scale(common)).covariance_ + calibrated.SETTINGS["ridge"] * np.eye(
        3
    )
    spread = (1 - shrink) ** 2 * np.cov(rare.T, bias=True)
    inside = np.cov(((x - scale.mean) / scale.scale).T)
    np.testing.assert_allclose(inside, expected + spread, atol=0.05)
    assert z.shape == (40_000, 3)
    np.testing.assert_array_equal(calibrated.sample(shots, common, 100, 0), x[:100])
    assert not np.array_equal(calibrated.sample(shots, common, 100, 1), x[:100])


def test_bad_input_is_named(spots):
    maps, labels, groups = spots
    with pytest.raises(StudyError, match="no shot"):
        calibrated.sample(np.empty((0, 3)), np.eye(3), 5, 0)
    with pytest.raises(StudyError, match="at least 2 common images"):
        whitened.fit(TrainingSet(np.eye(3), np.array([1, 1, 0]), np.full(3, "a")))
    with pytest.raises(StudyError, match="same mean features"):
        whitened.fit(TrainingSet(np.tile(np.eye(4), (2, 1)), np.repeat([1, 0], 4), np.full(8, "a")))
    with pytest.raises(StudyError, match="not finite"):
        patch_probe.fit(TrainingSet(np.full_like(maps, np.nan), labels, groups))
