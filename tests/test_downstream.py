"""The search by downstream score: what it refuses, a planted best way, a small one to its table."""

import pandas as pd
import pytest

from fsl_utils import ROOT, StudyError
from fsl_utils.study import downstream


def test_shipped_files_are_valid():
    files = sorted((ROOT / "notebooks" / "searches" / "downstream").glob("*.yaml"))
    assert files and all(downstream.read(path).trials for path in files)


@pytest.mark.parametrize(
    "text, words",
    [
        ("trails: 3", "unknown key 'trails'"),
        ("trials: 0", "trials is 0"),
        ("gate: 1.0", "gate is 1.0"),
        ("draws: [1]", r"draws \[1\] choose and confirm"),
        ("parameters: {domian: elpv}", "domian"),
        ("guidance: 3", "guidance is 3"),
        ("- 1", "a search file is a map"),
    ],
)
def test_a_faulty_file_is_refused_before_it_runs(tmp_path, text, words):
    path = tmp_path / "search.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=words):
        downstream.read(path)


def test_tpe_finds_a_planted_way_and_all_rules_are_reported():
    search = downstream.Downstream(trials=40)

    def score(way):
        near = -(((way["steps"] - 30) / 30) ** 2) - (way["guidance"] - 2.2) ** 2
        return {"chosen": near, "rest": near, "whole": near}

    trials, taken = downstream.choose(search, score)
    assert list(taken["rule"]) == ["defaults", "random", "tpe"]
    assert trials["rule"].value_counts().to_dict() == {"tpe": 40, "random": 40, "defaults": 1}
    best = taken.set_index("rule")
    assert abs(best.loc["tpe", "guidance"] - 2.2) < 0.2 and best.loc["tpe", "chosen"] > -0.02
    assert (trials["gate"] < trials["steps"]).all()
    ways = [trials.loc[trials["rule"] == rule, downstream.WAY] for rule in downstream.RULES]
    alike = (ways[0].to_numpy() == ways[1].to_numpy()).all(axis=1)
    assert alike[:13].all() and not alike[13:].any()  # TPE is random search for a third of it alone
    again, _ = downstream.choose(search, score)
    pd.testing.assert_frame_equal(trials, again)  # the same seed, the same trials


def test_what_is_taken_is_compared_on_other_draws_alone():
    taken = pd.DataFrame({"rule": ["defaults", "random", "tpe"], "steps": [20, 30, 40]})
    taken = taken.assign(gate=0, guidance=1.0)

    def score(way):  # random search finds .01 more than the defaults, TPE .03, on every draw
        gained = {20: 0.0, 30: 0.01, 40: 0.03}[way["steps"]]
        return pd.DataFrame({"whole": [0.5 + 0.02 * n + gained for n in range(10)]}, range(3, 13))

    others = downstream.confirmed(taken, score)
    assert list(others["draw"].unique()) == list(range(3, 13)) and len(others) == 30
    changes = downstream.contrasts(others).set_index(["rule", "minus"])
    assert changes["difference"].round(6).to_dict() == {
        ("random", "defaults"): 0.01,
        ("tpe", "defaults"): 0.03,
        ("tpe", "random"): 0.02,
    }
    assert set(changes["verdict"]) == {"more"}


@pytest.mark.slow
def test_a_small_search(tmp_path, own_store):
    path, out = tmp_path / "small.yaml", tmp_path / "out" / "small"
    path.write_text(
        "{parameters: {n_real: 10, adapter_steps: 2}, ratio: 0.4, trials: 1, steps: [2, 3]}"
    )
    downstream.main([str(path), "--out", str(out), "--device", "cpu"])
    ends = ("", "_taken", "_confirmed", "_compared")
    trials, taken, others, changes = (pd.read_csv(f"{out}{end}.csv") for end in ends)
    assert len(trials) == len(taken) == len(others) == len(changes) == 3
    assert taken[["chosen", "rest", "whole"]].apply(lambda c: c.between(0, 1)).all(None)
    assert others["pr_auc"].between(0, 1).all()
