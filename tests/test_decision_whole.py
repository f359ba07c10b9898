"""The whole way of a decision on real images, through the network."""

import json
import shutil

import numpy as np
import pytest

from fsl_utils.__main__ import main
from fsl_utils.decision import intake, prediction, synthesis, takeaway
from fsl_utils.decision.seen import Seen


@pytest.mark.slow
def test_the_whole_way_on_a_small_real_folder(elpv, tmp_path, own_store):
    """Development cells as a plain folder, through the network."""
    table = elpv.table[elpv.table["partition"] == "development"]
    root = tmp_path / "cells"
    for label, name, n in ((1, "defective", 30), (0, "fine", 70)):
        (root / name).mkdir(parents=True)
        rows = table[table["label"] == label].groupby("group").head(n // 15)
        for group, path in zip(rows["group"], rows["path"]):
            target = root / name / f"{group}_{path.rsplit('/', 1)[1]}"
            shutil.copy(path, target)
    out = tmp_path / "out"
    asked = ["decide", str(root), "--rare", "defective", "--group", "^(.+?)_", "--quick"]
    assert main([*asked, "--out", str(out)]) == 0
    record = json.loads((out / "decision.json").read_text())
    assert record["score"]["value"] > record["no_skill"]
    assert {row["name"] for row in record["table"]} == {
        "probe", "whitened", "augment", "mahalanobis", "patch_probe",
    }  # fmt: skip
    model = prediction.Model(out / "export/model")
    names, _ = prediction.looked_at(root, model)
    assert len(model.predict([root / name for name in names])) == len(names)
    assert model.card["format"] == takeaway.FORMAT


@pytest.mark.slow
def test_the_synthetic_way_learns_from_its_training_part_alone(own_store):
    """Two steps of an adapter: the pictures are noise, their number, labels and weights are not."""
    taken = intake.demonstration()
    seen = Seen(taken.domain, 64)
    way = synthesis.way(adapter_steps=2, ratio=1)
    rare, common = (np.flatnonzero(seen.labels == label)[:20] for label in (1, 0))
    rows = np.concatenate([rare, common])
    task = synthesis.task(seen, rows)
    assert set(task.draw.shots) == set(rare) and set(task.draw.common) == set(common)
    assert not len(task.draw.validation) and not len(task.draw.more)
    scores = way.scores(seen, rows, np.arange(len(seen.labels)))
    assert scores.shape == seen.labels.shape and np.isfinite(scores).all()
    origin, pixels, labels, weights = way.added(seen, rows)
    assert origin == "synthetic" and pixels.shape == (40, 1, 64, 64) and labels.sum() == 20
    assert weights.tolist() == [1.0] * 40  # a half of the rare class's weight, as many as shots
    made, nearest = synthesis.examples(seen, rows, 4, way.settings["synthesis"])
    assert made.shape == nearest.shape == (4, 1, 64, 64)


def test_painted_rare_images_carry_their_share_of_the_class_whatever_their_number():
    real, painted = np.repeat([1, 0], [10, 30]), np.repeat([1, 0], [40, 40])
    weights = synthesis.weights_beside(real, painted, synthesis.SETTINGS | {"weight": 0.25})
    rare = weights[painted == 1].sum()
    assert rare / (rare + real.sum()) == pytest.approx(0.25)
    assert (weights[painted == 0] == 1).all()


def test_both_classes_are_painted_by_an_adapter_that_saw_both(monkeypatch, own_store):
    """The base alone would paint X-rays and tiles as anybody's common class."""
    monkeypatch.setattr(synthesis.finetuning, "train", lambda adapter, device: [])
    seen = Seen(intake.demonstration().domain, 64)
    rare, common = synthesis.pools(seen, np.arange(len(seen.labels)), synthesis.SETTINGS)
    assert [label for _, label, _ in (rare, common)] == [1, 0]
    assert rare[0].adapter is common[0].adapter and common[0].common
    assert rare[0].adapter.settings.prior > 0
