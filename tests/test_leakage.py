"""What a split by image gives away, on simulated studies with a known gift."""

import numpy as np
import pandas as pd
import pytest
import simulate

from fsl_utils import StudyError
from fsl_utils.analysis import leakage
from fsl_utils.figures import leakage as pages
from fsl_utils.study import leakage as command

ALONE, EASIER = {("real", 0.0): 0.0}, {("real", 0.0): 1.5}


def split(protocol, arms=ALONE, draws=10, **setting):
    return simulate.study(arms=arms, draws=draws, protocol=protocol, **setting)


def together(*studies):
    return tuple(pd.concat(parts, ignore_index=True) for parts in zip(*studies))


def test_it_is_the_difference_of_the_means_over_common_draws():
    cells, scores = together(split("group", draws=3), split("image", draws=2, seed=1))
    row = leakage.given_away(cells, scores).iloc[0]
    mean = cells[cells["draw"] < 2].groupby("protocol")["pr_auc"].mean()
    assert row["n_draws"] == 2
    assert row["image"] == pytest.approx(mean["image"])
    assert row["gives_away"] == pytest.approx(mean["image"] - mean["group"])
    assert row["low"] < row["gives_away"] < row["high"]
    assert len(row["cells"].split(";")) == 4


def test_a_planted_gift_is_seen_and_none_is_not():
    gift = together(split("group"), split("image", EASIER, seed=1))
    none = together(split("group"), split("image", seed=1))
    seen, unseen = (leakage.given_away(*study).iloc[0] for study in (gift, none))
    assert seen["low"] > 0 and unseen["low"] < 0 < unseen["high"]


def test_settings_with_one_split_have_no_row():
    assert leakage.given_away(*split("group", draws=2)).empty
    other = together(split("group", draws=2), split("image", draws=2, classifier="whitened"))
    assert leakage.given_away(*other).empty


def test_page_and_figure_name_every_classifier(tmp_path):
    study = together(
        *(
            split(protocol, draws=2, classifier=name)
            for protocol in ("group", "image")
            for name in ("probe", "whitened")
        )
    )
    for protocol in ("group", "image"):
        cells, scores = (part.copy() for part in study)
        cells = cells[cells["protocol"] == protocol]
        simulate.write(tmp_path / protocol, cells, scores[scores["cell"].isin(cells["cell"])])
    page = command.write([tmp_path / "group", tmp_path / "image"], tmp_path / "out")
    assert (tmp_path / "out" / "leakage.md").read_text() == page
    assert page.count("elpv: defective") == 2 and "whitened" in page
    assert (tmp_path / "out" / "leakage.png").stat().st_size > 5000
    with pytest.raises(StudyError, match="both by image and by group"):
        command.write([tmp_path / "group"], tmp_path / "out")


def test_each_line_of_the_figure_runs_from_group_to_image():
    rows = leakage.given_away(*together(split("group", draws=2), split("image", draws=2, seed=1)))
    axis = pages.figure(rows).axes[0]
    (segment,) = axis.collections[0].get_segments()
    assert np.allclose(sorted(segment[:, 0]), sorted(rows[["group", "image"]].iloc[0]))
