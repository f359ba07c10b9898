import numpy as np
import pytest

from fsl_utils import StudyError
from fsl_utils.classifier import arms


def test_training_sets_hold_what_their_arm_says(draw):
    n = len(draw.shots)
    real = arms.mix("real", 0, draw)
    assert (
        np.array_equal(real.rare, draw.shots)
        and np.array_equal(real.common, draw.common)
        and real.synthetic == 0
    )
    double = arms.mix("duplicate", 2.5, draw)
    counts = np.unique(double.rare, return_counts=True)[1]
    assert (
        set(double.rare) == set(draw.shots)
        and len(double.rare) == 3.5 * n
        and counts.max() - counts.min() <= 1
    )
    for name in ("lora", "lora_filtered", "paste"):
        made = arms.mix(name, 4, draw)
        assert made.synthetic == 4 * n and np.array_equal(made.rare, draw.shots)
    alone = arms.mix("synth_only", 0.5, draw)
    assert len(alone.rare) == 0 and alone.synthetic == n // 2
    both = arms.mix("synth_both", 1, draw)
    assert both.synthetic == both.synthetic_common == n
    more = arms.mix("real_more", 1, draw)
    assert len(set(more.rare)) == 2 * n and set(more.rare) <= set(draw.shots) | set(draw.more)


def test_every_arm_at_zero_is_real(draw):
    for name in set(arms.ARMS) - {"synth_only"}:
        zero = arms.mix(name, 0, draw)
        assert (
            np.array_equal(zero.rare, draw.shots) and zero.synthetic == zero.synthetic_common == 0
        )


def test_gather_and_labels_agree():
    real, pool, common_pool = np.arange(10)[:, None], np.full((5, 1), 100), np.full((5, 1), 200)
    mix = arms.Mix(
        rare=np.array([1, 1]), common=np.array([7, 8, 9]), synthetic=2, synthetic_common=1
    )
    assert mix.gather(real, pool, common_pool)[:, 0].tolist() == [1, 1, 100, 100, 7, 8, 9, 200]
    assert mix.labels.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_no_training_set_holds_an_image_that_is_scored(draw):
    for name in arms.ARMS:
        mix = arms.mix(name, 1, draw)
        assert not set(np.concatenate([mix.rare, mix.common])) & set(draw.validation)


def test_bad_arms_and_ratios(draw):
    with pytest.raises(StudyError, match="unknown arm 'magic'"):
        arms.mix("magic", 1, draw)
    with pytest.raises(StudyError, match="ratio is -1"):
        arms.mix("lora", -1, draw)
    with pytest.raises(StudyError, match="no rare image at all"):
        arms.mix("synth_only", 0, draw)
    with pytest.raises(StudyError, match=f"has {len(draw.more)}"):
        arms.mix("real_more", 100, draw)


def test_ratios_without_meaning_are_zero():
    assert arms.ratios_of("real", [1, 2], "resnet18") == [0.0]
    assert arms.ratios_of("augment", [1, 2], "resnet18") == [0.0]
    assert arms.ratios_of("augment", [1, 2], "probe") == [1.0, 2.0]
    assert arms.ratios_of("lora", [0, 1, 2], "probe") == [1.0, 2.0]
