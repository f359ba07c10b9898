import numpy as np

from fsl_utils.classifier import arms, classifiers
from fsl_utils.classifier.growing import Growth

MADE = np.repeat([False, True], [4, 8])
PART = 8 // arms.GROWTH["parts"]


def test_nothing_joins_while_validation_falls():
    growth = Growth(MADE, "unsure", 0)
    for loss in (3.0, 2.0, 1.0):
        growth.look(loss, np.full(8, 0.5))
    assert np.array_equal(growth.in_use, ~MADE) and len(growth.waiting) == 8


def test_on_a_plateau_the_least_sure_join_and_the_sure_ones_last():
    growth = Growth(MADE, "unsure", 0)
    scores = np.array([0.99, 0.45, 0.02, 0.7, 0.51, 0.9, 0.1, 0.25])
    growth.look(1.0, scores)
    joined = []
    for _ in range(arms.GROWTH["parts"]):
        before = growth.in_use.copy()
        growth.look(1.0, scores[growth.waiting - 4])
        joined.append(set(np.flatnonzero(growth.in_use & ~before) - 4))
    # By distance from one half: .51 .45, .7 .25, .9 .1, .02 .99.
    assert joined == [{4, 1}, {3, 7}, {5, 6}, {2, 0}] and PART == 2
    growth.look(1.0, np.zeros(0))
    assert growth.in_use.all()


def test_a_loss_that_rose_must_fall_below_the_lowest_to_count_as_better():
    growth = Growth(MADE, "unsure", 0)
    for loss, waiting in ((1.0, 8), (1.5, 6), (1.2, 4), (0.9, 4)):
        growth.look(loss, np.full(len(growth.waiting), 0.5))
        assert len(growth.waiting) == waiting


def test_the_rival_adds_as_many_at_the_same_time_but_any():
    scores, orders = np.linspace(0.5, 1, 8), set()
    for seed in range(20):
        growth = Growth(MADE, "any", seed)
        growth.look(1.0, scores)
        growth.look(1.0, scores)
        assert growth.in_use[MADE].sum() == PART
        orders.add(tuple(growth.in_use))
    assert len(orders) > 5


def test_only_a_classifier_that_looks_at_validation_grows():
    names = ["grow", "grow_any"]
    assert classifiers.get("finetuned").planned(names, [4.0]) == [(name, 4.0) for name in names]
    for other in set(classifiers.CLASSIFIERS) - {"finetuned"}:
        assert classifiers.get(other).planned(names, [4.0]) == []
    assert arms.get("grow").params()["every"] == arms.GROWTH["every"]
    assert "grow" not in arms.get("lora").params()  # whose key is that of published cells
