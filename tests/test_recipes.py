"""Ways of training on the same images, on simulated tables with a planted gain."""

import pandas as pd
import pytest
import simulate

from fsl_utils.analysis import recipes
from fsl_utils.analysis.resampling import resample
from fsl_utils.study import recipes as command

ARMS = {"real": 0.3, "lora": 0.3, "synth_both": 0.3, "contrastive_real": 0.3, "anneal": 0.3}
ARMS |= {"grow": 1.5, "grow_any": 0.3, "contrastive": 0.3}
KEYS = {(arm, 0.0 if "real" in arm else 4.0): skill for arm, skill in ARMS.items()}


@pytest.fixture(scope="module")
def tables():
    return simulate.study(arms=KEYS, draws=10)


@pytest.fixture(scope="module")
def verdicts(tables):
    return recipes.verdicts([resample(*tables)])


def test_each_question_is_a_family_of_its_pairs(verdicts):
    for question, part in verdicts.groupby("question"):
        assert list(zip(part["arm"], part["control"])) == recipes.QUESTIONS[question]
    assert set(verdicts["question"]) == set(recipes.QUESTIONS) - {"covering", "synthesis"}


def test_a_planted_gain_is_shown_beside_both_rivals_and_nothing_else(verdicts):
    shown = verdicts[verdicts["verdict"] == "better"]
    assert set(zip(shown["arm"], shown["control"])) == {("grow", "lora"), ("grow", "grow_any")}


def test_what_was_not_run_is_left_out(tables):
    cells, scores = tables
    part = cells[cells["arm"] != "grow_any"]
    rows = recipes.verdicts([resample(part, scores[scores["cell"].isin(part["cell"])])])
    assert ("grow", "grow_any") not in set(zip(rows["arm"], rows["control"]))
    alone = cells[cells["arm"] == "real"]
    assert recipes.verdicts([resample(alone, scores[scores["cell"].isin(alone["cell"])])]).empty


def test_the_page_names_what_is_shown(tables, tmp_path):
    text = command.write([simulate.write(tmp_path / "in", *tables)], tmp_path / "out")
    assert "2 of 6 differences are shown: grow 4x minus lora 4x with probe on" in text
    rows = pd.read_csv(tmp_path / "out" / "rivals.csv")
    assert len(rows) == 6 and (tmp_path / "out" / "gains.png").is_file()
    assert (tmp_path / "out" / "out.md").read_text() == text
