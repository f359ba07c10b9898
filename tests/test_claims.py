"""The paper's claims on simulated studies whose truth is known."""

import pandas as pd
import pytest
import simulate

from fsl_utils.analysis import claims, resampling

TRUTH = {
    ("real", 0.0): 0.0,
    ("lora", 0.5): 0.2,
    ("lora", 4.0): 2.0,
    ("lora", 20.0): 2.0,
}  # rises until 4x, then no more


@pytest.fixture(scope="module")
def table():
    (cells, scores), (others, more) = (
        simulate.study(arms=TRUTH, draws=10),
        simulate.study("tiles", arms={("real", 0.0): 0.0, ("lora", 4.0): -2.0}, draws=10),
    )
    return cells, claims.paper_claims(
        pd.concat([cells, others]), pd.concat([scores, more])
    ).set_index(["claim", "domain"])


def test_verdicts_follow_the_truth(table):
    verdict = table[1]["verdict"]
    assert (
        verdict["PR-AUC rises", "elpv"] == "holds"
        and verdict["PR-AUC rises", "tiles"] == "does not"
    )
    assert verdict["moderate is best: 4x over 20x, F1 at .5", "elpv"] == "cannot tell"


def test_a_claim_is_a_weighted_sum_of_means_over_draws(table):
    cells, found = table
    f1 = cells.groupby(["arm", "ratio"])["f1"].mean()
    row = found.loc[("returns diminish: 0 to 4x adds more than 4x to 20x, F1 at .5", "elpv")]
    assert row["difference"] == pytest.approx(
        2 * f1["lora", 4.0] - f1["real", 0.0] - f1["lora", 20.0]
    )
    assert row["n_draws"] == 10 and len(row["cells"].split(";")) == 30


def test_what_was_not_run_is_left_out_and_holm_is_over_domains(table):
    found = table[1]
    assert "tiles" not in found.loc["moderate is best: 4x over .5x, F1 at .5"].index
    rises = found.loc["PR-AUC rises"]
    assert rises["p_holm"].to_numpy() == pytest.approx(resampling.holm(rises["p"]))


def test_nothing_to_say_is_an_empty_table():
    assert claims.paper_claims(*simulate.study(arms={("real", 0.0): 0.0}, draws=2)).empty
