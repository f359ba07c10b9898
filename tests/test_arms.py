from types import SimpleNamespace

import numpy as np
import pytest

from fsl_utils import StudyError
from fsl_utils.classifier import arms, classifiers, sources


class Rows:
    """Material whose images are positions in the domain's table, and -1 and -2 where they were made
    for the rare and the common class."""

    def __init__(self, task):
        self.task, self.size, self.seed = task, 64, 0

    def real(self):
        return np.arange(len(self.task.domain.table))

    def pool(self, kind, n):
        return np.full(n, -2 if kind == "common" else -1)

    def through(self, view):
        features = np.random.default_rng(0).normal(size=(len(self.task.domain.table), 4))
        return SimpleNamespace(real=lambda: features, pool=lambda kind, n: features[:n])

    def kept(self, n):
        return np.full(n - 1, -1)  # one fewer than asked for

    def made(self, name, source, make):
        return np.full(1000, -1)


def training(name, ratio, task):
    """Rare and common rows of an arm's training set."""
    source, n = arms.get(name).source, round(ratio * task.n_real)
    if source.sampled:
        return task.draw.shots, task.draw.common
    x, y, groups = (
        getattr(source.training(Rows(task), n), part) for part in ("inputs", "labels", "groups")
    )
    assert len(x) == len(y) and set(y) == {0, 1} and (np.diff(y) <= 0).all()
    assert ((groups == "") == (x < 0)).all()  # what was made is of no group
    return x[y == 1], x[y == 0]


def test_training_sets_hold_what_their_arm_says(task):
    n, shots, draw = task.n_real, task.draw.shots, task.draw
    rare, common = training("real", 4, task)
    assert np.array_equal(rare, shots) and np.array_equal(common, draw.common)
    rare, _ = training("duplicate", 2.5, task)
    counts = np.unique(rare, return_counts=True)[1]
    assert set(rare) == set(shots) and len(rare) == 3.5 * n
    assert counts.max() - counts.min() <= 1
    for name in ("lora", "lora_covering", "base_synth", "paste"):
        rare, common = training(name, 4, task)
        assert np.array_equal(rare[:n], shots) and (rare[n:] == -1).sum() == 4 * n
        assert np.array_equal(common, draw.common)
    rare, _ = training("lora_filtered", 4, task)
    assert (rare == -1).sum() == 4 * n - 1
    rare, _ = training("synth_only", 0.5, task)
    assert (rare == -1).all() and len(rare) == n // 2
    rare, common = training("synth_both", 1, task)
    assert (rare == -1).sum() == (common == -2).sum() == n
    rare, common = training("lora_base", 0.5, task)
    added = set(common) - set(draw.common)
    assert (rare == -1).sum() == len(added) == n // 2
    assert added <= set(task.domain.rows("base", 0))
    rare, common = training("synth_common", 1, task)
    assert np.array_equal(rare, shots) and (common == -2).sum() == n
    rare, _ = training("real_more", 1, task)
    assert len(set(rare)) == 2 * n and set(rare) <= set(shots) | set(draw.more)


def test_every_arm_at_zero_is_real(task):
    for name in set(arms.ARMS) - {"synth_only", "calibrated"}:
        rare, common = training(name, 0, task)
        assert np.array_equal(rare, task.draw.shots) and np.array_equal(common, task.draw.common)


def test_no_training_set_holds_an_image_that_is_scored(task):
    for name in arms.ARMS:
        assert not set(np.concatenate(training(name, 1, task))) & set(task.draw.validation)


def test_what_a_source_needs_and_why_it_cannot_be(task):
    source = {name: arm.source for name, arm in arms.ARMS.items()}
    tuned = {name for name in source if source[name].tuned}
    assert tuned - {"contrastive"} == {
        name
        for name in arms.ARMS
        if name.startswith(("lora", "synth", "anneal", "adaptive", "grow"))
    }
    assert source["base_synth"].pools == ("base",) and not source["paste"].pools
    assert source["synth_both"].pools == ("rare", "common")
    assert [name for name in source if source[name].screened] == ["lora_filtered"]
    assert [name for name in source if source[name].chooses] == ["adaptive"]
    assert "no rare image at all" in source["synth_only"].why_not(task, 0)
    assert f"has {len(task.draw.more)}" in source["real_more"].why_not(task, 4000)
    assert "no pixel masks" in source["paste"].why_not(task, 4)
    assert not any(source[name].why_not(task, 4) for name in set(source) - {"paste"})


def test_a_new_arm_is_one_entry(task, monkeypatch):
    new = sources.FromPools("base_common", common_pool="base")
    monkeypatch.setitem(arms.ARMS, "base_common", arms.Arm(new))
    rare, common = training("base_common", 2, task)
    assert np.array_equal(rare, task.draw.shots) and (common == -1).sum() == 2 * task.n_real
    assert classifiers.get("probe").planned(["base_common"], [0, 2]) == [("base_common", 2.0)]


def test_every_arm_says_what_it_is_in_one_line_outside_its_key():
    titles = [arm.title for arm in arms.ARMS.values()]
    assert all(0 < len(title) < 90 for title in titles) and len(set(titles)) == len(titles)
    assert not any("title" in arm.params() for arm in arms.ARMS.values())


def test_unknown_names():
    with pytest.raises(StudyError, match="unknown arm 'magic'"):
        arms.get("magic")
    with pytest.raises(StudyError, match="unknown classifier 'svm': known are finetuned, probe"):
        classifiers.get("svm")
    with pytest.raises(StudyError, match="the probe|probe begins with imagenet"):
        classifiers.get("probe").check("scratch")


def test_ratios_without_meaning_are_zero():
    assert classifiers.get("resnet18").pairs(["real", "augment"], [1, 2]) == [
        ("real", 0),
        ("augment", 0),
    ]
    assert classifiers.get("probe").pairs(["augment"], [1, 2]) == [("augment", 1), ("augment", 2)]
    assert classifiers.get("probe").pairs(["lora"], [0, 1]) == [("lora", 1)]
    assert classifiers.get("probe").planned(["focal", "crt", "balanced", "lora_crt"], [1]) == []


def test_made_images_carry_the_share_that_is_asked_for(task):
    source = arms.get("synth_both").source
    for share in (0.05, 0.2, 1.0):
        training = source.training(Rows(task), 4 * task.n_real, share)
        for label in (0, 1):
            made = ~training.real & (training.labels == label)
            assert training.balanced[made].sum() == pytest.approx(share / 2)
    counted = source.training(Rows(task), 4 * task.n_real).balanced
    rare = counted[np.asarray(source.training(Rows(task), 4 * task.n_real).labels) == 1]
    assert np.ptp(rare) == pytest.approx(0)  # without a share every image weighs the same


def test_detectors_take_the_draw_as_it_is():
    for name in ("mahalanobis", "padim", "patchcore"):
        assert classifiers.get(name).planned(list(arms.ARMS), [1]) == [("real", 0.0)]
    assert classifiers.get("finetuned").why_not(arms.get("calibrated"))
    assert not classifiers.get("finetuned").why_not(arms.get("anneal"))
