"""Classifiers beside one another: paired over draws, one family of tests a task."""

import numpy as np
import pandas as pd
import pytest
import simulate
from sklearn.metrics import average_precision_score

from fsl_utils.analysis import classifiers
from fsl_utils.figures import headlines, result_tables


@pytest.fixture(scope="module")
def study():
    """The probe; the same scores under another name; and scores without skill."""
    cells, scores = simulate.study(arms={("real", 0.0): 1.0}, classifier="probe")
    tables, scored = [cells], [scores]
    for name, change in (("whitened", lambda s: s), ("padim", lambda s: np.roll(s, 57))):
        renamed = dict(zip(cells["cell"], cells["cell"].str[::-1] + name))
        tables.append(cells.assign(classifier=name, cell=cells["cell"].map(renamed)))
        scored.append(
            scores.assign(cell=scores["cell"].map(renamed), score=change(scores["score"]))
        )
    return pd.concat(tables, ignore_index=True), pd.concat(scored, ignore_index=True)


@pytest.fixture(scope="module")
def rows(study):
    return classifiers.compare(*study).set_index("classifier")


def test_levels_are_the_means_over_draws(study, rows):
    cells, scores = study
    scores = scores[scores["partition"] == "test"]
    for name, part in cells.groupby("classifier"):
        values = [
            average_precision_score(
                *scores.loc[scores["cell"] == cell, ["label", "score"]].T.values
            )
            for cell in part["cell"]
        ]
        assert rows.loc[name, "level"] == pytest.approx(np.mean(values), abs=1e-9)
        assert rows.loc[name, "sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-9)


def test_the_same_scores_do_not_differ_and_no_skill_is_worse(rows):
    assert rows.loc["whitened", "difference"] == 0 and rows.loc["whitened", "p"] == 1
    assert rows.loc["padim", "verdict"] == "worse" and rows.loc["padim", "high"] < 0
    assert np.isnan(rows.loc["probe", "difference"])


def test_the_table_and_its_headline_name_them(rows):
    rows = rows.reset_index()
    shown = result_tables.classifiers(rows)
    assert shown.cells.iloc[:, 0].tolist() == [f"{name}, real" for name in rows["classifier"]]
    assert shown.bold.iloc[:, 1].sum() == 1
    assert "padim" in headlines.classifiers(rows) and "whitened" not in headlines.classifiers(rows)


def test_arms_with_a_pool_stand_elsewhere_and_one_draw_has_no_spread(study):
    cells, scores = (part.copy() for part in study)
    one = cells[cells["draw"] == cells["draw"].min()]
    synthetic = one.index[one["classifier"] == "padim"]
    one = one.assign(arm=one["arm"].astype(object), pool=one["pool"].astype(object))
    one.loc[synthetic, ["arm", "pool"]] = ["lora", "f" * 64]
    rows = classifiers.compare(one, scores[scores["cell"].isin(one["cell"])])
    assert set(rows["classifier"]) == {"probe", "whitened"}
    assert "()" not in result_tables.classifiers(rows).markdown()


def test_without_another_classifier_there_is_nothing_to_compare():
    assert classifiers.compare(*simulate.study(arms={("real", 0.0): 1.0})).empty
