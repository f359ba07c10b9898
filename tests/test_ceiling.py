"""What of the ceiling is reached, by ways that validation chooses: on simulated studies."""

import numpy as np
import pandas as pd
import pytest
import simulate
from sklearn.metrics import average_precision_score

from fsl_utils.analysis import ceiling
from fsl_utils.analysis.ways import Way
from fsl_utils.study import ceiling as command

KEYS = [("real", 0.0), ("duplicate", 4.0), ("lora", 4.0), ("real_more", 1.0), ("real_more", 4.0)]


def folds(gains, draws=1, seed=0, classifiers=("probe", "whitened"), **setting):
    """Cells and scores by two classifiers, alike but for noise: a strength an entry of KEYS."""
    arms = dict(zip(KEYS, gains))
    parts = [
        simulate.study(
            arms=arms, draws=draws, seed=seed, evaluated_on="fold", classifier=name, **setting
        )
        for name in classifiers
    ]
    return tuple(pd.concat(tables, ignore_index=True) for tables in zip(*parts))


@pytest.fixture(scope="module")
def half():
    """A synthetic arm halfway to the ceiling, a free one that is no better than the shots."""
    return folds([0.0, 0.0, 1.5, 1.0, 3.0], draws=2)


def test_each_role_takes_what_it_may(half):
    taken = ceiling.chosen(*half)
    of_role = {role: set(part["way"]) for role, part in taken.groupby("arm")}
    arms = {role: {Way.of(name).arm for name in names} for role, names in of_role.items()}
    assert arms["shots"] == {"real"} and arms["ceiling"] == {"real_more"}
    assert arms["synthetic"] == {"lora"} and arms["free"] <= {"real", "duplicate"}
    assert (taken.loc[taken["arm"] == "ceiling", "way_ratio"] == 4).all()
    assert (taken.groupby(["draw", "fold"])["arm"].nunique() == 4).all() and len(taken) == 40


def test_validation_chooses_and_test_does_not(half):
    """Of all that a role may take, the best on the choosing images by scikit-learn's AP, to
    within the tie; what is on test can be anything."""
    cells, scores = half
    taken = ceiling.chosen(cells, scores)
    upside_down = scores.assign(
        score=scores["score"].where(scores["partition"] == "choosing", 1 - scores["score"])
    )
    again = ceiling.chosen(cells, upside_down)
    pd.testing.assert_series_equal(taken["cell"], again["cell"])
    chose = scores[scores["partition"] == "choosing"].groupby("cell")
    value = pd.Series({k: average_precision_score(g["label"], g["score"]) for k, g in chose})
    lora = cells[cells["arm"] == "lora"].assign(value=cells["cell"].map(value))
    best = lora.groupby(["draw", "fold"])["value"].max()
    ours = taken[taken["arm"] == "synthetic"].set_index(["draw", "fold"])["cell"].map(value)
    assert (ours.sort_index() >= best - 0.002 - 1e-12).all()


def test_a_share_is_the_ratio_of_two_mean_gains(half):
    cells, scores = half
    taken = ceiling.chosen(cells, scores)
    rows = ceiling.shares(ceiling.valued(taken, scores), taken).set_index("arm")
    mean = taken.groupby("arm")["pr_auc"].mean()
    expected = (mean - mean["shots"]) / (mean["ceiling"] - mean["shots"])
    np.testing.assert_allclose(rows["share"], expected[rows.index])
    assert rows.loc["ceiling", ["share", "share_low", "share_high"]].tolist() == [1, 1, 1]
    first = taken[taken["draw"] == 0]
    one = ceiling.shares(ceiling.valued(first, scores), first).set_index("arm").loc["synthetic"]
    assert one["share_low"] < one["share"] < one["share_high"]


def test_without_room_there_is_no_share():
    cells, scores = folds([0.0, 0.0, 0.0, 0.0, 0.0])
    taken = ceiling.chosen(cells, scores)
    rows = ceiling.shares(ceiling.valued(taken, scores), taken)
    assert rows["share"].isna().all() and rows["share_low"].isna().all()


def test_the_synthetic_role_beside_the_free_one(half):
    cells, scores = half
    taken = ceiling.chosen(cells, scores)
    row = ceiling.rivals(ceiling.valued(taken, scores))
    mean = taken.groupby("arm")["pr_auc"].mean()
    assert row["difference"] == pytest.approx(mean["synthetic"] - mean["free"])
    free = taken[taken["arm"] != "synthetic"]
    assert ceiling.rivals(ceiling.valued(free, scores)) == {}


def test_hindsight_takes_the_best_mean_of_all_folds(half):
    cells, scores = half
    best = ceiling.hindsight(cells, scores).set_index("arm")
    lora = cells[cells["arm"] == "lora"].groupby("classifier")["pr_auc"].mean()
    assert Way.of(best.loc["synthetic", "way"]).classifier == lora.idxmax()
    assert best.loc["synthetic", "level"] == pytest.approx(lora.max())


def test_a_way_that_lacks_a_fold_is_not_chosen(half):
    cells, scores = half
    lost = (cells["classifier"] == "probe") & (cells["arm"] == "lora") & (cells["fold"] == "3")
    taken = ceiling.chosen(cells[~lost], scores)
    ours = taken[taken["arm"] == "synthetic"]
    assert {Way.of(name).classifier for name in ours["way"]} == {"whitened"}


def test_the_page_says_how_many_tasks_reach_the_goal(tmp_path):
    """One task in which synthesis reaches nearly all, one in which it reaches nothing."""
    near = folds([0.0, 0.0, 3.0, 1.0, 3.0])
    far = folds([0.0, 0.0, 0.0, 1.0, 3.0], domain="magnetic_tile", seed=3)
    tables = [pd.concat(parts, ignore_index=True) for parts in zip(near, far)]
    text = command.write([simulate.write(tmp_path / "in", *tables)], tmp_path / "out")
    said = text.splitlines()[2]
    assert "Of 2 tasks 80 further real images help in 2" in said and "75% of that in 1, " in said
    rows = pd.read_csv(tmp_path / "out" / "shares.csv")
    assert len(rows) == 6 and set(rows["domain"]) == {"elpv", "magnetic_tile"}
    for name in ("shares.png", "gains.png", "worth.csv", "rivals.csv", "hindsight.csv"):
        assert (tmp_path / "out" / name).is_file()
    assert (tmp_path / "out" / "out.md").read_text() == text
