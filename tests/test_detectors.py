import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf

from fsl_utils import StudyError
from fsl_utils.classifier import anomaly, detectors
from fsl_utils.classifier.probe import scaler


@pytest.fixture
def maps():
    """Maps of 40 common images at two strides, and of 10 more, the last with an odd place."""
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(50, 6, 8, 8)), rng.normal(size=(50, 10, 4, 4))]
    layers[0][-1, :, 2:4, 2:4] += 5
    layers[1][-1, :, 1, 1] += 5
    return [m[:40].astype(np.float16) for m in layers], [m[40:].astype(np.float16) for m in layers]


def test_mahalanobis_is_the_sum_of_scikit_learns_over_stages():
    rng = np.random.default_rng(0)
    stages = [rng.normal(size=(80, d)) @ rng.normal(size=(d, d)) for d in (3, 6)]
    detector = detectors.mahalanobis(stages)
    expected = 0
    for stage in stages:
        z = scaler(stage)(stage)
        expected = expected + np.sqrt(LedoitWolf().fit(z).mahalanobis(z))
    # The scaler clips; where nothing is clipped both are the same.
    inside = np.all([np.abs(scaler(s)(s)).max(axis=1) < 2.9 for s in stages], axis=0)
    np.testing.assert_allclose(detector.distance(stages)[inside], expected[inside], rtol=1e-2)


def test_padim_is_the_closed_form_at_each_place(maps):
    common, more = maps
    detector = detectors.padim(common[1:], seed=0)  # one layer of 10 channels: all are taken
    x, new = (
        np.moveaxis(m.astype(float), 1, -1).reshape(len(m), 16, 10) for m in (common[1], more[1])
    )
    covariances = [np.cov(x[:, p].T) for p in range(16)]
    ridge = 0.01 * np.mean([np.diag(c) for c in covariances])
    away = [
        cdist(
            new[:, p],
            x[:, p].mean(0)[None],
            "mahalanobis",
            VI=np.linalg.inv(c + ridge * np.eye(10)),
        )
        for p, c in enumerate(covariances)
    ]
    np.testing.assert_allclose(detector.distance(more[1:]), np.max(away, axis=0)[:, 0], rtol=1e-3)


def test_patchcore_is_the_farthest_patch_from_its_nearest_common_one(maps, monkeypatch):
    common, more = maps
    monkeypatch.setitem(detectors.SETTINGS, "coreset", 10_000)  # all patches
    detector = detectors.patchcore(common[:1])

    def patches(layer):
        smooth = torch.nn.functional.avg_pool2d(
            torch.from_numpy(layer.astype(np.float32)), 3, 1, 1, count_include_pad=False
        )
        return smooth.flatten(2).swapaxes(1, 2).numpy()

    bank = patches(common[0]).reshape(-1, 6)
    nearest = [cdist(image, bank).min(axis=1).max() for image in patches(more[0])]
    np.testing.assert_allclose(detector.distance(more[:1]), nearest, rtol=1e-3)


@pytest.mark.parametrize("detect", [detectors.padim, detectors.patchcore])
def test_a_planted_outlier_stands_out_and_nothing_depends_on_chance(maps, detect):
    common, more = maps
    detector, again = detect(common), detect(common)
    scores = detector.score(more)
    assert scores.argmax() == 9 and scores.shape == (10,) and scores.min() >= 0 and scores.max() < 1
    assert np.array_equal(again.score(more), scores)


def test_k_centre_is_greedy(monkeypatch):
    points = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    points[30:] = points[:30]  # repetitions are not chosen
    rows = detectors.k_centre(torch.from_numpy(points), 100, np.random.default_rng(3))
    assert len(rows) == 30 and len(np.unique(points[rows], axis=0)) == 30
    rng = np.random.default_rng(3)
    low = points @ (rng.normal(size=(5, 64)) / 8).astype(np.float32)
    away = cdist(low, low)
    for i in range(1, 10):
        nearest = away[:, rows[:i]].min(axis=1)
        assert nearest[rows[i]] == pytest.approx(nearest.max(), rel=1e-4)


def test_the_anomaly_of_a_common_training_image_is_from_a_detector_that_did_not_see_it():
    rng = np.random.default_rng(0)
    stage = rng.normal(size=(60, 20))
    labels, groups = np.repeat([1, 0], [6, 54]), np.array([f"g{i % 9}" for i in range(60)])
    feature = anomaly.fit(detectors.mahalanobis, [stage], labels, groups)
    seen = detectors.mahalanobis([stage[6:]]).score([stage[6:]])
    assert feature.training[6:].mean() > seen.mean()
    # Rare images are drawn as common ones here: nothing sets them apart.
    assert abs(feature.training[:6].mean() - feature.training[6:].mean()) < 0.1
    assert anomaly.beside(stage, feature.training).shape == (60, 21)
    np.testing.assert_allclose(feature([stage[:6]]), feature.training[:6])


def test_bad_input_is_named(maps):
    common, _ = maps
    with pytest.raises(StudyError, match="features are the same"):
        detectors.mahalanobis([np.ones((9, 3))])
    with pytest.raises(StudyError, match="maps of all common training images are the same"):
        detectors.padim([np.ones((9, 3, 4, 4))])
    with pytest.raises(StudyError, match="different numbers of images"):
        detectors.patchcore([common[0], common[1][:5]])
    with pytest.raises(StudyError, match="not finite"):
        detectors.mahalanobis([np.full((9, 3), np.nan)])
    with pytest.raises(StudyError, match="come from 1 group"):
        anomaly.fit(detectors.mahalanobis, [np.eye(4)], np.array([1, 0, 0, 0]), np.full(4, "a"))
