import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torchvision.models import resnet18

from fsl_utils import StudyError
from fsl_utils.classifier import arms, features, finetuned
from fsl_utils.classifier.training import TrainingSet

LORA = arms.get("lora")


@pytest.fixture(scope="module")
def bars():
    """Rare: a bright bar on noise. 48 grey images of 64 px, their labels and groups."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 120, (48, 1, 64, 64), dtype=np.uint8)
    labels = np.repeat([1, 0], [16, 32])
    for image in images[:16]:
        image[0, rng.integers(4, 56) :][:4] = 255
    return images, labels, np.array([f"g{i % 12}" for i in range(48)])


def extracted(images, view):
    return np.concatenate(list(features.batches(images, view=view)))


def small(network=features.NAME):
    cut = finetuned.CUT[network]
    return [features.View(network, (cut,), False, 64, v, "hv" if v else "") for v in range(2)]


@pytest.fixture(scope="module")
def training(bars):
    images, labels, groups = bars
    return TrainingSet(np.stack([extracted(images, view) for view in small()], 1), labels, groups)


def trained(training, steps, seed=0, network=features.NAME, net=None):
    model = finetuned.tail(net or features.network(network), network)
    states = list(finetuned.train(training, model, LORA, steps=steps, seed=seed))
    assert [state["step"] for state in states] == list(range(steps + 1))
    return model


def test_the_tail_ends_the_network_as_it_is(bars, training):
    images, *_ = bars
    head = extracted(images, features.View(input_size=64))
    tail = finetuned.tail(features.network())
    with torch.inference_mode():
        pooled = tail.pooled(torch.from_numpy(training.inputs[:, 0]).float()).numpy()
    # bfloat16 in the stem, float16 in the store: a hundredth of what a feature spans.
    assert np.abs(pooled - head).max() < 0.02 * head.max()


def test_it_starts_at_the_probe_on_its_features_and_learns(bars, training):
    _, labels, _ = bars
    before = {name: p.clone() for name, p in features.network().named_parameters()}
    model = trained(training, 5)
    scores = finetuned.score(model, training.inputs[:, 0])
    assert scores.shape == (48,) and scores.dtype == float and roc_auc_score(labels, scores) > 0.9
    again = finetuned.score(trained(training, 5), training.inputs[:, 0])
    other = finetuned.score(trained(training, 5, seed=1), training.inputs[:, 0])
    assert np.array_equal(scores, again) and not np.array_equal(scores, other)
    for name, parameter in features.network().named_parameters():
        assert torch.equal(parameter, before[name])
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())


def test_the_contrastive_loss_draws_the_domains_of_a_class_together(training):
    """Synthetic images that differ from real ones by a shift of all their features."""
    made = np.arange(48) % 2 == 0
    shifted = training.inputs + np.where(made, 1.0, 0.0)[:, None, None, None, None].astype("f2")
    mixed = TrainingSet(shifted, training.labels, np.where(made, "", training.groups))
    apart = {}
    for arm in ("lora", "contrastive"):
        model = finetuned.tail(features.network())
        list(finetuned.train(mixed, model, arms.get(arm), steps=12, seed=0))
        with torch.inference_mode():
            pooled = model.pooled(torch.from_numpy(shifted[:, 0]).float())
        near = torch.nn.functional.normalize(pooled, dim=1)
        rare = mixed.labels == 1
        apart[arm] = (near[rare & made].mean(0) - near[rare & ~made].mean(0)).norm().item()
        assert roc_auc_score(mixed.labels, finetuned.score(model, shifted[:, 0])) > 0.9
    assert apart["contrastive"] < apart["lora"]


def test_images_without_weight_are_not_drawn(training):
    weights = np.where(np.arange(48) % 2, 1.0, 0.0)
    half = TrainingSet(training.inputs, training.labels, training.groups, weights)
    rows, variants = next(finetuned._batches(half, LORA, None, 1, 0))
    assert (rows % 2 == 1).all() and half.labels[rows].sum() == len(rows) / 2
    assert set(variants) == {0, 1}


def test_resnet18_takes_the_same_path(bars, monkeypatch):
    images, labels, groups = bars
    torch.manual_seed(0)
    net = resnet18(num_classes=1).eval()
    monkeypatch.setattr(features, "network", lambda name: net)
    views = small(features.RESNET)
    maps = np.stack([extracted(images, view) for view in views], 1)
    training = TrainingSet(maps, labels, groups)
    model = trained(training, 1, network=features.RESNET, net=net)
    scores = finetuned.score(model, maps[:, 0])
    assert scores.shape == (48,) and np.isfinite(scores).all()


def test_bad_input_is_named(training):
    flat = TrainingSet(training.inputs[:, 0], training.labels, training.groups)
    model = finetuned.tail(features.network())
    with pytest.raises(StudyError, match="expected \\[N, variants, C, h, w\\]"):
        next(finetuned.train(flat, model, LORA, steps=1, seed=0))
    with pytest.raises(StudyError, match="steps is 0"):
        next(finetuned.train(training, model, LORA, steps=0, seed=0))
    with pytest.raises(StudyError, match="not finite"):
        finetuned.score(model, np.full((2, 112, 4, 4), np.nan, np.float16))


def test_grown_images_are_drawn_once_validation_stalls(training, monkeypatch):
    """Of real images alone is what never stalls, and what is trained on turned labels must."""
    made = np.arange(48) % 2 == 0
    mixed = TrainingSet(training.inputs, training.labels, np.where(made, "", training.groups))
    real = TrainingSet(*(part[~made] for part in (mixed.inputs, mixed.labels, mixed.groups)))
    maps, labels = training.inputs[:, 0], training.labels

    def grown(training, labels, arm="grow"):
        model = finetuned.tail(features.network())
        looked = maps, labels
        list(finetuned.train(training, model, arms.get(arm), steps=41, seed=0, validation=looked))
        return finetuned.score(model, maps)

    alone = finetuned.score(trained(real, 41), maps)
    turned = grown(mixed, 1 - labels)
    assert np.array_equal(turned, grown(mixed, 1 - labels))
    assert not np.array_equal(turned, alone)
    with monkeypatch.context() as patched:
        patched.setattr(finetuned.Growth, "look", lambda *_: None)
        assert np.array_equal(grown(mixed, labels), alone)
    assert not np.array_equal(turned, grown(mixed, 1 - labels, "grow_any"))


def test_annealed_images_leave_the_batches(training):
    groups = np.where(np.arange(48) % 2, "real", "")
    mixed = TrainingSet(training.inputs, training.labels, groups)
    drawn = [rows for rows, _ in finetuned._batches(mixed, arms.get("anneal"), None, 40, 0)]
    made = np.array([(groups[rows] == "").mean() for rows in drawn])
    assert made[:5].mean() > 0.35 and (made[30:] == 0).all()
    assert made[:15].mean() > made[15:30].mean()
