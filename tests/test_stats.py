"""Statistics against scikit-learn, scipy, closed forms, and simulated studies whose truth is known."""

import numpy as np
import pandas as pd
import pytest
import simulate
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference
from sklearn.isotonic import isotonic_regression
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from fsl_utils import StudyError, contrasts, metrics, partitions, results, stats

FEW = {("real", 0.0): 0.0, ("duplicate", 4.0): 0.0, ("lora_filtered", 4.0): 0.0, ("lora_filtered", 10.0): 0.0}


# -- Weighted metrics -----------------------------------------------------------------------------------

images = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 4)), max_size=40)


@settings(deadline=None, max_examples=40)
@given(images, st.integers(0, 2**32 - 1))
def test_weighted_metrics_agree_with_scikit_learn(rows, seed):
    rows = np.array([(1, 5, 0), (0, 3, 1), *rows])  # coarse scores, so that there are ties
    labels, scores, groups = rows[:, 0], rows[:, 1] / 6, rows[:, 2]
    weights = np.random.default_rng(seed).integers(0, 4, size=(5, 6)) / 2.0  # with zeros, as a bootstrap gives
    weights[:2] += 0.5  # each class keeps some weight
    got = {m: metrics.weighted(m, labels, scores, groups, weights, 0.5) for m in metrics.METRICS}
    for b in range(6):
        w = weights[groups, b]
        balanced = w * np.where(labels == 1, 1, w[labels == 1].sum() / w[labels == 0].sum())
        expected = {
            "pr_auc": average_precision_score(labels, scores, sample_weight=w),
            "pr_auc_balanced": average_precision_score(labels, scores, sample_weight=balanced),
            "auroc": roc_auc_score(labels, scores, sample_weight=w),
        }
        for name, function in (("f1", f1_score), ("recall", recall_score), ("precision", precision_score)):
            expected[name] = expected[f"{name}_at_threshold"] = function(labels, scores >= 0.5, sample_weight=w, zero_division=0)
        for name, value in expected.items():
            assert got[name][b] == pytest.approx(value, abs=1e-9), name


def test_a_group_weight_of_two_is_the_group_twice():
    rng = np.random.default_rng(0)
    labels, scores, groups = rng.integers(0, 2, 60), rng.random(60), rng.integers(0, 5, 60)
    weights = np.ones((5, 1))
    weights[3] = 2
    twice = np.concatenate([np.arange(60), np.flatnonzero(groups == 3)])
    for metric in metrics.METRICS:
        got = metrics.weighted(metric, labels, scores, groups, weights, 0.3)
        assert got == pytest.approx(metrics.weighted(metric, labels[twice], scores[twice], groups[twice], np.ones((5, 1)), 0.3))


# -- Tests and intervals -----------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_sign_flip_is_scipys_exact_permutation_test(n):
    differences = np.random.default_rng(n).normal(0.4, 1, n)
    expected = reference.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided",
    ).pvalue if n > 1 else 1.0
    # scipy doubles the smaller tail, ours takes |mean|: the same thing, as the signs are symmetric.
    assert stats.sign_flip(differences) == pytest.approx(expected)


def test_sign_flip_closed_forms():
    assert stats.sign_flip(np.full(10, 0.1)) == 2 / 2**10  # all equal and of one sign: the smallest p there is
    assert stats.sign_flip(np.zeros(10)) == 1
    assert stats.sign_flip([0.1, -0.1]) == 1


def test_sampled_sign_flip_comes_near_the_exact_one_and_is_never_zero():
    differences = np.random.default_rng(0).normal(0.5, 1, 14)
    exact, sampled = stats.sign_flip(differences), stats.sign_flip(differences, limit=5)
    assert sampled == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000))
    assert stats.sign_flip(np.full(40, 0.1)) == pytest.approx(1 / 20_000)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_of_bonferroni(p):
    got = stats.holm(p)
    for level in (0.01, 0.05, 0.3):
        # Holm (1979): go up the sorted p while p <= level / (hypotheses left), reject those passed.
        rejected = set()
        for left, i in zip(range(len(p), 0, -1), np.argsort(p, kind="stable")):
            if p[i] * left > level:
                break
            rejected.add(int(i))
        assert {i for i in range(len(p)) if got[i] <= level} == rejected


def test_holm_leaves_out_what_was_not_tested():
    got = stats.holm([0.01, np.nan, 0.04])
    assert got[[0, 2]] == pytest.approx([0.02, 0.04]) and np.isnan(got[1])


def test_expanded_interval_is_students_for_normal_means():
    # The bootstrap of a mean of n values is narrower by sqrt((n - 1) / n), and normal for n = 12.
    sample = np.random.default_rng(1).normal(0, 1, 12)
    low, high = stats.interval(stats.over_draws(np.repeat(sample[:, None], 40_000, 1)), 12)
    expected = reference.t.interval(0.95, 11, loc=sample.mean(), scale=reference.sem(sample))
    assert (high - low) == pytest.approx(expected[1] - expected[0], rel=0.06)


@pytest.mark.parametrize("effect", [0.05, 0.1])
def test_draws_needed_give_the_power_they_promise(effect):
    rng = np.random.default_rng(0)
    pilot = rng.normal(0, 1, 12)
    pilot *= 0.1 / pilot.std(ddof=1)  # s is .1 exactly
    needed = stats.draws_needed(pilot, effect)
    assert needed == max(10, int(np.ceil((2.8 * 0.1 / effect) ** 2)))
    if needed > 16:  # with a tiny number Student's t costs power
        p = [stats.sign_flip(rng.normal(effect, 0.1, needed), samples=2000) for _ in range(400)]
        assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.8, abs=3 * np.sqrt(0.16 / 400))


# -- Simulated studies: the same draws share images, groups are of unequal size -----------------------------

def simulated_differences(effect: float, evaluated_on: str, count: int, draws: int = 10, replicates: int = 0):
    """PR-AUC of one arm minus another: [count, draws, 1 + replicates], and the true mean over all draws."""
    rng = np.random.default_rng(5)
    table = simulate.population(1)
    labels, groups = table["label"].to_numpy(), pd.factorize(table["group"])[0]
    test = np.flatnonzero(table["partition"] == "test")
    made = [partitions.draw(table, number, 20) for number in range(120)]
    weights = np.hstack([np.ones((groups.max() + 1, 1)), rng.exponential(size=(groups.max() + 1, replicates))])
    every = []
    for block in range(8):  # eight data sets: other hidden qualities of the same images
        strength = simulate.strengths({("arm", 4.0): effect, ("real", 0.0): 0.0}, made, len(table), rng)
        for _ in range(count // 8):
            chosen = rng.choice(len(made), draws, replace=False)
            values = []
            for d in chosen:
                rows = test if evaluated_on == "test" else made[d].validation
                arm, real = (
                    metrics.weighted("pr_auc", labels[rows], simulate.scores_of(table, rows, strength[key][d], rng), groups[rows], weights)
                    for key in strength
                )
                values.append(arm - real)
            every.append(values)
    return np.array(every)


@pytest.mark.parametrize("evaluated_on", ["test", "validation"])
def test_false_positives_are_at_most_nominal_and_intervals_cover(evaluated_on):
    differences = simulated_differences(0.0, evaluated_on, count=200, replicates=100)
    p = np.array([stats.sign_flip(one[:, 0]) for one in differences])
    error = 3 * np.sqrt(0.05 * 0.95 / len(p))
    assert 0 < (p <= 0.05).mean() <= 0.05 + error
    bounds = np.array([stats.interval(stats.over_draws(one[:, 1:]), len(one)) for one in differences])
    assert ((bounds[:, 0] <= 0) & (bounds[:, 1] >= 0)).mean() >= 0.95 - error
    assert np.median(bounds[:, 1] - bounds[:, 0]) < 6 * differences[:, :, 0].std() / np.sqrt(10)  # and not by being endless


def test_power_is_that_of_students_t():
    differences = simulated_differences(0.45, "test", count=160)[:, :, 0]
    p = np.array([stats.sign_flip(one) for one in differences])
    mean, spread = differences.mean(), differences.std(axis=1, ddof=1).mean()
    shift, edge = mean / spread * np.sqrt(10), reference.t.ppf(0.975, 9)
    promised = reference.nct.sf(edge, 9, shift) + reference.nct.cdf(-edge, 9, shift)
    assert 0.3 < promised < 0.99  # the case says something
    assert (p <= 0.05).mean() == pytest.approx(promised, abs=0.12)


# -- Tables -----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def few():
    return simulate.study(arms=FEW, draws=10, seeds=2)


@pytest.fixture(scope="module")
def whole():
    return simulate.study(arms=simulate.SOME, draws=10)


def test_point_estimates_are_means_over_draws_of_means_over_seeds(few):
    cells, scores = few
    cells = cells[~((cells["draw"] == 3) & (cells["seed"] == 1))]  # a draw with one seed counts as much as one with two
    table = contrasts.curve(stats.resample(cells, scores)).set_index(["arm", "ratio"])
    expected = cells.groupby(["arm", "ratio", "draw"])["pr_auc"].mean().groupby(["arm", "ratio"]).mean()
    assert table["mean"].to_dict() == pytest.approx(expected.to_dict())
    assert (table["low"] < table["mean"]).all() and (table["mean"] < table["high"]).all()


def test_every_row_names_exactly_the_cells_behind_it(few):
    cells, scores = few
    study = stats.resample(cells, scores)
    for row in contrasts.curve(study).itertuples():
        expected = cells[(cells["arm"] == row.arm) & (cells["ratio"] == row.ratio)]["cell"].str[:12]
        assert sorted(row.cells.split(";")) == sorted(expected)
    row = contrasts.contrast(study, ("lora_filtered", 4.0), ("real", 0.0))
    assert len(row["cells"].split(";")) == 2 * 10 * 2


def test_contrasts_are_paired(few):
    cells, scores = few
    study = stats.resample(cells, scores)
    same = contrasts.contrast(study, ("real", 0.0), ("real", 0.0))
    assert same["difference"] == same["low"] == same["high"] == 0 and same["p"] == 1
    # Another arm with the same scores: with groups resampled apart, the interval would have a width.
    twins = cells[cells["arm"] == "real"].assign(arm="twin")
    twins["cell"] = [simulate.hexed(cell) for cell in twins["cell"]]
    doubled = scores[scores["cell"].isin(cells[cells["arm"] == "real"]["cell"])]
    doubled = doubled.assign(cell=doubled["cell"].map(simulate.hexed))
    study = stats.resample(pd.concat([cells, twins]), pd.concat([scores, doubled]))
    row = contrasts.contrast(study, ("twin", 0.0), ("real", 0.0))
    assert row["low"] == row["high"] == 0


def test_contrast_uses_the_draws_that_both_arms_have(few):
    cells, scores = few
    cells = cells[~((cells["arm"] == "real") & (cells["draw"] == 2))]
    row = contrasts.contrast(stats.resample(cells, scores), ("lora_filtered", 4.0), ("real", 0.0))
    wide = cells.groupby(["arm", "ratio", "draw"])["pr_auc"].mean().unstack()
    assert row["n_draws"] == 9 and np.isnan(row["p"]) and "illustration: 9 draws" in row["caution"]
    assert row["difference"] == pytest.approx((wide.loc[("lora_filtered", 4.0)] - wide.loc[("real", 0.0)]).mean())


def test_one_draw_has_an_interval_from_its_groups_and_says_so(few):
    cells, scores = few
    table = contrasts.curve(stats.resample(cells[cells["draw"] == 0], scores))
    assert (table["high"] > table["low"]).all()
    assert table["caution"].str.contains("illustration: 1 draw; interval from test groups alone").all()


def test_primary_takes_the_larger_p_and_holm_over_domains(few):
    gains = {**FEW, ("lora_filtered", 4.0): 1.2, ("duplicate", 4.0): 0.3}
    found = [stats.resample(*few), stats.resample(*simulate.study("tiles", arms=gains))]
    secondary = stats.resample(*simulate.study(arms=FEW, draws=2, rare_class="another"))
    table = contrasts.primary([*found, secondary]).set_index("domain")
    assert (table["p"] == table[["p_real", "p_duplicate"]].max(axis=1)).all()
    assert table["p_holm"].to_numpy() == pytest.approx(stats.holm(table["p"]))
    assert table["verdict"].to_dict() == {"elpv": "no evidence either way", "tiles": "better than both"}
    other = stats.resample(*simulate.study("tiles", arms=gains, classifier="resnet18"))
    assert contrasts.primary([found[0], other])["p_holm"].tolist() == contrasts.primary([found[0], other])["p"].tolist()  # families of their own


def test_primary_says_what_was_not_run_or_too_small(few):
    cells, scores = few
    assert contrasts.primary([stats.resample(cells[cells["arm"] != "duplicate"], scores)])["verdict"].tolist() == ["not run"]
    table = contrasts.primary([stats.resample(cells[cells["draw"] < 6], scores)])
    assert table["verdict"].tolist() == ["too few draws to test"] and table["p_holm"].isna().all()


def test_forest_adjusts_within_a_control_and_beating_means_each(whole):
    table = contrasts.forest(stats.resample(*whole))
    for _, family in table.groupby("control"):
        assert family["p_holm"].to_numpy() == pytest.approx(stats.holm(family["p"]))
    arms = table.groupby("arm")
    better = arms.apply(lambda rows: ((rows["p_holm"] < 0.05) & (rows["difference"] > 0)).all())
    assert arms["beats_controls"].first().to_dict() == better.to_dict()
    assert set(table.loc[table["control"] == "duplicate", "control_ratio"]) == {4.0}
    assert set(table.loc[table["control"] == "real", "control_ratio"]) == {0.0}


def test_exchange_rate_reads_the_curve_of_real_images_backwards():
    arms = {("real", 0.0): 0.0, ("real_more", 1.0): 0.8, ("real_more", 2.0): 1.6, ("lora", 4.0): 0.8, ("lora", 1.0): -1.0, ("lora", 20.0): 3.0}
    cells, scores = simulate.study(arms=arms, draws=12)
    table = contrasts.exchange_rate(stats.resample(cells, scores), "lora").set_index("ratio")
    row = table.loc[4.0]
    assert row["low"] <= 20 <= row["high"]  # as good as 1x more real: 20 shots
    means = cells.groupby(["arm", "ratio"])["pr_auc"].mean()
    known = means[[("real", 0.0), ("real_more", 1.0), ("real_more", 2.0)]].to_numpy()
    assert row["images"] == pytest.approx(np.exp(np.interp(means["lora", 4.0], known, np.log([20, 40, 60]))) - 20)
    assert table.loc[1.0, "beyond"] == "<=" and table.loc[1.0, "images"] == pytest.approx(0)
    assert table.loc[20.0, "beyond"] == ">=" and table.loc[20.0, "images"] == pytest.approx(40)


def test_what_is_no_better_than_the_shots_is_worth_no_image():
    """Not even where more real images happen to score worse, so that the monotone curve is flat."""
    arms = {("real", 0.0): 1.0, ("real_more", 1.0): 0.0, ("real_more", 2.0): 1.0}
    row = contrasts.exchange_rate(stats.resample(*simulate.study(arms=arms, draws=12)), "real").iloc[0]
    assert row["images"] == row["low"] == row["high"] == 0 and row["beyond"] == "<="


def test_monotone_is_isotonic_regression():
    values = np.random.default_rng(0).normal(np.arange(5), 2, (30, 5))
    for row, got in zip(values, contrasts.monotone(values)):
        assert got == pytest.approx(isotonic_regression(row))


def test_pr_curve_is_the_precision_where_a_recall_is_first_reached(few):
    cells, scores = few
    one = cells[(cells["draw"] == 0) & (cells["seed"] == 0)]
    table = contrasts.pr_curves(one, scores, [("real", 0.0)], replicates=20)
    cell = one[one["arm"] == "real"]["cell"].iloc[0]
    part = scores[(scores["cell"] == cell) & (scores["partition"] == "test")]
    labels, values = part["label"].to_numpy(), part["score"].to_numpy()
    for row in table.iloc[::7].itertuples():
        cut = max(t for t in values if (values[labels == 1] >= t).mean() >= row.recall - 1e-9)
        assert row.precision == pytest.approx(precision_score(labels, values >= cut))
    assert ((table["low"] <= table["high"])).all()


def test_choose_ratio_takes_the_best_and_of_equals_the_smallest():
    good, bad = ([0, 0, 1], [0.1, 0.2, 0.9]), ([0, 0, 1], [0.1, 0.9, 0.2])
    assert contrasts.choose_ratio({10.0: good, 4.0: good, 0.0: bad}) == 4.0
    with pytest.raises(StudyError, match="no ratio"):
        contrasts.choose_ratio({})


def test_regret_is_zero_where_one_ratio_is_far_better_and_not_read_off_the_choosing_cells():
    arms = {("real", 0.0): -2.0, ("lora", 4.0): 4.0, ("lora", 20.0): -3.0}
    cells, scores = simulate.study(arms=arms, draws=4, seeds=2)
    table = contrasts.regret(cells, scores, "lora")
    assert (table["chosen"] == 4.0).all() and (table["regret"] == 0).all() and table["honest"].all()
    value = cells[(cells["ratio"] == 4.0) & (cells["draw"] == 1)].set_index("seed")["pr_auc"]
    found = table[table["draw"] == 1].set_index("seed")["value"]
    assert found[0] == pytest.approx(value[1]) and found[1] == pytest.approx(value[0])
    assert contrasts.regret_summary(table)["regret"] == 0


def test_regret_on_validation_alone_leaves_out_the_images_that_chose():
    cells, scores = simulate.study(arms={("real", 0.0): 0.0, ("lora", 4.0): 0.5}, draws=3, evaluated_on="validation")
    table = contrasts.regret(cells, scores, "lora")
    assert table["honest"].all()
    unmarked = scores.assign(partition="validation")
    assert not contrasts.regret(cells, unmarked, "lora")["honest"].any()
    row = table.iloc[0]
    cell = cells[(cells["ratio"] == row["chosen"]) & (cells["draw"] == row["draw"])]["cell"].iloc[0]
    part = scores[(scores["cell"] == cell) & (scores["partition"] == "validation")]
    assert row["value"] == pytest.approx(metrics.score(part["label"], part["score"], None)["pr_auc"])


def test_pool_gains_are_against_the_same_draw_and_ratio(whole):
    cells, _ = whole
    pools = pd.DataFrame({"pool": cells["pool"][cells["pool"] != ""].unique()})
    pools["kid"] = np.arange(len(pools)) / 10
    gains = contrasts.pool_gains(cells, pools)
    row = gains[(gains["arm"] == "lora") & (gains["ratio"] == 4.0)].iloc[3]
    value = cells[cells["draw"] == row["draw"]].set_index(["arm", "ratio"])["pr_auc"]
    assert row["gain"] == pytest.approx(value["lora", 4.0] - value["duplicate", 4.0])
    assert -1 <= contrasts.correlation(gains, "kid")["rho"] <= 1
    with pytest.raises(StudyError, match="pools.csv"):
        contrasts.pool_gains(cells, pd.concat([pools, pools]))


def test_ratio_table_keeps_studies_apart(few):
    cells, scores = few
    other, others = simulate.study(arms=FEW, draws=10, seeds=2, classifier="resnet18")
    both = contrasts.ratio_table(pd.concat([cells, other]), pd.concat([scores, others]))
    alone = contrasts.ratio_table(cells, scores)
    assert set(both["classifier"]) == {"probe", "resnet18"} and "classifier" not in alone
    assert both[both["classifier"] == "probe"]["pr_auc"].tolist() == alone["pr_auc"].tolist()
    real = cells[cells["arm"] == "real"]
    assert alone[alone["arm"] == "real"]["recall"].iloc[0] == pytest.approx(real["recall"].mean())


def test_worst_errors_come_first(few):
    cells, scores = few
    table = contrasts.worst(scores, cells["cell"].iloc[0], 5)
    ours = scores[scores["cell"] == cells["cell"].iloc[0]]
    assert table["error"].tolist() == sorted((ours["score"] - ours["label"]).abs(), reverse=True)[:5]


# -- Bad input ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("column, values", [
    ("protocol", ("group", "image")), ("image_size", (64, 128)), ("base", ("0123456789ab", "ba9876543210")), ("n_real", (20, 40)),
    ("evaluated_on", ("test", "validation")), ("classifier", ("probe", "resnet18")), ("domain", ("elpv", "tiles")),
])
def test_cells_that_differ_are_never_averaged(few, column, values):
    cells, scores = few
    mixed = cells.copy()
    mixed.loc[mixed["draw"] == 1, column] = values[1]
    if column == "base":
        mixed.loc[mixed["arm"].isin(["real", "duplicate"]), column] = ""
    with pytest.raises(StudyError, match=column):
        stats.resample(mixed, scores)
    parts = results.studies(mixed)
    assert len(parts) == 2 and all(results.setting(part)[column] in values for part in parts)


def test_plain_arms_belong_to_every_pool_setting(few):
    cells, _ = few
    other = cells[cells["base"] != ""].assign(mode="image")
    parts = results.studies(pd.concat([cells, other]))
    assert [part["arm"].eq("real").sum() for part in parts] == [20, 20]
    assert [results.setting(part)["mode"] for part in parts] == ["image", "text"]


def test_tables_read_back_as_written(few, tmp_path):
    cells, scores = few
    read_cells, read_scores = results.read(simulate.write(tmp_path, cells, scores))
    pd.testing.assert_frame_equal(read_cells, cells, check_dtype=False)
    assert (read_scores["score"].to_numpy() == scores["score"].to_numpy()).all()


def edited(cells, column, value):
    """The cells with one value of the file's line 6 changed."""
    cells = cells.astype({column: object})
    cells.loc[cells.index[4], column] = value
    return cells


@pytest.mark.parametrize("change, word", [
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
    (lambda c, s: (c, s.assign(label=s["label"].where(s["cell"] != c["cell"].iloc[0], 0))), "no images of both classes"),
])
def test_tables_edited_by_hand_are_noticed(few, tmp_path, change, word):
    with pytest.raises(StudyError, match=word) as caught:
        results.read(simulate.write(tmp_path, *change(*few)))
    assert "\n" not in str(caught.value)


def test_missing_and_damaged_tables_are_named(few, tmp_path):
    with pytest.raises(StudyError, match="make study"):
        results.read(tmp_path)
    simulate.write(tmp_path, *few)
    (tmp_path / "scores.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(StudyError, match="cannot be read"):
        results.read(tmp_path)


@pytest.mark.parametrize("call, word", [
    (lambda c, s: stats.resample(c, s, "accuracy"), "unknown metric"),
    (lambda c, s: stats.resample(c.iloc[:0], s), "no cells"),
    (lambda c, s: stats.sign_flip([]), "finite differences"),
    (lambda c, s: stats.sign_flip([0.1, np.nan]), "finite differences"),
    (lambda c, s: stats.draws_needed([0.1]), "pilot"),
    (lambda c, s: contrasts.regret(c[c["draw"] == 0], s, "lora_filtered"), "2 draws"),
    (lambda c, s: contrasts.primary([stats.resample(c, s, "auroc")]), "pr_auc"),
])
def test_what_cannot_be_computed_is_refused(few, call, word):
    with pytest.raises(StudyError, match=word):
        call(*few)


def test_a_single_group_is_said_and_not_hidden(few):
    cells, scores = few
    table = contrasts.curve(stats.resample(cells[cells["draw"] == 0], scores.assign(group="only")))
    assert table["low"].isna().all() and table["caution"].str.contains("only 1 group").all()


def test_columns_are_those_the_sweep_writes():
    from fsl_utils import cells as sweep

    assert sorted(sweep.COLUMNS) == sorted(results.COLUMNS)
