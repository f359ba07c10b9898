"""What choosing the ratio on validation is worth, on simulated studies whose best is planted."""

import numpy as np
import pandas as pd
import pytest
import simulate

from fsl_utils.analysis import adaptive, resampling
from fsl_utils.figures import adaptive as shown
from fsl_utils.figures import style

RATIOS = (0.5, 1.0, 4.0, 20.0)
PLANTED = {
    ("real", 0.0): -1.5,
    **{("lora", ratio): -1.5 for ratio in RATIOS},
    **dict(zip([("synth_both", ratio) for ratio in RATIOS], (0.0, 0.5, 6.0, 0.0))),
    ("augment", 4.0): -1.5,
    ("augment", 20.0): -1.5,
}


@pytest.fixture(scope="module")
def planted():
    return simulate.study(arms=PLANTED, draws=10)


@pytest.fixture(scope="module")
def table(planted):
    return adaptive.replay(*planted)


def rule(table, name):
    return table[(table["arm"] == name) & (table["control"] == "real")].iloc[0]


def test_a_planted_ratio_is_found_and_is_worth_what_it_is_worth(planted, table):
    cells, _ = planted
    ours, best = rule(table, "adaptive"), rule(table, "hindsight")
    assert best["chosen"] == "synth_both 4x 10"
    assert "synth_both 4x" in ours["chosen"].split(", ")[0]
    mean = cells.groupby(["arm", "ratio"])["pr_auc"].mean()
    planted_gain = mean["synth_both", 4.0] - mean["real", 0.0]
    assert best["difference"] == pytest.approx(planted_gain) and best["short"] == 0
    assert 0 <= ours["short"] < planted_gain / 4
    assert ours["verdict"] == "better" and best["verdict"] == "not tested"


def test_fixed_and_random_are_means_over_cells_and_the_sweep_costs_all(planted, table):
    cells, _ = planted
    ours = cells[cells["arm"] != "augment"]
    real = cells.loc[cells["arm"] == "real", "pr_auc"].mean()
    fixed = cells[(cells["arm"] == "lora") & (cells["ratio"] == 4)]["pr_auc"].mean()
    assert rule(table, "fixed 4x")["difference"] == pytest.approx(fixed - real)
    assert rule(table, "random")["difference"] == pytest.approx(ours["pr_auc"].mean() - real)
    sweep = rule(table, "whole sweep")
    assert (sweep["cells_trained"], sweep["images_sampled"]) == (9, 40)  # rare and common, 20x each
    assert rule(table, "ensemble")["cells_trained"] == 3
    assert rule(table, "ensemble")["images_sampled"] == 8
    assert rule(table, "free ensemble")["images_sampled"] == 0
    assert rule(table, "adaptive")["share_of_cells"] < 1


def test_an_ensemble_is_the_mean_of_scores(planted, table):
    cells, scores = planted
    keys = [("real", 0.0), ("lora", 4.0), ("synth_both", 4.0)]
    differences = []
    for draw in range(10):
        here = cells[cells["draw"] == draw].set_index(["arm", "ratio"])["cell"]
        parts = [
            scores[(scores["cell"] == here[key]) & (scores["partition"] == "test")] for key in keys
        ]
        frame = (
            pd.concat(parts).groupby("image").agg(label=("label", "first"), score=("score", "mean"))
        )
        value = simulate.metrics.score(frame["label"], frame["score"], None)["pr_auc"]
        alone = cells.set_index("cell").loc[here[keys[0]], "pr_auc"]
        differences.append(value - alone)
    assert rule(table, "ensemble")["difference"] == pytest.approx(np.mean(differences))
    assert rule(table, "ensemble")["worst"] == pytest.approx(min(differences))


def test_where_synthetic_images_harm_it_stays_with_real():
    harmful = {key: (0.0 if key[0] == "real" else -4.0) for key in PLANTED}
    table = adaptive.replay(*simulate.study(arms=harmful, draws=4))
    ours = rule(table, "adaptive")
    assert ours["chosen"] == "real 4" and ours["difference"] == ours["short"] == 0
    assert ours["cells_trained"] == 3 and ours["images_sampled"] == 1  # one rung, both recipes


def test_images_that_chose_do_not_count():
    cells, scores = simulate.study(arms=PLANTED, draws=3, evaluated_on="validation")
    table = adaptive.replay(cells, scores)
    apart = scores[scores["partition"] == "validation"]
    study = resampling.resample(cells, apart, replicates=1).points
    assert rule(table, "fixed 4x")["difference"] == pytest.approx(
        (study.loc["lora", 4.0] - study.loc["real", 0.0]).mean()
    )
    assert adaptive.replay(cells, scores.assign(partition="validation")).empty


def test_scores_of_the_test_part_do_not_choose(planted, table):
    cells, scores = planted
    turned = scores.assign(
        score=scores["score"].where(scores["partition"] == "choosing", 1 - scores["score"])
    )
    assert (
        rule(adaptive.replay(cells, turned), "adaptive")["chosen"]
        == (rule(table, "adaptive")["chosen"])
    )


def test_too_few_ratios_or_an_incomplete_recipe_are_left_out(planted):
    cells, scores = planted
    assert adaptive.replay(cells[cells["ratio"].isin([0, 4])], scores).empty
    part = cells[(cells["arm"] != "synth_both") | (cells["ratio"] == 4)]
    found = adaptive.replay(part, scores)
    assert rule(found, "whole sweep")["cells_trained"] == 5
    assert not any("synth_both" in chosen for chosen in found["chosen"].dropna())


def test_one_draw_says_what_is_taken_and_why(planted):
    rows = adaptive.of_draw(*planted)
    assert rows["chosen"].sum() == 1 and rows.loc[rows["chosen"], "tried"].all()
    taken = rows[rows["chosen"]].iloc[0]
    tried = rows[rows["tried"]]
    within = tried[tried["behind"] <= tried["error"]]
    assert taken["ratio"] == within["ratio"].min()
    sentence = shown.taken(rows)
    assert f"{taken['arm']} {taken['ratio']:g}x" in sentence
    assert f"trained {len(tried)} of 9 classifiers" in sentence and "of 40 images" in sentence
    figure = shown.ratio(rows)
    assert "on test" not in figure.get_suptitle()
    style.plt.close(figure)


def test_the_table_holds_every_rule_and_bold_is_what_is_shown(table):
    made = shown.rules(table)
    assert len(made.cells) == len(table) == len(adaptive.RULES) + 1
    ours = rule(table, "adaptive")
    assert f"**{shown.table.interval(ours)}" in made.markdown()
    assert "`adaptive` changes PR-AUC" in shown.headline(table)
