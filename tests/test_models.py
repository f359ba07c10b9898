import itertools
from collections import deque
from urllib.error import URLError

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from fsl_utils import StudyError
from fsl_utils.classifier import models
from fsl_utils.classifier.arms import Arm
from fsl_utils.data import augmentation


@pytest.fixture
def blobs():
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [15, 85])
    return rng.normal(size=(100, 8)) + labels[:, None] * 0.8, labels


def test_the_probe_on_real_images_is_scikit_learns_balanced_regression(blobs):
    x, y = blobs
    ours = models.score_probe(models.fit_probe(x, y, x), x)
    z = StandardScaler().fit_transform(x)
    theirs = (
        LogisticRegression(C=models.PROBE["C"], class_weight="balanced", max_iter=2000)
        .fit(z, y)
        .predict_proba(z)[:, 1]
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_repeating_the_shots_does_not_move_the_probe(blobs):
    """pos_weight gives the rare class the same total weight at every ratio, so copies add
    nothing."""
    x, y = blobs
    once = models.fit_probe(x, y, x)
    many = models.fit_probe(
        np.concatenate([np.repeat(x[:15], 5, axis=0), x[15:]]), np.repeat([1, 0], [75, 85]), x
    )
    np.testing.assert_allclose(once[1].coef_, many[1].coef_, atol=1e-3)


def test_batches():
    labels = np.repeat([1, 0], [10, 90])
    epoch = np.concatenate(list(itertools.islice(models.batches(labels, "natural", 20, 0), 5)))
    assert sorted(epoch) == list(range(100))
    for rows in itertools.islice(models.batches(labels, "balanced", 20, 0), 5):
        assert labels[rows].sum() == 10
    again = next(models.batches(labels, "natural", 20, 0))
    assert np.array_equal(again, epoch[:20])


def test_losses_against_closed_forms():
    logits, target = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([1.0, 0.0, 0.0])
    p, even = torch.sigmoid(logits), torch.ones(3)
    weighted = -(4.0 * target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(models._loss(logits, target, even, Arm("real"), 4.0), weighted)
    plain = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(
        models._loss(logits, target, even, Arm("real", sampling="balanced"), 4.0), plain
    )
    focal = -(
        0.8 * target * (1 - p) ** 2 * p.log() + 0.2 * (1 - target) * p**2 * (1 - p).log()
    ).mean()
    torch.testing.assert_close(
        models._loss(logits, target, even, Arm("real", loss="focal"), 4.0), focal
    )


@pytest.fixture(scope="module")
def bars():
    """Rare: a bright bar somewhere on noise. 160 grey images of 32 px."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 120, (160, 1, 32, 32), dtype=np.uint8)
    labels = np.repeat([1, 0], [40, 120])
    for i in range(40):
        images[i, 0, rng.integers(4, 24), :] = 255
    return images, labels


def train(images, labels, arm=Arm("real"), steps=12, seed=0):
    states = models.train_resnet(
        torch.from_numpy(images),
        torch.from_numpy(labels),
        arm,
        steps=steps,
        seed=seed,
        init="scratch",
        flips="hv",
    )
    return deque(states, maxlen=1).pop()["model"]


def test_resnet_learns_what_is_plain_and_repeats_itself(bars):
    images, labels = bars
    scores = models.score_resnet(train(images, labels, steps=25), images)
    assert (
        roc_auc_score(labels, scores) > 0.95
        and scores.shape == (160,)
        and scores.min() >= 0
        and scores.max() <= 1
    )
    a, b = (models.score_resnet(train(images, labels, steps=2), images) for _ in range(2))
    assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "arm",
    [
        Arm("real", augmentation="strong"),
        Arm("real", loss="focal"),
        Arm("real", sampling="balanced"),
    ],
)
def test_every_recipe_trains(bars, arm):
    images, labels = bars
    losses = [
        s["loss"]
        for s in models.train_resnet(
            torch.from_numpy(images),
            torch.from_numpy(labels),
            arm,
            steps=3,
            seed=0,
            init="scratch",
            flips="h",
        )
    ]
    assert len(losses) == 3 and np.isfinite(losses).all()


def test_penultimate_features_lead_to_the_scores(bars):
    images, labels = bars
    model = train(images, labels, steps=1)
    inner = models.score_resnet(model, images[:8], penultimate=True)
    logits = inner @ model.fc.weight.detach().numpy().T + model.fc.bias.detach().numpy()
    np.testing.assert_allclose(
        1 / (1 + np.exp(-logits[:, 0])), models.score_resnet(model, images[:8]), rtol=1e-4
    )


def test_paired_arms_start_from_the_same_weights():
    a, b = models.new_resnet("scratch", 5), models.new_resnet("scratch", 5)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    assert not torch.equal(a.conv1.weight, models.new_resnet("scratch", 6).conv1.weight)


def test_unreachable_imagenet_weights_never_fall_back(monkeypatch):
    def unreachable(**_):
        raise URLError("no network")

    monkeypatch.setattr(models, "resnet18", unreachable)
    with pytest.raises(StudyError, match="set init='scratch'"):
        models.new_resnet("imagenet", 0)


def test_flips_and_shifts_against_numpy():
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 255, (64, 1, 9, 7), dtype=np.uint8)
    )
    assert torch.equal(
        augmentation.flips_and_shifts(images, "", 0, torch.Generator().manual_seed(0)), images
    )
    flipped = augmentation.flips_and_shifts(images, "hv", 0, torch.Generator().manual_seed(0))
    seen = set()
    for before, after in zip(images.numpy(), flipped.numpy()):
        matches = {
            axes
            for axes in ((), (1,), (2,), (1, 2))
            if np.array_equal(np.flip(before, axes), after)
        }
        assert matches
        seen |= matches
    assert len(seen) == 4
    shifted = augmentation.flips_and_shifts(images, "", 2, torch.Generator().manual_seed(0))
    for before, after in zip(images.numpy(), shifted.numpy()):
        padded = np.pad(before, ((0, 0), (2, 2), (2, 2)), mode="edge")
        assert any(
            np.array_equal(padded[:, y : y + 9, x : x + 7], after)
            for y in range(5)
            for x in range(5)
        )


def test_strong_augmentation_keeps_shapes_and_mixes_labels():
    images = torch.randint(0, 255, (32, 1, 16, 16), dtype=torch.uint8)
    labels = torch.tensor([1.0, 0.0] * 16)
    mixed, soft = augmentation.Strong()(images, labels, torch.Generator().manual_seed(0))
    assert mixed.shape == images.shape and mixed.dtype == torch.uint8
    assert soft.shape == (32,) and soft.min() >= 0 and soft.max() <= 1
    again, _ = augmentation.Strong()(images, labels, torch.Generator().manual_seed(0))
    assert torch.equal(mixed, again)
