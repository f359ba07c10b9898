"""Figures: what is drawn is what the table says."""

import numpy as np
import pandas as pd
import pytest
import simulate
from legible import faults, styled  # noqa: F401

from fsl_utils.analysis import contrasts, curves, pool_gains, ratios, resampling
from fsl_utils.figures import (
    headlines,
    lines,
    pipeline,
    pools,
    result_tables,
    results,
    style,
    thresholds,
)

LORA, REAL = ("lora_filtered", 4.0), ("real", 0.0)


@pytest.fixture(scope="module")
def study(whole):
    return resampling.resample(*whole)


@pytest.fixture(scope="module")
def three():
    """A study of three draws on validation: an illustration."""
    arms = {REAL: 0.0, ("duplicate", 4.0): 0.1, LORA: 0.4}
    return simulate.study(draws=3, evaluated_on="validation", arms=arms)


def marks(axis) -> list:
    """Lines of an axis that are marks at one place or more."""
    return [
        line
        for line in axis.get_lines()
        if line.get_marker() not in ("None", None, "") and len(line.get_xdata())
    ]


def single_marks(axis) -> list[tuple[float, float, bool]]:
    """x, y and whether it is filled, of each mark of its own."""
    return [
        (*np.round(line.get_xydata()[0], 9), line.get_markerfacecolor() != "white")
        for line in marks(axis)
        if len(line.get_xdata()) == 1
    ]


def test_the_pipeline_is_legible():
    assert faults(pipeline.pipeline()) == []


# -- One draw, as notebook 04 shows it ------------------------------------------------------------


@pytest.fixture(scope="module")
def one():
    return simulate.study(draws=1, evaluated_on="validation", arms=simulate.SOME)


def test_thresholds_show_both_cuts_of_every_arm_and_none_as_shown(one):
    cells, scores = one
    at4 = cells[cells["ratio"].isin([0, 4])]
    studies = [resampling.resample(at4, scores, metric) for metric in thresholds.METRICS]
    table = pd.concat([curves.levels(study) for study in studies])
    figure = thresholds.thresholds(table)
    assert faults(figure) == []
    for axis, metric in zip(figure.axes, ("f1", "recall", "precision")):
        drawn = {x: filled for x, _, filled in single_marks(axis)}
        both = table[table["metric"].isin([metric, f"{metric}_at_threshold"])]
        assert {*np.round(both["mean"], 9)} <= drawn.keys() and not any(drawn.values())
    assert "1 DRAW" in figure._suptitle.get_text() and "in-sample" in figure._suptitle.get_text()


def test_levels_stand_arm_by_ratio_controls_first(one):
    levels = curves.levels(resampling.resample(*one)).replace({"arm": {"lora": "mine"}})
    table = result_tables.levels(levels)
    assert list(table.cells["arm"])[:2] == ["real", "duplicate"]
    assert list(table.cells["arm"])[-1] == "mine" and "ILLUSTRATION" in table.foot
    row = levels[levels["arm"] == "mine"].iloc[0]
    text = table.cells.set_index("arm").loc["mine", f"{row['ratio']:g}x"]
    assert text.startswith(f"{row['mean']:.3f}".lstrip("0"))
    assert len(lines.arms(levels).axes) == levels.loc[levels["ratio"] > 0, "arm"].nunique() - 1


def test_one_draw_is_told_with_its_interval_and_not_as_a_test(one):
    rows = contrasts.against(resampling.resample(*one), "duplicate")
    told, row = headlines.one_draw(rows), rows[rows["arm"] == "lora_filtered"].iloc[0]
    assert f"{row['difference']:+.3f}".replace("0.", ".", 1) in told and "tests nothing" in told
    assert f"{row['n_rare']} rare images" in told
    assert "nothing is compared" in headlines.one_draw(pd.DataFrame())


# -- What is drawn ------------------------------------------------------------------------------


def test_curve_draws_the_means_of_the_main_arms(study):
    levels = curves.levels(study)
    left, right = lines.curve(levels, contrasts.gains(study, "duplicate")).axes
    marker = style.arm_style("lora")[1]
    (drawn,) = [
        line
        for line in marks(left)
        if line.get_marker() == marker and line.get_color() == style.BLUE
    ]
    expected = levels[levels["arm"] == "lora"].sort_values("ratio")["mean"]
    assert drawn.get_ydata() == pytest.approx(expected)
    shown = [text.get_text() for text in left.figure.legends[0].get_texts()]
    assert shown == [arm for arm in style.MAIN_ARMS if arm in set(levels["arm"])]
    ticks = [text.get_text() for text in left.get_xticklabels()]
    assert ticks == ["0", "0.5", "1", "2", "4", "10", "20"]
    assert right.get_title(loc="left") == "minus duplicate"


def test_a_level_of_fewer_draws_is_hollow(study):
    levels = curves.levels(study)
    short = levels.index[(levels["arm"] == "lora")][0]
    for fewer in (0, 1):
        levels.loc[short, "n_draws"] -= fewer
        for drawn in (lines.curve(levels, pd.DataFrame()), lines.arms(levels)):
            hollow = [
                line
                for axis in drawn.axes
                for line in marks(axis)
                if line.get_markerfacecolor() == "white"
            ]
            assert [len(line.get_xdata()) for line in hollow] == [1] * fewer


def test_forest_fills_what_is_shown_and_nothing_else(study):
    table = contrasts.against_controls(study)
    assert table["verdict"].isin(contrasts.SHOWN).nunique() == 2  # both kinds are there
    figure = results.forest(table)
    for axis, (_, part) in zip(figure.axes, table.groupby("control", sort=False)):
        drawn = {x: filled for x, _, filled in single_marks(axis)}
        expected = part["verdict"].isin(contrasts.SHOWN)
        assert drawn == dict(zip(part["difference"].round(9), expected))


def test_overview_has_a_panel_a_task_a_colour_a_classifier_and_every_contrast(study):
    few = {REAL: 0.0, ("duplicate", 4.0): 0.1, ("lora", 4.0): 0.4}
    other = simulate.study("tiles", arms=few, draws=3, classifier="resnet18")
    table = pd.concat(
        [contrasts.against(one, "duplicate") for one in (study, resampling.resample(*other))]
    )
    figure = results.overview(table)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert [title.split(":")[0] for title in titles] == ["elpv", "tiles"]
    assert "draws: probe 10" in titles[0] and "ILLUSTRATION: 3" in titles[1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["probe", "resnet18"]
    for axis, (_, part) in zip(figure.axes, table.groupby("domain")):
        drawn = {x: filled for x, _, filled in single_marks(axis)}
        expected = part["verdict"].isin(contrasts.SHOWN)
        assert drawn == dict(zip(part["difference"].round(9), expected))


def test_shots_marks_each_contrast_over_its_number_of_shots(study):
    few = {REAL: 0.0, ("duplicate", 4.0): 0.1, ("lora", 4.0): 0.3}
    fewer = resampling.resample(*simulate.study(arms=few, draws=3, n_real=10))
    table = pd.concat([contrasts.against(one, "duplicate") for one in (study, fewer)])
    figure = results.shots(table)
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["10", "20"]
    drawn = {y: (round(x), filled) for x, y, filled in single_marks(axis)}
    expected = {
        round(row.difference, 9): (int(row.n_real > 10), row.verdict in contrasts.SHOWN)
        for row in table.itertuples()
    }
    assert drawn == expected
    ends = {
        tuple(np.round(path.vertices[:, 1], 9))
        for collection in axis.collections
        for path in collection.get_paths()
    }
    assert ends == {(round(row.low, 9), round(row.high, 9)) for row in table.itertuples()}


def test_slopes_draw_one_line_a_draw_and_count_those_that_rise(study):
    table = curves.slopes(study, LORA, REAL)
    (axis,) = results.slopes(table).axes
    assert len(axis.get_lines()) == 10 + 1
    wide = table.pivot(index="draw", columns="arm", values="value")
    rising = int((wide["lora_filtered"] > wide["real"]).sum())
    assert f"up in {rising} of 10" in axis.get_title(loc="left")


def test_what_to_beware_of_stands_on_every_figure(three):
    cells, scores = three
    study = resampling.resample(cells, scores)
    recall = curves.precision_over_recall(cells, scores, [REAL], replicates=20)
    drawn = [
        lines.curve(curves.levels(study), pd.DataFrame()),
        lines.arms(curves.levels(study)),
        lines.ratios(contrasts.gains(study, "duplicate")),
        lines.precision_over_recall(recall.assign(prevalence=0.3)),
        results.overview(contrasts.against(study, "duplicate")),
        results.forest(contrasts.against_controls(study)),
        results.slopes(curves.slopes(study, LORA, REAL)),
    ]
    for figure in drawn:
        head = figure.get_suptitle().replace("\n", " ")
        assert "ILLUSTRATION: 3 DRAWS" in head and "PRELIMINARY" in head


def test_worth_and_pools_draw_their_tables(whole, study):
    rate = ratios.worth_in_images(study, "lora")
    (axis,) = lines.worth(rate).axes
    drawn = [line.get_ydata() for line in marks(axis) if len(line.get_xdata()) == len(rate)]
    assert any(np.allclose(y, rate.sort_values("ratio")["images"]) for y in drawn)
    qualities = pd.DataFrame({"pool": whole[0]["pool"].loc[lambda pool: pool != ""].unique()})
    for name in pools.QUALITY_NAMES:
        qualities[name] = np.linspace(0, 1, len(qualities))
    gains = pool_gains.by_pool(whole[0], qualities)
    figure = pools.gains(gains)
    assert [axis.get_xlabel() for axis in figure.axes][:5] == list(pools.QUALITY_NAMES.values())
    points = figure.axes[0].collections[0].get_offsets()
    assert sorted(points[:, 1]) == pytest.approx(sorted(gains["gain"]))


def test_histograms_show_the_density_of_each_kind():
    pairs = pd.DataFrame({"kind": ["real", "real", "synthetic"], "value": [0.1, 0.3, 0.2]})
    figure = pools.histograms(pairs, "LPIPS", bins=4)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "real (2)",
        "synthetic (1)",
    ]
    marked = pools.histograms(pairs, "LPIPS", line=(0.15, "left of it: copied"))
    assert marked.legends[0].get_texts()[-1].get_text() == "left of it: copied"
    assert [0.15, 0.15] in [list(line.get_xdata()) for line in marked.axes[0].lines]
    heights = np.histogram([0.1, 0.3], np.linspace(0.1, 0.3, 5), density=True)[0]
    assert set(np.round(heights, 6)) <= set(np.round(figure.axes[0].lines[0].get_ydata(), 6))
