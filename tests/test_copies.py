"""The copy rule: its distance against brute force, copies that must be caught, fresh images that
must not.
"""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter, shift
from scipy.stats import binom

from fsl_utils import StudyError
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import copies


def texture(rng, n, size=64):
    """Smooth random images, uint8 [n, 1, size, size]."""
    field = gaussian_filter(rng.normal(size=(n, 1, size, size)), (0, 0, 3, 3))
    return np.clip(128 + 40 * field / field.std(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("flips", ["", "h", "hv"])
def test_distance_is_one_minus_the_best_correlation(flips):
    rng = np.random.default_rng(0)
    images, real = texture(rng, 3), texture(rng, 4)
    blurred, reference = (
        gaussian_filter(x[:, 0].astype(float), (0, 1.5, 1.5), mode="nearest")
        for x in (images, real)
    )
    inner = [r[2:62:2, 2:62:2].ravel() for r in reference]
    template = np.mean([r - r.mean() for r in inner], axis=0)

    def residual(x):  # what a least-squares fit by a constant and the template leaves
        design = np.stack([np.ones_like(template), template], axis=1)
        return x - design @ np.linalg.lstsq(design, x, rcond=None)[0]

    expected = np.full((3, 4), np.inf)
    for i, image in enumerate(blurred):
        mirrored = {
            "": [image],
            "h": [image, image[:, ::-1]],
            "hv": [image, image[:, ::-1], image[::-1], image[::-1, ::-1]],
        }[flips]
        for turned in mirrored:
            for dy in range(5):
                for dx in range(5):
                    moved = residual(turned[dy : dy + 60 : 2, dx : dx + 60 : 2].ravel())
                    for j, r in enumerate(inner):
                        expected[i, j] = min(
                            expected[i, j], 1 - np.corrcoef(moved, residual(r))[0, 1]
                        )
    np.testing.assert_allclose(copies.distance_matrix(images, real, flips), expected, atol=1e-4)


def test_flips_shifts_and_contrast_do_not_hide_a_copy_but_a_forbidden_flip_does():
    rng = np.random.default_rng(1)
    real = texture(rng, 5)
    moved = shift(real, (0, 0, 2, -1), mode="nearest")
    dim = (real * 0.7 + 30).astype(np.uint8)
    for changed in (real, moved, dim):
        assert np.diag(copies.distance_matrix(changed, real, "")).max() < 0.02
    mirrored = real[..., ::-1]
    assert np.diag(copies.distance_matrix(mirrored, real, "h")).max() < 1e-4
    assert np.diag(copies.distance_matrix(mirrored, real, "")).min() > 0.2


def simulated(shots, rng):
    """What a copying generator might do to its shots."""
    y = shots.astype(float)
    changed = {
        "noise": y + rng.normal(0, 8, y.shape),
        "blur": gaussian_filter(y, (0, 0, 0.7, 0.7)),
        "shift": shift(y, (0, 0, 1, -1), mode="nearest"),
        "flip": y[..., ::-1],
        "contrast": y * 0.85 + 10,
        "all": gaussian_filter(shift(y, (0, 0, 1, 0), mode="nearest"), (0, 0, 0.7, 0.7))[
            ..., ::-1, :
        ]
        * 0.9
        + rng.normal(0, 4, y.shape),
    }
    return {name: np.clip(np.rint(v), 0, 255).astype(np.uint8) for name, v in changed.items()}


def test_copies_of_real_shots_are_caught(task):
    few = dataclasses.replace(task.draw, shots=task.draw.shots[:10])
    cases = simulated(task.images(64)[few.shots], np.random.default_rng(0))
    rule = copies.rule(FewShotTask(task.domain, few), 64)
    verdicts = copies.judge(np.concatenate(list(cases.values())), rule)
    for number, name in enumerate(cases):
        part = verdicts.nearest.iloc[10 * number : 10 * (number + 1)]
        assert part["copied"].mean() >= 0.9, name
        assert (part["row"].to_numpy() == few.shots)[part["copied"]].all(), name
    names = task.domain.table["image"]
    assert list(verdicts.nearest["image"]) == list(names.iloc[verdicts.nearest["row"]])


def test_fresh_real_images_of_other_groups_are_called_copied_no_more_than_stated(task):
    unseen = copies.held_out(task)
    groups = task.draw.groups[unseen]
    # Unseen groups that hold no shot play the pool; the others set the threshold.
    fresh = ~np.isin(groups, task.draw.groups[copies.references(task)])
    verdicts = copies.judge(
        task.images(64)[unseen[fresh]], copies.rule(task, 64, unseen=unseen[~fresh])
    )
    assert fresh.sum() > 50
    assert verdicts.nearest["copied"].sum() <= binom.ppf(0.999, fresh.sum(), copies.QUANTILE)


def test_false_alarm_is_the_quantile_where_images_are_exchangeable():
    rng = np.random.default_rng(0)
    rates = [copies.false_alarm(rng.random(300), np.repeat(np.arange(30), 10)) for _ in range(50)]
    low, high = binom.ppf([0.001, 0.999], 300 * 50, copies.QUANTILE) / (300 * 50)
    assert (
        low - 1 / 240 < np.mean(rates) < high + 1 / 240
    )  # a threshold from 240 images rests on whole images
    # a group that lies nearer than all others is judged by the others' threshold, not by its own
    assert (
        copies.false_alarm(np.r_[rng.random(100) + 1, np.zeros(25)], np.repeat(np.arange(5), 25))
        >= 25 / 125
    )
    assert np.isnan(copies.false_alarm(rng.random(9), np.zeros(9)))


def toy(pixels, groups, labels, *, shots, base, more=(), common=(), validation=()):
    draw = SimpleNamespace(
        groups=np.asarray(groups),
        labels=np.asarray(labels),
        **{
            k: np.array(v, int)
            for k, v in dict(shots=shots, more=more, common=common, validation=validation).items()
        },
    )
    domain = SimpleNamespace(
        name="elpv", images=lambda size: pixels, rows=lambda partition, label: np.array(base, int)
    )
    domain.table = pd.DataFrame(
        {"image": [f"{i}.png" for i in range(len(pixels))], "group": groups}
    )
    return FewShotTask(domain, draw)


def test_an_unseen_image_is_never_held_against_its_own_group():
    pixels = texture(np.random.default_rng(2), 12)
    pixels[4:8] = pixels[:4]  # the same tiles again: without grouping, distance 0
    task = toy(
        pixels,
        [0, 1, 2, 3] * 2 + [4, 5, 6, 7],
        [1] * 8 + [0] * 4,
        shots=range(4),
        base=range(8, 12),
        more=range(4, 8),
    )
    assert copies.rule(task, 64).threshold > 0.2


def test_a_filter_that_passes_common_training_images_sees_no_other_held_out_image():
    rng = np.random.default_rng(3)
    pixels = texture(rng, 30)
    parts = dict(
        shots=range(5),
        base=range(5, 10),
        common=range(10, 20),
        more=range(20, 25),
        validation=range(25, 30),
    )
    labels = [1] * 5 + [0] * 15 + [1] * 10
    synthetic = texture(rng, 4)
    task = toy(pixels, range(30), labels, **parts)
    before = copies.judge(synthetic, copies.rule(task, 64, unseen=task.draw.common))
    pixels[20:] = 0
    after = copies.judge(synthetic, copies.rule(task, 64, unseen=task.draw.common))
    assert before.threshold == after.threshold and before.nearest.equals(after.nearest)


def test_nothing_to_judge_is_an_error(task):
    with pytest.raises(StudyError, match="0 synthetic"):
        copies.judge(np.zeros((0, 1, 64, 64), np.uint8), copies.rule(task, 64))
