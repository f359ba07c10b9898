"""Tables behind the figures, each number against pandas, scikit-learn or a closed form."""

import numpy as np
import pandas as pd
import pytest
import simulate
from sklearn.isotonic import isotonic_regression
from sklearn.metrics import precision_score

from fsl_utils import ROOT, StudyError, metrics
from fsl_utils.analysis import contrasts, curves, pool_gains, ratios, resampling, tables


def test_point_estimates_are_means_over_draws_of_means_over_seeds(few):
    cells, scores = few
    cells = cells[
        ~((cells["draw"] == 3) & (cells["seed"] == 1))
    ]  # a draw with one seed counts as much as one with two
    table = curves.levels(resampling.resample(cells, scores)).set_index(["arm", "ratio"])
    expected = (
        cells.groupby(["arm", "ratio", "draw"])["pr_auc"].mean().groupby(["arm", "ratio"]).mean()
    )
    assert table["mean"].to_dict() == pytest.approx(expected.to_dict())
    assert (table["low"] < table["mean"]).all() and (table["mean"] < table["high"]).all()


def test_every_row_names_exactly_the_cells_behind_it(few):
    cells, scores = few
    study = resampling.resample(cells, scores)
    for row in curves.levels(study).itertuples():
        expected = cells[(cells["arm"] == row.arm) & (cells["ratio"] == row.ratio)]["cell"].str[:12]
        assert sorted(row.cells.split(";")) == sorted(expected)
    row = contrasts.contrast(study, ("lora_filtered", 4.0), ("real", 0.0))
    assert len(row["cells"].split(";")) == 2 * 10 * 2


def test_contrasts_are_paired(few):
    cells, scores = few
    study = resampling.resample(cells, scores)
    same = contrasts.contrast(study, ("real", 0.0), ("real", 0.0))
    assert same["difference"] == same["low"] == same["high"] == 0 and same["p"] == 1
    # Another arm with the same scores: with groups resampled apart, it would have a width.
    twins = cells[cells["arm"] == "real"].assign(arm="twin")
    twins["cell"] = [simulate.hexed(cell) for cell in twins["cell"]]
    doubled = scores[scores["cell"].isin(cells[cells["arm"] == "real"]["cell"])]
    doubled = doubled.assign(cell=doubled["cell"].map(simulate.hexed))
    study = resampling.resample(pd.concat([cells, twins]), pd.concat([scores, doubled]))
    row = contrasts.contrast(study, ("twin", 0.0), ("real", 0.0))
    assert row["low"] == row["high"] == 0


def test_contrast_uses_the_draws_that_both_arms_have(few):
    cells, scores = few
    cells = cells[~((cells["arm"] == "real") & (cells["draw"] == 2))]
    row = contrasts.contrast(
        resampling.resample(cells, scores), ("lora_filtered", 4.0), ("real", 0.0)
    )
    wide = cells.groupby(["arm", "ratio", "draw"])["pr_auc"].mean().unstack()
    assert row["n_draws"] == 9 and np.isnan(row["p"]) and "illustration: 9 draws" in row["caution"]
    assert row["difference"] == pytest.approx(
        (wide.loc[("lora_filtered", 4.0)] - wide.loc[("real", 0.0)]).mean()
    )


def test_one_draw_has_an_interval_from_its_groups_and_says_so(few):
    cells, scores = few
    table = curves.levels(resampling.resample(cells[cells["draw"] == 0], scores))
    assert (table["high"] > table["low"]).all()
    assert (
        table["caution"].str.contains("illustration: 1 draw; interval from test groups alone").all()
    )


@pytest.mark.parametrize(
    "low, high, p_holm, expected",
    [
        (0.01, 0.2, 0.01, "better"),
        (-0.2, -0.01, 0.01, "worse"),
        (-0.01, 0.2, 0.01, "cannot tell"),  # these test images, but not others
        (0.01, 0.2, 0.06, "cannot tell"),
        (0.01, 0.2, np.nan, "not tested"),
        (np.nan, np.nan, 0.01, "cannot tell"),  # one group
    ],
)
def test_one_rule_asks_for_interval_and_p(low, high, p_holm, expected):
    table = pd.DataFrame({"low": [low], "high": [high], "p_holm": [p_holm]})
    assert contrasts.verdict(table).tolist() == [expected]


def test_bold_before_says_what_remains(whole):
    table = contrasts.against(resampling.resample(*whole), "duplicate")
    bold = contrasts.bold_before(table)
    assert (bold["p_holm"] < 0.05).all() and len(bold) == (table["p_holm"] < 0.05).sum()
    assert (bold["remains"] == (bold["low"] * bold["high"] > 0)).all()


@pytest.mark.slow
def test_published_bold_entries_are_those_of_the_published_tables():
    cells, scores = tables.read_results(ROOT / "results" / "study1" / "tables")
    studies = [resampling.resample(part, scores) for part in tables.split_studies(cells)]
    bold = contrasts.bold_before(pd.concat([contrasts.against(s, "duplicate") for s in studies]))
    published = pd.read_csv(ROOT / "results" / "details" / "study1" / "bold_entries.csv")
    assert bold["remains"].tolist() == published["remains"].tolist()
    for name in ("difference", "low", "high", "p_holm"):
        assert bold[name].to_numpy() == pytest.approx(published[name].to_numpy(), rel=1e-4)


def test_study_table_ends_with_the_level_without_skill(whole):
    table = contrasts.study_table(*whole)
    last = table[table["arm"] == "no skill"].set_index("quantity")["value"]
    cells, _ = whole
    assert last["pr_auc"] == pytest.approx(cells["prevalence"].mean()) and last["auroc"] == 0.5
    assert last["f1_at_threshold"] == pytest.approx(cells["f1_all_positive"].mean())
    assert "recall_at_threshold" not in last  # can be had for nothing


def test_primary_takes_the_larger_p_and_holm_over_domains(few):
    gains = {**simulate.FEW, ("lora_filtered", 4.0): 1.2, ("duplicate", 4.0): 0.3}
    found = [resampling.resample(*few), resampling.resample(*simulate.study("tiles", arms=gains))]
    secondary = resampling.resample(
        *simulate.study(arms=simulate.FEW, draws=2, rare_class="another")
    )
    table = contrasts.primary([*found, secondary]).set_index("domain")
    assert (table["p"] == table[["p_real", "p_duplicate"]].max(axis=1)).all()
    assert table["p_holm"].to_numpy() == pytest.approx(resampling.holm(table["p"]))
    assert table["verdict"].to_dict() == {
        "elpv": "cannot tell",
        "tiles": "better",
    }
    other = resampling.resample(*simulate.study("tiles", arms=gains, classifier="resnet18"))
    assert (
        contrasts.primary([found[0], other])["p_holm"].tolist()
        == contrasts.primary([found[0], other])["p"].tolist()
    )  # families of their own


def test_primary_says_what_was_not_run_or_too_small(few):
    cells, scores = few
    assert contrasts.primary([resampling.resample(cells[cells["arm"] != "duplicate"], scores)])[
        "verdict"
    ].tolist() == ["not run"]
    table = contrasts.primary([resampling.resample(cells[cells["draw"] < 6], scores)])
    assert table["verdict"].tolist() == ["not tested"] and table["p_holm"].isna().all()


def test_forest_adjusts_within_a_control_and_beating_means_each(whole):
    table = contrasts.against_controls(resampling.resample(*whole))
    for _, family in table.groupby("control"):
        assert family["p_holm"].to_numpy() == pytest.approx(resampling.holm(family["p"]))
    arms = table.groupby("arm")
    better = arms.apply(lambda rows: ((rows["p_holm"] < 0.05) & (rows["low"] > 0)).all())
    assert arms["beats_controls"].first().to_dict() == better.to_dict()
    assert set(table.loc[table["control"] == "duplicate", "control_ratio"]) == {4.0}
    assert set(table.loc[table["control"] == "real", "control_ratio"]) == {0.0}


def test_exchange_rate_reads_the_curve_of_real_images_backwards():
    arms = {
        ("real", 0.0): 0.0,
        ("real_more", 1.0): 0.8,
        ("real_more", 2.0): 1.6,
        ("lora", 4.0): 0.8,
        ("lora", 1.0): -1.0,
        ("lora", 20.0): 3.0,
    }
    cells, scores = simulate.study(arms=arms, draws=12)
    table = ratios.worth_in_images(resampling.resample(cells, scores), "lora").set_index("ratio")
    row = table.loc[4.0]
    assert row["low"] <= 20 <= row["high"]  # as good as 1x more real: 20 shots
    means = cells.groupby(["arm", "ratio"])["pr_auc"].mean()
    known = means[[("real", 0.0), ("real_more", 1.0), ("real_more", 2.0)]].to_numpy()
    assert row["images"] == pytest.approx(
        np.exp(np.interp(means["lora", 4.0], known, np.log([20, 40, 60]))) - 20
    )
    assert table.loc[1.0, "beyond"] == "<=" and table.loc[1.0, "images"] == pytest.approx(0)
    assert table.loc[20.0, "beyond"] == ">=" and table.loc[20.0, "images"] == pytest.approx(40)


def test_what_is_no_better_than_the_shots_is_worth_no_image():
    """Not even where more real images happen to score worse, so that the monotone curve is flat."""
    arms = {("real", 0.0): 1.0, ("real_more", 1.0): 0.0, ("real_more", 2.0): 1.0}
    row = ratios.worth_in_images(
        resampling.resample(*simulate.study(arms=arms, draws=12)), "real"
    ).iloc[0]
    assert row["images"] == row["low"] == row["high"] == 0 and row["beyond"] == "<="


def test_monotone_is_isotonic_regression():
    values = np.random.default_rng(0).normal(np.arange(5), 2, (30, 5))
    for row, got in zip(values, ratios._monotone(values)):
        assert got == pytest.approx(isotonic_regression(row))


def test_pr_curve_is_the_precision_where_a_recall_is_first_reached(few):
    cells, scores = few
    one = cells[(cells["draw"] == 0) & (cells["seed"] == 0)]
    table = curves.precision_over_recall(one, scores, [("real", 0.0)], replicates=20)
    cell = one[one["arm"] == "real"]["cell"].iloc[0]
    part = scores[(scores["cell"] == cell) & (scores["partition"] == "test")]
    labels, values = part["label"].to_numpy(), part["score"].to_numpy()
    for row in table.iloc[::7].itertuples():
        cut = max(t for t in values if (values[labels == 1] >= t).mean() >= row.recall - 1e-9)
        assert row.precision == pytest.approx(precision_score(labels, values >= cut))
    assert (table["low"] <= table["high"]).all()


def test_choose_ratio_takes_the_best_and_of_equals_the_smallest():
    good, bad = ([0, 0, 1], [0.1, 0.2, 0.9]), ([0, 0, 1], [0.1, 0.9, 0.2])
    assert ratios.choose_ratio({10.0: good, 4.0: good, 0.0: bad}) == 4.0
    with pytest.raises(StudyError, match="no ratio"):
        ratios.choose_ratio({})


def test_regret_is_zero_where_one_ratio_is_far_better_and_not_read_off_the_choosing_cells():
    arms = {("real", 0.0): -2.0, ("lora", 4.0): 4.0, ("lora", 20.0): -3.0}
    cells, scores = simulate.study(arms=arms, draws=4, seeds=2)
    table = ratios.regret(cells, scores, "lora")
    assert (table["chosen"] == 4.0).all() and (table["regret"] == 0).all() and table["honest"].all()
    value = cells[(cells["ratio"] == 4.0) & (cells["draw"] == 1)].set_index("seed")["pr_auc"]
    found = table[table["draw"] == 1].set_index("seed")["value"]
    assert found[0] == pytest.approx(value[1]) and found[1] == pytest.approx(value[0])
    assert ratios.regret_summary(table)["regret"] == 0


def test_regret_on_validation_alone_leaves_out_the_images_that_chose():
    cells, scores = simulate.study(
        arms={("real", 0.0): 0.0, ("lora", 4.0): 0.5}, draws=3, evaluated_on="validation"
    )
    table = ratios.regret(cells, scores, "lora")
    assert table["honest"].all()
    unmarked = scores.assign(partition="validation")
    assert not ratios.regret(cells, unmarked, "lora")["honest"].any()
    row = table.iloc[0]
    cell = cells[(cells["ratio"] == row["chosen"]) & (cells["draw"] == row["draw"])]["cell"].iloc[0]
    part = scores[(scores["cell"] == cell) & (scores["partition"] == "validation")]
    assert row["value"] == pytest.approx(
        metrics.score(part["label"], part["score"], None)["pr_auc"]
    )


def test_pool_gains_are_against_the_same_draw_and_ratio(whole):
    cells, _ = whole
    pools = pd.DataFrame({"pool": cells["pool"][cells["pool"] != ""].unique()})
    pools["kid"] = np.arange(len(pools)) / 10
    gains = pool_gains.by_pool(cells, pools)
    row = gains[(gains["arm"] == "lora") & (gains["ratio"] == 4.0)].iloc[3]
    value = cells[cells["draw"] == row["draw"]].set_index(["arm", "ratio"])["pr_auc"]
    assert row["gain"] == pytest.approx(value["lora", 4.0] - value["duplicate", 4.0])
    assert -1 <= pool_gains.correlation(gains, "kid")["rho"] <= 1
    with pytest.raises(StudyError, match=r"pools\.csv"):
        pool_gains.by_pool(cells, pd.concat([pools, pools]))


def test_ratio_table_keeps_studies_apart(few):
    cells, scores = few
    other, others = simulate.study(arms=simulate.FEW, draws=10, seeds=2, classifier="resnet18")
    both = ratios.ratio_table(pd.concat([cells, other]), pd.concat([scores, others]))
    alone = ratios.ratio_table(cells, scores)
    assert set(both["classifier"]) == {"probe", "resnet18"} and "classifier" not in alone
    assert both[both["classifier"] == "probe"]["pr_auc"].tolist() == alone["pr_auc"].tolist()
    real = cells[cells["arm"] == "real"]
    assert alone[alone["arm"] == "real"]["recall"].iloc[0] == pytest.approx(real["recall"].mean())


def test_worst_errors_come_first(few):
    cells, scores = few
    table = tables.largest_errors(scores, cells["cell"].iloc[0], 5)
    ours = scores[scores["cell"] == cells["cell"].iloc[0]]
    assert (
        table["error"].tolist() == sorted((ours["score"] - ours["label"]).abs(), reverse=True)[:5]
    )


def test_a_single_group_is_said_and_not_hidden(few):
    cells, scores = few
    table = curves.levels(
        resampling.resample(cells[cells["draw"] == 0], scores.assign(group="only"))
    )
    assert table["low"].isna().all() and table["caution"].str.contains("only 1 group").all()


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda c, s: resampling.resample(c, s, "accuracy"), "unknown metric"),
        (lambda c, s: resampling.resample(c.iloc[:0], s), "no cells"),
        (lambda c, s: resampling.sign_flip([]), "finite differences"),
        (lambda c, s: resampling.sign_flip([0.1, np.nan]), "finite differences"),
        (lambda c, s: ratios.regret(c[c["draw"] == 0], s, "lora_filtered"), "2 draws"),
        (lambda c, s: contrasts.primary([resampling.resample(c, s, "auroc")]), "pr_auc"),
    ],
)
def test_what_cannot_be_computed_is_refused(few, call, word):
    with pytest.raises(StudyError, match=word):
        call(*few)
