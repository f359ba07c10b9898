"""The arm `adaptive`: which cells it makes, which it takes, and that it looks at no other image."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fsl_utils import halving, metrics, params, store
from fsl_utils.analysis import adaptive as replayed
from fsl_utils.classifier import adaptive, cells, plan
from fsl_utils.classifier.kinds import OnFeatures

RATIOS = [0.5, 1.0, 2.0, 4.0]


def settings(**given):
    return SimpleNamespace(**{name: params.default(name) for name in params.TABLE} | given)


class Planted(OnFeatures):
    """A classifier whose skill is that of an arm and ratio."""

    name = "planted"

    def __init__(self, task, skills):
        self.task, self.skills, self.trained = task, skills, []

    def settings(self, steps):
        return {}

    def scores(self, cell, material):
        self.trained.append((cell.arm, cell.ratio))
        rng = np.random.default_rng(0)
        labels = self.task.draw.labels[material.evaluated]
        noise = rng.random(len(labels))
        skill = self.skills.get((cell.arm, cell.ratio), 0.1)
        return skill * labels + (1 - skill) * noise


@pytest.fixture
def planted(task, monkeypatch):
    skills = dict(zip([("synth_both", ratio) for ratio in RATIOS], (0.22, 0.25, 0.45, 0.3)))
    classifier = Planted(task, skills)
    monkeypatch.setattr(cells.classifiers, "get", lambda name: classifier)
    return classifier


def built(task, cell):
    material = SimpleNamespace(
        evaluated=task.draw.validation, spent={"fetching": 0.0}, device="cpu", task=task
    )
    folder = cell.make(lambda out: cells._build(out, cell, material), device="cpu")
    return store.manifest(folder), pd.read_parquet(folder / "scores.parquet")


def planned(task, **given):
    p = settings(arms=["adaptive", "real", "lora", "synth_both"], ratios=RATIOS, **given)
    return {(cell.arm, cell.ratio): cell for cell in plan.cells(task, p)}


def test_its_cells_are_those_of_the_sweep(task):
    of = planned(task, seed=11, synthetic_weight=0.3)
    for key in [("real", 0.0), *((arm, r) for arm in halving.RECIPES for r in RATIOS)]:
        assert of["adaptive", 4.0].at(*key).key == of[key].key
    assert of["adaptive", 4.0].key not in {cell.key for key, cell in of.items() if key[1] < 4}


def test_it_takes_the_planted_best_and_says_what_it_tried(task, planted):
    of = planned(task, seed=12)
    facts, table = built(task, of["adaptive", 4.0])
    found = facts["adaptive"]
    assert found["chosen"] == ["synth_both", 2.0]
    assert (
        [tuple(key) for key in found["tried"]]
        == planted.trained
        == [
            ("real", 0.0),
            ("lora", 0.5),
            ("synth_both", 0.5),
            ("synth_both", 1.0),
            ("synth_both", 2.0),
            ("synth_both", 4.0),
        ]
    )
    taken, _ = built(task, of["synth_both", 2.0])  # it is in the store: not trained again
    assert len(planted.trained) == 6 and taken["metrics"] == facts["metrics"]
    chosen = table[table["partition"] == "choosing"]
    assert set(chosen["image"]) == set(task.domain.table["image"].iloc[task.draw.choosing])


def test_its_ratio_is_the_largest_that_it_tries(task, planted):
    facts, _ = built(task, planned(task, seed=13)["adaptive", 1.0])
    assert max(ratio for _, ratio in facts["adaptive"]["tried"]) == 1


def test_images_that_do_not_choose_do_not_matter(task, planted):
    table = built(task, planned(task, seed=14)["real", 0.0])[1]
    other = table.assign(score=table["score"].where(table["partition"] == "choosing", 0.5))
    assert np.array_equal(adaptive.validated(table), adaptive.validated(other))
    part = table[table["partition"] == "choosing"]
    found = metrics.score(part["label"], part["score"], None)["pr_auc"]
    assert adaptive.validated(table)[0] == pytest.approx(found)
    assert len(adaptive.validated(table)) == replayed.REPLICATES + 1
