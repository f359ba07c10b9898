import types

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

from fsl_utils import StudyError, params, store
from fsl_utils.classifier import cells, features, filters, models, plan, probe
from fsl_utils.data import domains, partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import regions, sampling
from fsl_utils.study import publish


def settings(**given):
    return types.SimpleNamespace(**{name: params.default(name) for name in params.TABLE} | given)


@pytest.fixture
def coarse(monkeypatch):
    """8 x 8 pixels stand for a network's features, in tests that ask nothing of the network."""

    def batches(pixels, device, view):
        pixels = torch.from_numpy(np.array(pixels)).float()
        yield torch.nn.functional.adaptive_avg_pool2d(pixels, 8).flatten(1).numpy()

    params = features.View.params
    monkeypatch.setattr(features, "batches", batches)
    monkeypatch.setattr(features.View, "params", lambda view: params(view) | {"coarse": True})


def test_probe_cells_on_real_data(task, tmp_path):
    p = settings(arms=["real", "duplicate", "augment", "real_more"], ratios=[0.5, 1.0])
    rows = list(cells.run(task, p))
    assert [(r["arm"], r["ratio"]) for r in rows] == [
        ("real", 0),
        ("duplicate", 0.5),
        ("duplicate", 1),
        ("augment", 0.5),
        ("augment", 1),
        ("real_more", 0.5),
        ("real_more", 1),
    ]
    by = {(r["arm"], r["ratio"]): r for r in rows}
    assert by["duplicate", 1]["pr_auc"] == pytest.approx(by["real", 0]["pr_auc"], abs=1e-3)
    assert all(r["pr_auc"] > r["prevalence"] for r in rows)

    table = cells.gather([r["cell"] for r in rows], tmp_path)
    assert list(table.columns) == cells.COLUMNS and len(table) == 7
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert list(scores.columns) == [
        "cell",
        "image",
        "group",
        "partition",
        "label",
        "score",
    ] and set(scores["partition"]) == {"choosing", "validation"}
    one = scores[scores["cell"] == by["real", 0]["cell"]]
    assert average_precision_score(one["label"], one["score"]) == pytest.approx(
        by["real", 0]["pr_auc"]
    )
    assert set(one["image"]) == set(task.domain.table["image"].iloc[task.draw.validation])

    first = (tmp_path / "cells.csv").read_bytes(), (tmp_path / "scores.parquet").read_bytes()
    cells.gather([r["cell"] for r in rows][::-1], tmp_path)
    assert (
        (tmp_path / "cells.csv").read_bytes(),
        (tmp_path / "scores.parquet").read_bytes(),
    ) == first
    read, scored = publish.of_cells([r["cell"] for r in rows])
    assert list(read["cell"]) == list(table["cell"]) and len(scored) == len(scores)


def test_finished_cells_are_not_trained_again(task, monkeypatch):
    p = settings(arms=["real"])
    before = list(cells.run(task, p))
    monkeypatch.setattr(cells, "_build", None)
    assert list(cells.run(task, p)) == before


def test_a_damaged_cell_is_refused_by_gather_and_made_again_by_run(task, tmp_path):
    p = settings(arms=["duplicate"], ratios=[2.0])
    row = next(cells.run(task, p))
    path = store.root() / "cell" / row["cell"] / "scores.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StudyError, match="run the grid again"):
        cells.gather([row["cell"]], tmp_path)
    with pytest.warns(UserWarning, match="damaged"):
        again = next(cells.run(task, p))
    assert {k: v for k, v in again.items() if k != "train_seconds"} == {
        k: v for k, v in row.items() if k != "train_seconds"
    }


def test_on_test_the_threshold_comes_from_validation_alone(task, tmp_path, coarse):
    row = next(cells.run(task, settings(arms=["real"], evaluate_on="test", seed=1)))
    assert row["n_test"] == len(task.domain.rows("test")) and row["evaluated_on"] == "test"
    cells.gather([row["cell"]], tmp_path)
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    chosen = scores[scores["partition"] == "choosing"]
    assert set(chosen["image"]) == set(task.domain.table["image"].iloc[task.draw.choosing])
    assert chosen["label"].sum() <= len(task.draw.shots) // 2 and row["threshold"] in set(
        chosen["score"]
    )
    tested = scores[scores["partition"] == "test"]
    assert average_precision_score(tested["label"], tested["score"]) == pytest.approx(row["pr_auc"])


def test_keys_depend_on_what_matters_and_on_nothing_else(task):
    def keys(**given):
        chosen = partitions.draw(task.domain.table, given.pop("draw", 0), 40)
        other = FewShotTask(task.domain, chosen)
        p = settings(arms=["real", "lora"], ratios=[1.0], **given)
        return [cell.key for cell in plan.cells(other, p)]

    base = keys()
    assert keys(device="cpu") == base
    assert (
        not set(keys(seed=1)) & set(base)
        and not set(keys(draw=1)) & set(base)
        and not set(keys(evaluate_on="test")) & set(base)
    )
    other = keys(guidance=2.0)  # reaches only the arm with a pool
    assert other[0] == base[0] and other[1] != base[1]


def test_the_key_of_a_filtered_cell_names_its_filter_and_no_other_does(task):
    def keys(**given):
        p = settings(arms=["real", "lora", "lora_filtered"], ratios=[1.0], **given)
        planned = plan.cells(task, p)
        assert [cell.arm for cell in planned] == ["real", "lora", "lora_filtered"]
        assert planned[1].pools["rare"].key == planned[2].pools["rare"].key
        return [cell.key for cell in planned]

    before, other = keys(), keys(filter_steps=7)
    assert other[:2] == before[:2] and other[2] != before[2]


def test_a_filtered_cell_trains_on_what_the_filter_keeps(task, monkeypatch):
    """The kept images are common cells, the dropped ones noise: fewer than wanted, and the manifest
    says so.
    """
    n, asked = len(task.draw.shots), []
    real = task.images(64)
    pool = np.random.default_rng(0).integers(0, 256, (100, 1, 64, 64), dtype=np.uint8)
    pool[5:80:3] = real[task.draw.common[:25]]
    reasons = np.where(np.isin(np.arange(100), np.arange(5, 80, 3)), "", "off_manifold")
    table = pd.DataFrame({"number": np.arange(2 * n), "reason": reasons[: 2 * n]})
    monkeypatch.setattr(
        sampling,
        "chunks",
        lambda wanted, n, *rest: (asked.append(i) or pool[i : i + 50] for i in range(0, n, 50)),
    )
    monkeypatch.setattr(
        filters, "until", lambda pool, wanted, *rest: iter([table[:50], table[50:]])
    )
    trained, plain = [], probe.fit
    monkeypatch.setattr(probe, "fit", lambda training: trained.append(training) or plain(training))
    row = next(cells.run(task, settings(arms=["lora_filtered"], ratios=[1.0])))
    facts = store.manifest(store.root() / "cell" / row["cell"])
    assert facts["filtered"] == {
        "wanted": n,
        "kept": 25,
        "copied": 0,
        "common": 0,
        "off_manifold": 2 * n - 25,
    }
    (training,) = trained
    x, y = training.inputs, training.labels
    known = features.of_domain(task.domain, 64, ("development",), view=probe.view(64), channels=1)
    # Whole chunks, so that their features serve every ratio.
    assert y.sum() == n + 25 and len(asked) == 2
    np.testing.assert_allclose(x[n : n + 25], known[task.draw.common[:25]], atol=1e-3)


def test_what_cannot_be_is_left_out_with_a_reason(task):
    p = settings(arms=["real", "paste", "real_more", "focal"], ratios=[1.0, 100.0])
    assert [(cell.arm, cell.ratio) for cell in plan.cells(task, p)] == [
        ("real", 0),
        ("real_more", 1),
    ]
    said = plan.left_out(task, p)
    assert [line.split(" is left out: ")[0] for line in said] == [
        "paste at 1x",
        "paste at 100x",
        "real_more at 100x",
        "focal at 0x",
    ]
    assert "elpv has no pixel masks" in said[0] and f"has {len(task.draw.more)}" in said[2]


def test_pasted_images_reach_both_classifiers(task, monkeypatch):
    pasted = np.random.default_rng(0).integers(0, 256, (20, 1, 64, 64), dtype=np.uint8)
    monkeypatch.setattr(domains.Domain, "has_masks", True)
    monkeypatch.setattr(regions, "paste", lambda task, size, seed, numbers: pasted[: len(numbers)])
    p = settings(arms=["paste"], ratios=[0.5])
    assert not plan.cells(task, p)[0].pools  # no adapter is needed
    sizes, plain = [], models.train_resnet
    monkeypatch.setattr(
        models,
        "train_resnet",
        lambda x, y, arm, **named: (
            sizes.append((len(x), int(y.sum()))) or plain(x, y, arm, **named)
        ),
    )
    resnet = settings(
        arms=["paste"], ratios=[0.5], classifier="resnet18", init="scratch", classifier_steps=1
    )
    rows = [*cells.run(task, p), *cells.run(task, resnet)]
    assert [r["arm"] for r in rows] == ["paste", "paste"] and sizes == [
        (60 + len(task.draw.common), 60)
    ]


def test_paste_on_tiles(data, coarse):
    tiles = domains.load("magnetic_tile")
    task = FewShotTask(tiles, partitions.draw(tiles.table, 0, 40))
    row = next(cells.run(task, settings(arms=["paste"], ratios=[0.5], seed=1)))
    assert row["arm"] == "paste" and row["pr_auc"] > row["prevalence"] and row["pool"] == ""


def test_the_probe_refuses_scratch(task):
    with pytest.raises(StudyError, match="init is 'scratch'"):
        plan.cells(task, settings(init="scratch"))


def test_resnet_cells(task):
    p = settings(
        arms=["real", "crt"],
        ratios=[1.0],
        classifier="resnet18",
        init="scratch",
        classifier_steps=2,
    )
    rows = list(cells.run(task, p))
    assert (
        len(rows) == 2
        and all(np.isfinite(r["pr_auc"]) for r in rows)
        and rows[0]["classifier"] == "resnet18"
    )


def test_cells_that_no_table_tells_apart_leave_the_old_table_as_it_is(task, tmp_path):
    """As `--add` with another number of steps would bring them."""

    def run_of(steps):
        asked = {"arms": ["real"], "classifier": "resnet18", "init": "scratch"}
        [row] = cells.run(task, settings(**asked, classifier_steps=steps))
        thing = {"things": [f"cell/{row['cell']}"]}
        return store.make("run", {"steps": steps}, lambda folder: thing)

    first, second = run_of(1), run_of(2)
    publish.tables([first], tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "tables").iterdir()}
    key = store.manifest(first)["things"][0].split("/")[1]
    with pytest.raises(StudyError, match="stays as it is.*have the same settings.*another --out"):
        publish.tables([second], tmp_path, kept={key})
    assert {path: path.read_bytes() for path in (tmp_path / "tables").iterdir()} == before
    with pytest.raises(StudyError, match="have the same settings"):
        publish.tables([first, second], tmp_path)
    publish.tables([second], tmp_path, replace=True)
    assert pd.read_csv(tmp_path / "tables" / "cells.csv")["cell"].tolist() != [key]
