import math

import numpy as np
import pytest
import torch

from fsl_utils.classifier import arms, classifiers, contrastive
from fsl_utils.classifier.arms import CONTRASTIVE


def by_hand(embedded, labels, real):
    """Equation 2 of Khosla et al. in loops."""
    z = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    found, n = [], range(len(z))
    for i in n:
        same = [j for j in n if j != i and labels[j] == labels[i]]
        positives = [j for j in same if real[j] != real[i]] or same
        over = sum(math.exp(z[i] @ z[j] / CONTRASTIVE["temperature"]) for j in n if j != i)
        if positives:
            near = [z[i] @ z[j] / CONTRASTIVE["temperature"] - math.log(over) for j in positives]
            found.append(-sum(near) / len(positives))
    return sum(found) / len(found)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_it_is_the_papers_loss_with_positives_of_the_other_domain(share):
    rng = np.random.default_rng(round(10 * share))
    embedded, labels = rng.normal(size=(14, 6)), np.arange(14) % 2
    real = rng.random(14) >= share
    real[labels == 0] |= share == 0.3  # a class with real images alone
    found = contrastive.loss(*map(torch.from_numpy, (embedded, labels, real)))
    assert found.item() == pytest.approx(by_hand(embedded, labels, real), rel=1e-9)


def test_classes_that_are_points_and_their_limit():
    # Two images a class and domain: of 7 others 3 lie on the same point, 4 at a right angle.
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    real = torch.tensor([True, True, False, False] * 2)
    points = torch.eye(2)[labels]
    away = 4 * math.exp(-1 / CONTRASTIVE["temperature"])
    assert contrastive.loss(points, labels, real).item() == pytest.approx(math.log(3 + away))
    assert contrastive.loss(5 * points, labels, real).item() == pytest.approx(math.log(3 + away))


def test_nothing_to_draw_together_costs_nothing():
    alone = torch.randn(2, 3, requires_grad=True)
    value = contrastive.loss(alone, torch.tensor([0, 1]), torch.tensor([True, False]))
    value.backward()
    assert value.item() == 0 and not alone.grad.any()


def test_a_step_down_it_brings_the_domains_of_a_class_together():
    generator = torch.Generator().manual_seed(0)
    labels, real = torch.arange(32) % 2, torch.arange(32) // 2 % 2 == 0
    # The domain stands in the first number, the class in the second.
    place = torch.stack([3.0 * real, 1.0 * labels, *torch.rand(4, 32, generator=generator)], dim=1)
    place.requires_grad_()

    def gap(axis, name):
        unit = torch.nn.functional.normalize(place, dim=1)[:, axis]
        return (unit[name == 1].mean() - unit[name == 0].mean()).abs().item()

    domain, kind = gap(0, real.int()), gap(1, labels)
    for _ in range(50):
        (slope,) = torch.autograd.grad(contrastive.loss(place, labels, real), place)
        with torch.no_grad():
            place -= 0.5 * slope
    assert gap(0, real.int()) < domain / 3 and gap(1, labels) > kind


def test_only_a_classifier_with_an_embedding_takes_it():
    names = ["contrastive", "contrastive_real"]
    assert classifiers.get("finetuned").planned(names, [4.0]) == [
        ("contrastive", 4.0),
        ("contrastive_real", 0.0),
    ]
    for other in set(classifiers.CLASSIFIERS) - {"finetuned"}:
        assert classifiers.get(other).planned(names, [4.0]) == []
    assert arms.get("contrastive").params()["temperature"] == CONTRASTIVE["temperature"]
    assert "temperature" not in arms.get("synth_both").params()
