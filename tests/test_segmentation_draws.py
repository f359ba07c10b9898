"""Segmentation over draws: the table grows draw by draw, and what is in it is not made again."""

import numpy as np
import pandas as pd
import pytest

from fsl_utils import StudyError
from fsl_utils.classifier import segmentation
from fsl_utils.study import segmentation as command

DICE = {"real": 0.5, "drawn": 0.6, "synthetic": 0.55, "synth_only": 0.3}


@pytest.fixture
def made(monkeypatch, pv_cracks_data, own_store):
    """No adapter is trained; Dice is planted, with the noise of a draw that all arms share."""
    scored = []

    def compare(pool, n):
        scored.append(pool.task.draw.number)
        noise = np.random.default_rng(scored[-1]).normal(0, 0.1)
        rows = [
            {"arm": arm, "draw": scored[-1], "dice": dice + noise, "pixel_ap": dice, "images": 9}
            for arm, dice in DICE.items()
        ]
        return pd.DataFrame(rows).assign(groups=5)

    monkeypatch.setattr(segmentation, "compare", compare)
    monkeypatch.setattr(command.finetuning, "train", lambda *_: iter(()))
    return scored


def run(out, draws):
    command.main(["pv_cracks", "--draws", str(draws), "--shots", "4", "--out", str(out)])


def test_a_second_run_scores_new_draws_alone(made, tmp_path):
    run(tmp_path / "marks", 2)
    first = pd.read_csv(tmp_path / "marks.csv")
    run(tmp_path / "marks", 3)
    again = pd.read_csv(tmp_path / "marks.csv")
    changes = (tmp_path / "marks_compared.csv").read_bytes()
    run(tmp_path / "marks", 3)
    assert (tmp_path / "marks_compared.csv").read_bytes() == changes
    assert made == [0, 1, 2] and len(again) == 12
    pd.testing.assert_frame_equal(again[:8], first)


def test_other_shots_are_another_table(made, tmp_path):
    run(tmp_path / "marks", 1)
    command.main(["pv_cracks", "--draws", "1", "--shots", "5", "--out", str(tmp_path / "marks")])
    assert made == [0, 0] and set(pd.read_csv(tmp_path / "marks.csv")["n_real"]) == {5}


def test_another_table_is_not_written_over(made, tmp_path):
    (tmp_path / "marks.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StudyError, match=r"marks\.csv is not a table of this command.*--out"):
        run(tmp_path / "marks", 1)
    assert (tmp_path / "marks.csv").read_text() == "a,b\n1,2\n"


def test_arms_are_compared_on_the_same_draws(made, tmp_path):
    """The noise that arms of a draw share is gone, and ten draws show a planted difference."""
    run(tmp_path / "marks", 10)
    rows = pd.read_csv(tmp_path / "marks_compared.csv").set_index(["measure", "minus", "arm"])
    dice = rows.loc["dice"]
    for minus, arm in [("real", "drawn"), ("real", "synth_only"), ("drawn", "synthetic")]:
        row = dice.loc[minus, arm]
        assert row["difference"] == pytest.approx(DICE[arm] - DICE[minus], abs=1e-4)
        assert row["verdict"] == ("more" if DICE[arm] > DICE[minus] else "less")
    assert len(dice.loc["real"]) == 3 and len(dice.loc["drawn"]) == 1
