"""Figures and tables: what is drawn is what the table says, and the files are fit for a paper."""

import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import simulate

from fsl_utils import StudyError
from fsl_utils.analysis import contrasts, curves, pool_gains, ratios, resampling
from fsl_utils.classifier import arms
from fsl_utils.figures import pools, results, sheets, style, table

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def styled():
    with plt.rc_context():
        style.apply()
        yield
    plt.close("all")


@pytest.fixture(scope="module")
def study(whole):
    return resampling.resample(*whole)


@pytest.fixture(scope="module")
def three():
    """A study of three draws on validation: an illustration."""
    return simulate.study(
        draws=3,
        evaluated_on="validation",
        arms={("real", 0.0): 0.0, ("duplicate", 4.0): 0.1, ("lora_filtered", 4.0): 0.4},
    )


# -- Files -----------------------------------------------------------------------------------------------


def test_save_writes_pdf_png_and_csv_the_same_twice(study, tmp_path):
    table = curves.levels(study)
    files = [
        style.save(results.curve(table), tmp_path / name / "curve_0.5x", table) for name in "ab"
    ]
    assert [f.name for f in files[0]] == ["curve_0.5x.pdf", "curve_0.5x.png", "curve_0.5x.csv"]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(
        f.name for f in files[0]
    )  # nothing half-written


def test_fonts_are_embedded_as_truetype_and_text_is_text(study, tmp_path):
    table = curves.levels(study)
    pdf = style.save(results.curve(table), tmp_path / "curve", table)[0].read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf


def test_csv_is_the_table_and_names_the_cells(study, tmp_path):
    table = curves.levels(study)
    back = pd.read_csv(style.save(results.curve(table), tmp_path / "curve", table)[2])
    assert back["mean"].to_numpy() == pytest.approx(table["mean"].to_numpy(), rel=1e-5)
    assert all(re.fullmatch("[0-9a-f]{12}(;[0-9a-f]{12})*", names) for names in back["cells"])
    with pytest.raises(StudyError, match="cells"):
        style.save(results.curve(table), tmp_path / "curve", table.drop(columns=["cells"]))


def test_the_page_holds_the_figures(study):
    assert results.curve(curves.levels(study)).get_figwidth() <= style.COLUMN
    assert (
        results.curve(
            curves.levels(study), gains=contrasts.gains(study, "duplicate")
        ).get_figwidth()
        <= style.PAGE
    )
    assert results.forest(contrasts.against_controls(study)).get_figwidth() <= style.PAGE


def test_a_level_of_fewer_draws_is_hollow(study):
    table = curves.levels(study)
    short = table.index[table["ratio"] > 0][0]
    for fewer in (0, 1):
        table.loc[short, "n_draws"] -= fewer
        for drawn in (results.curve(table), results.panels(table)):
            assert [
                len(line.get_xydata())
                for line in drawn.axes[0].lines
                if line.get_markerfacecolor() == "white"
            ] == [1] * fewer


# -- Style ------------------------------------------------------------------------------------------------


def test_every_arm_has_its_look_and_none_needs_colour():
    assert set(arms.ARMS) <= set(style.ARM_STYLE)
    without_colour = [(marker, line) for _, marker, line in style.ARM_STYLE.values()]
    assert len(set(without_colour)) == len(without_colour)


def test_an_arm_without_a_style_gets_one_and_always_the_same():
    assert style.arm_style("mine") == style.arm_style("mine")
    plt.plot(
        [0, 1],
        color=style.arm_style("mine")[0],
        marker=style.arm_style("mine")[1],
        linestyle=style.arm_style("mine")[2],
    )


# -- What is drawn -------------------------------------------------------------------------------------------


def test_curve_draws_the_means_of_the_arms_asked_for(study):
    table = curves.levels(study)
    axis = results.curve(table, ["real", "lora"]).axes[0]
    drawn = [line for line in axis.get_lines() if line.get_marker() == style.arm_style("lora")[1]]
    assert len(drawn) == 1 and drawn[0].get_ydata() == pytest.approx(
        table[table["arm"] == "lora"].sort_values("ratio")["mean"]
    )
    labels = [text.get_text() for text in axis.figure.legends[0].get_texts()]
    assert labels == ["real", "lora"]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["0", "0.5", "1", "2", "4", "10", "20"]


def test_forest_fills_what_is_significant_and_nothing_else(study):
    table = contrasts.against_controls(study)
    figure = results.forest(table)
    for axis, (_, part) in zip(figure.axes, table.groupby("control", sort=False)):
        points = {
            round(float(line.get_xdata()[0]), 9): line
            for line in axis.get_lines()
            if line.get_marker() not in ("None", None, "")
        }
        for row in part.itertuples():
            assert (points[round(row.difference, 9)].get_markerfacecolor() != "white") == (
                row.p_holm < 0.05
            )


def test_overview_has_a_panel_a_task_a_colour_a_classifier_and_every_contrast(study, three):
    other = resampling.resample(
        *simulate.study(
            "tiles",
            arms={("real", 0.0): 0.0, ("duplicate", 4.0): 0.1, ("lora", 4.0): 0.4},
            draws=3,
            classifier="resnet18",
        )
    )
    table = pd.concat([contrasts.against(one, "duplicate") for one in (study, other)])
    figure = results.overview(table)
    assert [axis.get_title(loc="left").split(":")[0] for axis in figure.axes] == ["elpv", "tiles"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["probe", "resnet18"]
    for axis, (_, part) in zip(figure.axes, table.groupby("domain")):
        points = {
            round(float(line.get_xdata()[0]), 9): line.get_markerfacecolor() != "white"
            for line in axis.get_lines()
            if line.get_marker() not in ("None", None, "") and len(line.get_xdata())
        }
        assert points == {round(row.difference, 9): row.p_holm < 0.05 for row in part.itertuples()}
    assert "FEWER THAN 10 DRAWS" in figure.get_suptitle()
    assert (
        "PRELIMINARY"
        in results.overview(
            contrasts.against(resampling.resample(*three), "duplicate")
        ).get_suptitle()
    )


def test_shots_has_a_panel_a_task_and_marks_each_contrast_over_its_number_of_shots(study):
    fewer = resampling.resample(
        *simulate.study(
            "elpv",
            arms={("real", 0.0): 0.0, ("duplicate", 4.0): 0.1, ("lora", 4.0): 0.3},
            draws=3,
            n_real=10,
        )
    )
    more = contrasts.against(study, "duplicate")
    table = pd.concat([more, contrasts.against(fewer, "duplicate")])
    figure = results.shots(table)
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["10\n3 draws", "20\n10 draws"]
    marks = {
        round(float(line.get_ydata()[0]), 9): (
            round(float(line.get_xdata()[0])),
            line.get_markerfacecolor() != "white",
        )
        for line in axis.get_lines()
        if line.get_marker() not in ("None", None, "") and len(line.get_xdata())
    }
    assert marks == {
        round(row.difference, 9): (int(row.n_real > 10), row.p_holm < 0.05)
        for row in table.itertuples()
    }
    ends = {
        tuple(np.round(path.vertices[:, 1], 9))
        for lines in axis.collections
        for path in lines.get_paths()
    }
    assert ends == {(round(row.low, 9), round(row.high, 9)) for row in table.itertuples()}
    assert "FEWER THAN 10 DRAWS" in figure.get_suptitle()


def test_slopes_draw_one_line_a_draw_and_count_those_that_rise(study):
    table = curves.slopes(study, ("lora_filtered", 4.0), ("real", 0.0))
    axis = results.paired_slopes(table).axes[0]
    assert len(axis.get_lines()) == 10 + 1
    wide = table.pivot(index="draw", columns="arm", values="value")
    rising = int((wide["lora_filtered"] > wide["real"]).sum())
    assert f"{rising} of 10 draws rise" in axis.get_title(loc="left")


def test_few_draws_and_validation_stand_on_every_figure_and_table(three):
    cells, scores = three
    study = resampling.resample(cells, scores)
    made = [
        results.curve(curves.levels(study)),
        results.panels(curves.levels(study)),
        results.forest(contrasts.against_controls(study)),
        results.paired_slopes(curves.slopes(study, ("lora_filtered", 4.0), ("real", 0.0))),
        results.pr_curves(
            curves.precision_over_recall(cells, scores, [("real", 0.0)], replicates=20), 0.3
        ),
    ]
    heads = [figure.get_suptitle() for figure in made] + list(
        table.render(contrasts.study_table(cells, scores))
    )
    for head in heads:
        assert "ILLUSTRATION: 3 DRAWS" in head.replace("\n", " ") and "PRELIMINARY" in head
    for figure in made:  # and not beyond its edge
        figure.draw_without_rendering()
        assert figure._suptitle.get_window_extent().x1 <= figure.bbox.x1


def test_the_rest_of_the_figures_are_drawn(whole, study):
    rate = ratios.worth_in_images(study, "lora")
    points = [
        line.get_ydata()
        for line in results.exchange_rate(rate).axes[0].get_lines()
        if len(line.get_ydata()) == len(rate)
    ]
    assert any(np.allclose(y, rate["images"]) for y in points)
    qualities = pd.DataFrame({"pool": whole[0]["pool"].loc[lambda p: p != ""].unique()})
    qualities["kid"] = np.linspace(0, 1, len(qualities))
    gains = pool_gains.by_pool(whole[0], qualities)
    axis = pools.scatter(gains, "kid").axes[0]
    assert axis.get_title(loc="left").endswith("10 draws") and sum(
        len(line.get_xdata()) for line in axis.lines[:-1]
    ) == len(gains)
    assert (
        pools.scatter(gains.head(3), "kid").axes[0].get_title(loc="left")
        == f"{gains.head(3)['draw'].nunique()} draws"
    )  # too few for a correlation
    pairs = pd.DataFrame({"kind": ["real", "real", "synthetic"], "value": [0.1, 0.3, 0.2]})
    labels = [text.get_text() for text in pools.histograms(pairs, "LPIPS").legends[0].get_texts()]
    assert labels == ["real (2)", "synthetic (1)"]


def test_sheet_shows_every_pixel_as_it_is():
    grey = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    colour = np.random.default_rng(1).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    figure = sheets.sheet([("grey", grey), ("none", grey[:0]), ("colour", colour)], per_row=3)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["grey", "colour"]
    first, second = (axis.get_images()[0].get_array() for axis in figure.axes)
    assert (
        first[9:17, 9:17] == grey[4, 0][..., None]
    ).all()  # the fifth image: second row, second column
    assert (second[:8, 9:17] == colour[1].transpose(1, 2, 0)).all()


@pytest.mark.parametrize(
    "rows, word",
    [
        ([], "no image"),
        ([("a", np.zeros((0, 1, 8, 8), np.uint8))], "no image"),
        ([("a", np.zeros((2, 1, 8, 8)))], "uint8"),
        ([("a", np.zeros((2, 8, 8), np.uint8))], "'a'"),
        ([("a", np.zeros((2, 2, 8, 8), np.uint8))], "'a'"),
    ],
)
def test_a_sheet_of_something_else_is_refused(rows, word):
    with pytest.raises(StudyError, match=word):
        sheets.sheet(rows)


def test_worst_errors_are_shown_as_images(elpv):
    table = elpv.table[elpv.table["partition"] == "test"].iloc[::9]
    cell = "a" * 64
    scores = pd.DataFrame(
        {
            "cell": cell,
            "image": table["image"],
            "group": table["group"],
            "partition": "test",
            "label": table["label"],
            "score": np.linspace(0, 1, len(table)),
        }
    )
    cells = pd.DataFrame(
        [
            {
                "cell": cell,
                "domain": "elpv",
                "rare_class": elpv.rare_class,
                "protocol": "group",
                "image_size": 16,
            }
        ]
    )
    shown = sheets.worst(cells, scores, cell, count=2).axes[0].get_images()[0].get_array()
    lowest = table[table["label"] == 1].iloc[0]["image"]
    expected = elpv.images(16)[int(np.flatnonzero(elpv.table["image"] == lowest)[0])]
    assert (shown[:16, :16] == expected.transpose(1, 2, 0)).all()
    with pytest.raises(StudyError, match="not in the elpv data"):
        sheets.worst(cells, scores.assign(image="x.png"), cell)
