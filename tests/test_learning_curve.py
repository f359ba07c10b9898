"""The learning curve: one cell a point, kept between calls."""

import pandas as pd

from fsl_utils import classifiers, learning_curve


def test_points_are_cells_of_their_own_and_stay_in_the_table(tmp_path, own_store, monkeypatch):
    asked = [
        "elpv",
        "--draws",
        "0",
        "--sizes",
        "16",
        "--out",
        str(tmp_path / "curve"),
        "--device",
        "cpu",
        "--steps",
    ]
    learning_curve.main([*asked, "1", "3"])
    learning_curve.main([*asked, "2"])
    table = pd.read_csv(tmp_path / "curve" / "curve.csv")
    assert (
        list(table["steps"]) == [1, 2, 3]
        and table["cells"].is_unique
        and (table["image_size"] == 16).all()
    )
    assert table["pr_auc"].between(0, 1).all() and table["pr_auc"].nunique() == 3
    assert (tmp_path / "curve" / "curve.png").is_file()

    before = table.to_csv()
    monkeypatch.setattr(classifiers, "train_resnet", None)  # nothing is trained a second time
    learning_curve.main([*asked, "1", "2", "3"])
    assert pd.read_csv(tmp_path / "curve" / "curve.csv").to_csv() == before
