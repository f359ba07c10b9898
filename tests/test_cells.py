import types

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from fsl_utils import StudyError, cells, params, partitions, store


def settings(**given):
    return types.SimpleNamespace(**{name: params.default(name) for name in params.TABLE} | given)


def test_probe_cells_on_real_data(elpv, draw, tmp_path):
    p = settings(arms=["real", "duplicate", "augment", "real_more"], ratios=[0.5, 1.0])
    rows = list(cells.run(elpv, draw, p))
    assert [(r["arm"], r["ratio"]) for r in rows] == [("real", 0), ("duplicate", 0.5), ("duplicate", 1), ("augment", 0.5), ("augment", 1), ("real_more", 0.5), ("real_more", 1)]
    by = {(r["arm"], r["ratio"]): r for r in rows}
    assert by["duplicate", 1]["pr_auc"] == pytest.approx(by["real", 0]["pr_auc"], abs=1e-3)
    assert all(r["pr_auc"] > r["prevalence"] for r in rows)

    table = cells.gather([r["cell"] for r in rows], tmp_path)
    assert list(table.columns) == cells.COLUMNS and len(table) == 7
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert list(scores.columns) == ["cell", "image", "group", "partition", "label", "score"] and set(scores["partition"]) == {"choosing", "validation"}
    one = scores[scores["cell"] == by["real", 0]["cell"]]
    assert average_precision_score(one["label"], one["score"]) == pytest.approx(by["real", 0]["pr_auc"])
    assert set(one["image"]) == set(elpv.table["image"].iloc[draw.validation])

    first = (tmp_path / "cells.csv").read_bytes(), (tmp_path / "scores.parquet").read_bytes()
    cells.gather([r["cell"] for r in rows][::-1], tmp_path)
    assert ((tmp_path / "cells.csv").read_bytes(), (tmp_path / "scores.parquet").read_bytes()) == first


def test_finished_cells_are_not_trained_again(elpv, draw, monkeypatch):
    p = settings(arms=["real"])
    before = list(cells.run(elpv, draw, p))
    monkeypatch.setattr(cells, "_build", None)
    assert list(cells.run(elpv, draw, p)) == before


def test_a_damaged_cell_is_refused_by_gather_and_made_again_by_run(elpv, draw, tmp_path):
    p = settings(arms=["duplicate"], ratios=[2.0])
    row = next(cells.run(elpv, draw, p))
    path = store.root() / "cell" / row["cell"] / "scores.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StudyError, match="run the grid again"):
        cells.gather([row["cell"]], tmp_path)
    with pytest.warns(UserWarning, match="damaged"):
        again = next(cells.run(elpv, draw, p))
    assert {k: v for k, v in again.items() if k != "train_seconds"} == {k: v for k, v in row.items() if k != "train_seconds"}


def test_on_test_the_threshold_comes_from_validation_alone(elpv, draw, tmp_path):
    row = next(cells.run(elpv, draw, settings(arms=["real"], evaluate_on="test")))
    assert row["n_test"] == len(elpv.rows("test")) and row["evaluated_on"] == "test"
    cells.gather([row["cell"]], tmp_path)
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    chosen = scores[scores["partition"] == "choosing"]
    assert set(chosen["image"]) == set(elpv.table["image"].iloc[draw.choosing])
    assert chosen["label"].sum() <= len(draw.shots) // 2 and row["threshold"] in set(chosen["score"])
    tested = scores[scores["partition"] == "test"]
    assert average_precision_score(tested["label"], tested["score"]) == pytest.approx(row["pr_auc"])


def test_keys_depend_on_what_matters_and_on_nothing_else(elpv, draw):
    def keys(**given):
        chosen = partitions.draw(elpv.table, given.pop("draw", 0), 40)
        return [store.key("cell", c) for c in cells.plan(elpv, chosen, settings(arms=["real", "lora"], ratios=[1.0], **given))]

    base = keys()
    assert keys(device="cpu") == base
    assert not set(keys(seed=1)) & set(base) and not set(keys(draw=1)) & set(base) and not set(keys(evaluate_on="test")) & set(base)
    other = keys(guidance=2.0)  # reaches only the arm with a pool
    assert other[0] == base[0] and other[1] != base[1]


def test_the_probe_refuses_scratch(elpv, draw):
    with pytest.raises(StudyError, match="init is 'scratch'"):
        cells.plan(elpv, draw, settings(init="scratch"))


def test_resnet_cells(elpv, draw):
    p = settings(arms=["real", "crt"], ratios=[1.0], classifier="resnet18", init="scratch", classifier_steps=2)
    rows = list(cells.run(elpv, draw, p))
    assert len(rows) == 2 and all(np.isfinite(r["pr_auc"]) for r in rows) and rows[0]["classifier"] == "resnet18"
