import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from fsl_utils import StudyError
from fsl_utils.classifier import features, models, probe
from fsl_utils.classifier.training import TrainingSet


@pytest.fixture
def blobs():
    """15 rare and 85 common images in 8 channels, 20 groups."""
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [15, 85])
    x = rng.normal(size=(100, 8)) + labels[:, None] * 0.8
    return TrainingSet(x, labels, np.array([f"g{i % 20}" for i in range(100)]))


def test_it_is_scikit_learns_regression_on_clipped_z(blobs):
    z = StandardScaler().fit_transform(blobs.inputs).clip(-3, 3)
    weights = np.where(blobs.labels == 1, 0.5 / 15, 0.5 / 85)
    theirs = LogisticRegression(C=1.0, max_iter=3000).fit(z, blobs.labels, weights)
    ours = probe.fit(blobs, C=1.0)
    np.testing.assert_allclose(
        ours.score(blobs.inputs), theirs.predict_proba(z)[:, 1], atol=1e-3, rtol=0
    )


def test_repeating_the_shots_does_not_move_it(blobs):
    rows = np.concatenate([np.repeat(np.arange(15), 4), np.arange(15, 100)])
    many = TrainingSet(blobs.inputs[rows], blobs.labels[rows], blobs.groups[rows])
    many.groups[:60][np.arange(60) % 4 > 0] = ""  # copies set no scale and choose no C
    once, again = probe.fit(blobs), probe.fit(many)
    assert once.C == again.C
    np.testing.assert_allclose(once.weight, again.weight, atol=2e-3)


def test_a_share_of_the_rare_weight_can_be_given_to_synthetic_images(blobs):
    weights = np.ones(100)
    weights[:5] = 0.0
    without = np.arange(100) >= 5
    part = TrainingSet(blobs.inputs[without], blobs.labels[without], blobs.groups[without])
    scaled = probe.fit(TrainingSet(blobs.inputs, blobs.labels, blobs.groups, weights), C=0.3)
    z = scaled.scaler(part.inputs)
    model = probe.regression(z, part.labels, part.balanced, 0.3)
    np.testing.assert_allclose(scaled.weight, model.coef_[0], atol=2e-3)


@pytest.mark.parametrize("told", [0.5, 2.0])
def test_C_has_the_smallest_held_out_log_loss_by_scikit_learn(told):
    rng = np.random.default_rng(1)
    labels, groups = np.repeat([1, 0], [30, 120]), np.array([f"g{i % 30}" for i in range(150)])
    z = rng.normal(size=(150, 60)) + labels[:, None] * told / 8
    held = np.zeros((len(probe.SETTINGS["C"]), 150))
    for train, test in StratifiedGroupKFold(5).split(z, labels, groups):
        for scores, C in zip(held, probe.SETTINGS["C"]):
            model = LogisticRegression(C=C / len(train), class_weight="balanced", max_iter=3000)
            scores[test] = model.fit(z[train], labels[train]).predict_proba(z[test])[:, 1]
    balanced = np.where(labels == 1, 4.0, 1.0)
    losses = [log_loss(labels, scores, sample_weight=balanced) for scores in held]
    chosen = probe.choose_C(z, labels, groups, np.ones(150))
    assert chosen == probe.SETTINGS["C"][int(np.argmin(losses))]


def test_a_channel_that_is_nearly_constant_cannot_decide(blobs):
    rng = np.random.default_rng(2)
    dead = 1.0 + 1e-7 * rng.normal(size=(100, 3))
    training = TrainingSet(np.hstack([blobs.inputs, dead]), blobs.labels, blobs.groups)
    fitted = probe.fit(training, C=0.3)
    moved = training.inputs.copy()
    moved[:, 8:] += 1e-3  # ten thousand of their standard deviations
    assert np.abs(fitted.score(moved) - fitted.score(training.inputs)).max() < 0.01
    old = models.fit_probe(training.inputs, training.labels, training.inputs)
    assert (
        np.abs(models.score_probe(old, moved) - models.score_probe(old, training.inputs)).max()
        > 0.1
    )


def test_a_grey_level_and_a_little_noise_move_scores_by_little(elpv, draw):
    """The measured figures stand in results/experiments.md, 'Baselines'."""
    images, rng = elpv.images(64), np.random.default_rng(0)
    rows = np.concatenate([draw.shots[:20], draw.common[:60]])
    view = probe.view(64)

    def extracted(pixels):
        return np.concatenate(list(features.batches(pixels, view=view)))

    fitted = probe.fit(TrainingSet(extracted(images[rows]), draw.labels[rows], draw.groups[rows]))
    held = images[draw.validation[::6]].astype(float)
    plain = fitted.score(extracted(held.astype(np.uint8)))
    level = rng.integers(-1, 2, size=held.shape)
    assert (
        np.abs(fitted.score(extracted((held + level).clip(0, 255).astype(np.uint8))) - plain).mean()
        < 0.02
    )
    noisy = extracted(held.astype(np.uint8)) * (1 + 1e-3 * rng.normal(size=(len(held), 1584)))
    assert np.abs(fitted.score(noisy) - plain).mean() < 0.01


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {"inputs": np.ones((100, 8))}, "all 8 features are the same"),
        (lambda t: {"labels": np.zeros(100, int)}, "no rare image"),
        (lambda t: {"labels": np.ones(100, int)}, "no common image"),
        (lambda t: {"groups": np.where(t.labels == 1, "one", t.groups)}, "come from 1 group"),
        (lambda t: {"inputs": np.where(np.eye(100, 8) == 1, np.nan, t.inputs)}, "8 of 100 rows"),
        (lambda t: {"weights": np.full(100, -1.0)}, "not negative"),
        (lambda t: {"weights": np.where(t.labels == 1, 0.0, 1.0)}, "rare images have no weight"),
        (lambda t: {"groups": np.full(100, "")}, "no real image"),
        (lambda t: {"groups": t.groups[:5]}, "differ in length"),
    ],
)
def test_bad_input_is_named(blobs, change, words):
    given = {name: getattr(blobs, name) for name in ("inputs", "labels", "groups", "weights")}
    with pytest.raises(StudyError, match=words):
        probe.fit(TrainingSet(**given | change(blobs)))


def test_features_that_were_not_extracted_are_not_scored(blobs):
    with pytest.raises(StudyError, match="100 of 100 rows are not finite"):
        probe.fit(blobs, C=1.0).score(np.full((100, 8), np.nan))


def test_the_refit_stays_where_real_images_agree_and_moves_where_they_do_not(blobs):
    first = probe.fit(blobs)
    still = probe.refit_near(dataclasses.replace(first, C=1e-9), blobs)
    np.testing.assert_allclose(still.weight, first.weight, atol=1e-6)  # no loss, no reason to move
    flipped = dataclasses.replace(blobs, labels=1 - blobs.labels)
    moved = probe.refit_near(first, flipped)
    assert np.linalg.norm(moved.weight - first.weight) > 0.1 * np.linalg.norm(first.weight)
    # From nothing it is the plain regression on the same scaled features.
    start = dataclasses.replace(first, weight=0 * first.weight, bias=0.0)
    plain = probe.fit(blobs, C=first.C)
    np.testing.assert_allclose(probe.refit_near(start, blobs).weight, plain.weight, atol=2e-3)


def test_without_real_rare_images_the_made_ones_choose_c(blobs):
    groups = np.where(blobs.labels == 1, "", blobs.groups)
    only_made = dataclasses.replace(blobs, groups=groups)
    apart = np.where(groups == "", [f"made {i}" for i in range(100)], groups)
    fitted = probe.fit(only_made)
    scale = probe.scaler(blobs.inputs[blobs.labels == 0])
    z = scale(blobs.inputs)
    assert probe.choose_C(z, blobs.labels, apart, np.ones(100)) == fitted.C
