"""The paper's table beside ours: what was run, what was not, and what a threshold alone does."""

import numpy as np
import pandas as pd
import pytest
import simulate
from scipy.special import expit, logit

from fsl_utils import metrics
from fsl_utils.analysis import paper
from fsl_utils.figures import paper as pages
from fsl_utils.study import grid, notebooks, paper_table

CRACKS = {"domain": "magnetic_tile", "rare_class": "crack", "classifier": "resnet18"}
ARMS = {("real", 0.0): 0.0, ("lora", 0.5): 0.5, ("lora", 4.0): 0.5, ("synth_only", 20.0): -0.5}


def study(draws=3, arms=ARMS, **setting):
    return simulate.study(arms=arms, draws=draws, **(CRACKS | {"init": "scratch"} | setting))


@pytest.fixture(scope="module")
def folds():
    return study(2, evaluated_on="fold", protocol="image")


def test_a_line_is_the_mean_over_folds_and_draws_and_the_paper_stands_first(folds):
    rows = paper.table(folds[0])
    first = rows.iloc[0]
    assert first["source"] == "paper" and (first["f1"], first["recall"]) == (0.051, 0.063)
    ours = rows[(rows["source"] == "here") & rows["arm"].notna()].set_index(["arm", "ratio"])
    for key, part in folds[0].groupby(["arm", "ratio"]):
        assert len(part) == 10
        for name in paper.VALUES:
            assert ours.loc[key, name] == pytest.approx(part[name].mean())


def test_what_was_not_run_says_so(folds):
    made = pages.beside(paper.table(folds[0])).cells
    made = made.set_index(["task", "split by", "classifier"]).sort_index()
    ours = made.loc[("magnetic_tile: crack", "image")]
    line = next(row for name, row in ours.iterrows() if name.startswith("resnet18 from scratch"))
    assert line["0x"].count(" / ") == 2 and line["2x"] == "not run"
    assert line["synthetic alone"].endswith("(20x)")
    for absent in (
        ("magnetic_tile: crack", "group", "resnet18"),
        ("magnetic_tile: crack", "image", "finetuned"),
        ("chestxray14: Effusion", "group", "finetuned"),
    ):
        assert (made.loc[absent] == "not run").all()
    assert ("magnetic_tile: crack", "image", "resnet18") not in made.index
    reported = made.loc[("chestxray14: Effusion", "image", "paper: resnet18, ImageNet, five folds")]
    assert reported["4x"] == ".686 / .677 / .744" and reported["2x"] == "not at hand"


def test_studies_are_never_averaged(folds):
    other = study(2, n_real=10)
    rows = paper.table(pd.concat([folds[0], other[0]]))
    ours = rows[(rows["arm"] == "real") & (rows["source"] == "here")]
    assert sorted(zip(ours["n_real"], ours["protocol"])) == [(10, "group"), (20, "image")]


def shifted(cells, scores, by=3.0):
    """lora's scores as those of `real`, each logit moved up: the ranking stays."""
    frames = []
    for _, here in cells.groupby("draw"):
        by_arm = here.set_index(["arm", "ratio"])["cell"]
        real = scores[scores["cell"] == by_arm["real", 0.0]]
        moved = real.assign(cell=by_arm["lora", 4.0], score=expit(logit(real["score"]) + by))
        frames += [real, moved]
    scores = pd.concat(frames)
    columns = [*metrics.METRICS, "threshold"]
    for cell, part in scores.groupby("cell"):
        chosen, tested = (part[part["partition"] == name] for name in ("choosing", "test"))
        cut = metrics.choose_threshold(chosen["label"], chosen["score"])
        found = metrics.score(tested["label"], tested["score"], cut)
        cells.loc[cells["cell"] == cell, columns] = [found[name] for name in columns]
    return cells, scores


def test_a_shift_of_scores_moves_what_is_cut_at_one_half_and_nothing_else():
    cells, scores = study(3, {("real", 0.0): 0.0, ("lora", 4.0): 0.0})
    found = paper.parted(*shifted(cells.copy(), scores)).set_index("quantity")["difference"]
    assert found["recall at .5"] > 0.1
    assert found["PR-AUC"] == pytest.approx(0, abs=1e-12)
    assert found["F1, each with its own threshold"] == pytest.approx(0, abs=1e-12)


def test_the_page_counts_a_cell_once_however_many_folders_hold_it(tmp_path):
    cells, scores = study(2)
    for name in "ab":
        simulate.write(tmp_path / name, cells, scores)
    page = paper_table.write([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert page == paper_table.write([tmp_path / "a"], tmp_path / "once")
    assert (tmp_path / "out" / "paper_table.md").read_text() == page
    assert "From 0x to 4x F1 at .5" in page and "paper: crack" in page
    rows = pd.read_csv(tmp_path / "out" / "paper_table.csv")
    assert list(rows.columns) == [*paper.ROW, "arm", "ratio", *paper.VALUES, "n_draws"]
    assert np.isfinite(rows.loc[rows["source"] == "paper", "f1"]).all()


def test_the_grid_asks_five_folds_of_either_split_and_every_line_of_the_table():
    _, runs = grid.read(notebooks.FOLDER / "grids" / "paper_protocol.yaml")
    asked = {(r["rare_class"], r["protocol"], r["classifier"], r["fold"]) for r in runs}
    tasks = paper.reported()["rare_class"].unique()
    assert asked == {(t, *one, f) for t in tasks for one in paper.ASKED for f in range(5)}
    for run in runs:
        assert run["evaluate_on"] == "fold" and set(run["arms"]) >= set(paper.ARMS)
        assert tuple(run["ratios"]) == paper.RATIOS


def test_the_figure_has_the_papers_values_beside_ours(folds):
    rows = paper.parted(*folds)
    axes = dict(zip(paper.PARTED.values(), pages.figure(rows).axes))
    theirs = paper.reported().query("rare_class == 'crack'").set_index("ratio")
    rise = theirs.loc[4, "f1"] - theirs.loc[0, "f1"]
    drawn = {float(line.get_xdata()[0]) for line in axes["F1 at .5"].lines}
    assert rise in drawn
    for row in rows.to_dict("records"):
        points = {float(line.get_xdata()[0]) for line in axes[row["quantity"]].lines}
        assert row["difference"] in points
    own = [
        line for line in axes["F1, each with its own threshold"].lines if line.get_marker() == "x"
    ]
    assert not own  # the paper has no such figure


@pytest.fixture(scope="module")
def both():
    """A gain by image that is none by group."""
    planted = (("image", 1.2), ("group", 0.0))
    parts = [
        study(2, {("real", 0.0): 0.0, ("lora", 4.0): gain}, evaluated_on="fold", protocol=split)
        for split, gain in planted
    ]
    return tuple(pd.concat(frames, ignore_index=True) for frames in zip(*parts))


def test_what_images_add_stands_by_split(both):
    rows = paper.added(*both).set_index("protocol")
    means = both[0].groupby(["protocol", "arm"])["pr_auc"].mean()
    for split in ("image", "group"):
        assert rows.loc[split, "control_level"] == pytest.approx(means[split, "real"])
        gained = means[split, "lora"] - means[split, "real"]
        assert rows.loc[split, "difference"] == pytest.approx(gained)
    assert rows.loc["image", "low"] > 0 > rows.loc["group", "low"]
    line = pages.added(paper.added(*both)).cells.iloc[1]
    assert line["arm"] == "lora 4x" and line["by image"].startswith("+")
    assert line["by image"] != line["by group"]
    assert paper.added(*study(2)).empty  # no outer fold
    alone = both[0][both[0]["arm"] == "lora"]
    assert paper.added(alone, both[1][both[1]["cell"].isin(alone["cell"])]).empty  # no `real`


def test_the_figure_has_a_mark_a_split(both):
    rows = paper.added(*both)
    (axis,) = pages.splits(rows).axes
    drawn = {float(x) for line in axis.lines for x in line.get_xdata()}
    assert set(rows["difference"]) <= drawn
    assert [text.get_text() for text in axis.get_yticklabels()] == ["lora 4x"]
