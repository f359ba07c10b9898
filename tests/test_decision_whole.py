"""The whole way of a decision on real images, through the network."""

import json
import shutil

import pytest

from fsl_utils.__main__ import main
from fsl_utils.decision import prediction, takeaway


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
