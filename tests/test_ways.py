"""A pilot chooses a free and a synthetic way, a study confirms: on simulated studies."""

import numpy as np
import pandas as pd
import pytest
import simulate
from sklearn.metrics import average_precision_score

from fsl_utils import StudyError
from fsl_utils.analysis import contrasts, ways
from fsl_utils.analysis.resampling import resample
from fsl_utils.analysis.ways import Way
from fsl_utils.study import second

REAL, MORE = ("real", 0.0), ("real_more", 4.0)
FREE, LORA, BOTH = ("calibrated", 4.0), ("lora", 4.0), ("synth_both", 1.0)
ARMS = {REAL: 0.0, FREE: 0.3, LORA: 0.3, BOTH: 0.0, MORE: 2.0, ("real_base", 1.0): 0.0}


def simulated(arms, **setting):
    return simulate.study(arms=arms, **setting)


def together(*studies):
    return tuple(pd.concat(parts, ignore_index=True) for parts in zip(*studies))


def both_classifiers(draws=10, seed=0, whitened=0.0, **setting):
    """The arms by two classifiers, the second of which is better by `whitened`."""
    better = {name: gain + whitened for name, gain in ARMS.items()}
    return together(
        simulated(ARMS, draws=draws, seed=seed, **setting),
        simulated(better, draws=draws, seed=seed, classifier="whitened", **setting),
    )


@pytest.fixture(scope="module")
def pilot():
    return both_classifiers(evaluated_on="validation", whitened=1.0)


def test_the_best_free_and_synthetic_ways_are_found_over_classifiers(pilot):
    chosen = ways.choose(*pilot).set_index("role")
    assert list(chosen["classifier"]) == ["whitened", "whitened"]
    mean = pilot[0].groupby(["classifier", "arm", "ratio"])["pr_auc"].mean()["whitened"]
    for role, keys in {"free": [REAL, FREE], "synthetic": [LORA, BOTH]}.items():
        row = chosen.loc[role]
        assert row["level"] >= mean[keys].max() - ways.TIE
        assert row["level"] == pytest.approx(mean[row["arm"], row["ratio"]])
    assert chosen["draws"].between(10, 20).all() and (chosen["n_draws"] == 10).all()


def test_more_real_images_are_nobodys_rival(pilot):
    assert ways.choose(*pilot)["arm"].ne("real_more").all()


@pytest.mark.parametrize(
    "levels, expected",
    [((0.801, 0.8, 0.7), "real"), ((0.803, 0.8, 0.7), "far"), ((0.8, 0.8, 0.801), "real")],
)
def test_of_ways_as_good_the_cheaper_is_chosen(levels, expected):
    keys = [("far", 4.0), ("real", 0.0), ("slow", 0.0)]
    seconds = pd.Series([1.0, 1.0, 9.0], keys)
    assert ways.cheapest(keys, pd.Series(levels, keys), seconds)[0] == expected


def test_a_way_that_lacks_a_draw_is_not_chosen(pilot):
    cells, scores = pilot
    best = ways.choose(cells, scores).query("role == 'free'").iloc[0]
    lost = (cells["classifier"] == best["classifier"]) & (cells["arm"] == best["arm"])
    again = ways.choose(cells[~(lost & (cells["draw"] == 3))], scores)
    assert again.query("role == 'free'")["arm"].iloc[0] != best["arm"]


def test_the_primary_contrast_is_the_paired_one_of_the_chosen_pair(pilot):
    cells, scores = both_classifiers(seed=5, whitened=1.0)
    chosen = ways.choose(*pilot)
    row = ways.confirm(chosen, ways.studies(cells, scores)).iloc[0]
    one = cells[cells["classifier"] == "whitened"]
    free, made = (chosen.set_index("role").loc[role] for role in ("free", "synthetic"))
    pair = [(way["arm"], way["ratio"]) for way in (made, free)]
    alone = contrasts.contrast(resample(one, scores), *pair)
    for name in ("difference", "low", "high", "p", "n_draws"):
        assert row[name] == pytest.approx(alone[name]), name
    assert row["level"] - row["control_level"] == pytest.approx(row["difference"])
    assert row["p_holm"] == row["p"]


def test_secondary_contrasts_are_of_one_classifier_and_weight():
    new = {"backbone": "mini128", "base": "0123456789ab"}
    study = together(
        simulated({("real_base", 1.0): 0.0, REAL: 0.0}),
        simulated({BOTH: 0.0, LORA: 0.0, ("lora_base", 1.0): 0.0}, **new),
        simulated({LORA: 0.5, ("synth_both", 4.0): 0.0}, synthetic_weight=0.2, **new),
        simulated({LORA: -1.0}, image_size=32),
    )
    rows = ways.secondary(ways.studies(*study))
    assert rows.groupby("question").size().to_dict() == {"commons": 2, "harmless": 2, "pixels": 1}
    assert all(
        Way.of(row.arm).weight == 0.2 for row in rows.query("question == 'harmless'").itertuples()
    )
    pixels = rows.query("question == 'pixels'").iloc[0]
    assert Way.of(pixels["control"]).backbone == "mini" and pixels["difference"] > 0
    harmless = rows.query("question == 'harmless'")
    assert list(harmless["held"]) == list(harmless["low"] > ways.HARM)


def test_where_only_the_shots_were_run_nothing_is_compared():
    [study] = ways.studies(*simulated({REAL: 0.0})).values()
    assert ways.added(study).empty
    assert ways.against(study, next(iter(study.replicates))).empty


def test_each_is_compared_with_the_shots_of_its_own_classifier():
    [study] = ways.studies(*both_classifiers(whitened=1.0)).values()
    added = ways.added(study)
    ways_of = added["arm"].map(Way.of), added["control"].map(Way.of)
    assert all(way.classifier == plain.classifier for way, plain in zip(*ways_of))
    for _, rows in added.groupby("control"):
        assert len(rows) == len(ARMS) - 1 and rows["difference"].is_monotonic_decreasing
        assert rows["p_holm"].tolist() == contrasts.holm(rows["p"]).tolist()


def test_an_ensemble_ranks_by_the_mean_rank_of_its_members():
    cells, scores = both_classifiers(draws=2)
    more, told = ways.with_ensembles(cells, scores)
    row = more[(more["classifier"] == "ensemble") & (more["draw"] == 1)].iloc[0]
    members = cells.query("arm == 'real' and draw == 1")["cell"]
    part = scores[scores["cell"].isin(members) & (scores["partition"] == "test")]
    ranks = part.pivot(index="image", columns="cell", values="score").rank().mean(axis=1)
    label = part.drop_duplicates("image").set_index("image")["label"]
    study = ways.studies(more, told)[20]
    value = study.points.loc[Way("ensemble", "real").name, 0.0][1]
    assert value == pytest.approx(average_precision_score(label[ranks.index], ranks))
    assert len(more) == len(cells) + 2 and row["arm"] == "real"


def test_ways_of_two_tasks_are_refused():
    mixed = together(
        simulated({REAL: 0.0}, draws=2), simulated({REAL: 0.0}, domain="tiles", draws=2)
    )
    with pytest.raises(StudyError, match="domain is elpv, tiles"):
        ways.studies(*mixed)


def test_the_page_names_the_choice_and_the_verdict(tmp_path):
    pilot = both_classifiers(draws=2, evaluated_on="validation", whitened=1.0)
    folders = [
        simulate.write(tmp_path / name, *study)
        for name, study in (("pilot", pilot), ("study", both_classifiers(draws=2, seed=5)))
    ]
    text = second.write(folders, tmp_path / "out")
    assert "whitened" in text and "## Primary contrasts" in text and "confirms anything" not in text
    assert (tmp_path / "out" / "out.md").read_text() == text
    written = pd.read_csv(tmp_path / "out" / "primary.csv")
    assert np.isfinite(written["difference"]).all() and written["cells"].str.count(";").eq(3).all()
    assert (tmp_path / "out" / "ways.png").stat().st_size > 5000
    alone = second.write(folders[:1], tmp_path / "alone")
    assert "no contrast confirms anything" in alone and "pilot" in alone.splitlines()[0]
