"""Reading results: which cells may be averaged, and which edits and damages are noticed."""

import pandas as pd
import pytest
import simulate

from fsl_utils import ROOT, StudyError
from fsl_utils.analysis import resampling, tables


@pytest.mark.parametrize(
    "column, values",
    [
        ("protocol", ("group", "image")),
        ("image_size", (64, 128)),
        ("base", ("0123456789ab", "ba9876543210")),
        ("n_real", (20, 40)),
        ("evaluated_on", ("test", "validation")),
        ("classifier", ("probe", "resnet18")),
        ("domain", ("elpv", "tiles")),
    ],
)
def test_cells_that_differ_are_never_averaged(few, column, values):
    cells, scores = few
    mixed = cells.copy()
    mixed.loc[mixed["draw"] == 1, column] = values[1]
    if column == "base":
        mixed.loc[mixed["arm"].isin(["real", "duplicate"]), column] = ""
    with pytest.raises(StudyError, match=column):
        resampling.resample(mixed, scores)
    parts = tables.split_studies(mixed)
    assert len(parts) == 2 and all(tables.setting(part)[column] in values for part in parts)


def test_plain_arms_belong_to_every_pool_setting(few):
    cells, _ = few
    other = cells[cells["base"] != ""].assign(mode="image")
    parts = tables.split_studies(pd.concat([cells, other]))
    assert [part["arm"].eq("real").sum() for part in parts] == [20, 20]
    assert [tables.setting(part)["mode"] for part in parts] == ["image", "text"]


def test_tables_read_back_as_written(few, tmp_path):
    cells, scores = few
    read_cells, read_scores = tables.read_results(simulate.write(tmp_path, cells, scores))
    pd.testing.assert_frame_equal(read_cells, cells, check_dtype=False)
    assert (read_scores["score"].to_numpy() == scores["score"].to_numpy()).all()


def test_tables_published_before_a_column_was_added_are_read(few, tmp_path):
    cells, scores = few
    before = cells.drop(columns=[*tables.ADDED_COLUMNS, "classifier_size"])
    read_cells, _ = tables.read_results(simulate.write(tmp_path, before, scores))
    pd.testing.assert_frame_equal(read_cells, cells, check_dtype=False)


def test_an_arm_with_another_weight_is_another_arm_of_the_study_alone(few, tmp_path):
    cells, scores = few
    other = cells[cells["arm"] == "lora_filtered"].assign(synthetic_weight=0.5)
    names = dict(zip(other["cell"], other["cell"].map(simulate.hexed)))
    twins = scores[scores["cell"].isin(names)]
    both = pd.concat([cells, other.assign(cell=other["cell"].map(names))], ignore_index=True)
    all_scores = pd.concat([scores, twins.assign(cell=twins["cell"].map(names))])
    read_cells, _ = tables.read_results(simulate.write(tmp_path, both, all_scores))
    assert set(read_cells["arm"]) == set(cells["arm"])  # as published
    (study,) = tables.split_studies(read_cells)
    assert set(study["arm"]) == {*cells["arm"], "lora_filtered at weight 0.5"}


@pytest.mark.parametrize(
    "name",
    [
        "quickstart",
        "rounds",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("study1", "shots", "pilot")),
    ],
)
def test_published_tables_stay_readable(name):
    cells, scores = tables.read_results(ROOT / "results" / name / "tables")
    assert (cells["fold"] == "").all() and set(scores["cell"]) == set(cells["cell"])


def edited(cells, column, value):
    """The cells with one value of the file's line 6 changed."""
    cells = cells.astype({column: object})
    cells.loc[cells.index[4], column] = value
    return cells


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda c, s: (c.drop(columns="pr_auc"), s), "missing: \\['pr_auc'\\]"),
        (lambda c, s: (c.assign(mine=1), s), "unknown: \\['mine'\\]"),
        (lambda c, s: (c, s.drop(columns="group")), "missing: \\['group'\\]"),
        (lambda c, s: (c.iloc[:0], s), "no rows"),
        (lambda c, s: (edited(c, "pr_auc", 1.2), s), "line 6: pr_auc"),
        (lambda c, s: (edited(c, "pr_auc", 0.5), s), "pr_auc of cell .* but its scores give"),
        (lambda c, s: (edited(c, "f1_at_threshold", 0.5), s), "f1_at_threshold of cell"),
        (lambda c, s: (edited(c, "pr_auc", "good"), s), "pr_auc holds something that is no number"),
        (lambda c, s: (edited(c, "pr_auc", ""), s), "pr_auc is .*nan"),
        (lambda c, s: (edited(c, "n_test_groups", 2), s), "n_test_groups of cell"),
        (lambda c, s: (edited(c, "evaluated_on", "train"), s), "evaluated_on is 'train'"),
        (lambda c, s: (edited(c, "evaluated_on", "validation"), s), "n_test of cell"),
        (lambda c, s: (edited(c, "fold", "1"), s), "fold is '1'"),
        (lambda c, s: (edited(c, "evaluated_on", "fold"), s), "fold is ''"),
        (lambda c, s: (edited(c, "cell", "../x"), s), "cell is '../x'"),
        (lambda c, s: (edited(c, "draw", 1.5), s), "draw is"),
        (lambda c, s: (edited(c, "ratio", -1), s), "ratio is"),
        (lambda c, s: (edited(c, "cell", c["cell"].iloc[0]), s), "the same key"),
        (lambda c, s: (c.assign(seed=0), s), "the same settings"),
        (lambda c, s: (c.iloc[1:], s), "different runs"),
        (lambda c, s: (c, s[s["cell"] != c["cell"].iloc[0]]), "different runs"),
        (lambda c, s: (c, s.assign(score=s["score"].where(s.index != 7))), "impossible score"),
        (lambda c, s: (c, s.assign(partition="development")), "impossible partition"),
        (lambda c, s: (c, s.assign(image="a.png")), "scored twice"),
        (
            lambda c, s: (c, s.assign(label=s["label"].where(s["cell"] != c["cell"].iloc[0], 0))),
            "no images of both classes",
        ),
    ],
)
def test_tables_edited_by_hand_are_noticed(few, tmp_path, change, word):
    with pytest.raises(StudyError, match=word) as caught:
        tables.read_results(simulate.write(tmp_path, *change(*few)))
    assert "\n" not in str(caught.value)


def test_missing_and_damaged_tables_are_named(few, tmp_path):
    with pytest.raises(StudyError, match="make study"):
        tables.read_results(tmp_path)
    simulate.write(tmp_path, *few)
    (tmp_path / "scores.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(StudyError, match="cannot be read"):
        tables.read_results(tmp_path)


def test_columns_are_those_the_sweep_writes():
    from fsl_utils.classifier import cells as sweep

    assert {*sweep.COLUMNS, *tables.ADDED_COLUMNS} == set(tables.CELL_COLUMNS)
