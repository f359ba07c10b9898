"""Tries of a search beside its first one, on made tables."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from fsl_utils.analysis import searches


def table(draws=10, shift=0.3):
    """`gate 8` is the defaults and .01 more or less, in turn; `diversity 1` is `shift` more."""
    rng, rows = np.random.default_rng(0), []
    for draw in range(draws):
        plain = 1 + rng.normal(0, 0.05, len(searches.MEASURES))
        more = shift + rng.normal(0, 0.05, len(searches.MEASURES))
        for name, change in (
            ("defaults", 0),
            ("gate 8", 0.01 * (-1) ** draw),
            ("diversity 1", more),
        ):
            values = dict(zip(searches.MEASURES, plain + change))
            kid = 0.1 * draw + (0.2 if name == "diversity 1" else 0)
            rows.append({"try": name, "draw": draw} | values | {"kid": kid})
    return pd.DataFrame(rows)


def test_a_planted_change_is_shown_and_no_other():
    rows = searches.compared(table())
    assert list(rows["measure"].unique()) == list(searches.MEASURES) and len(rows) == 10
    shown = rows[rows["verdict"] == "more"]
    assert set(shown["try"]) == {"diversity 1"} and len(shown) == 5
    assert (rows[rows["try"] == "gate 8"]["verdict"] == "cannot tell").all()


def test_draws_are_paired():
    """KID differs by draw ten times as much as by try, and by try always alike."""
    row = searches.compared(table()).set_index(["measure", "try"]).loc[("kid", "diversity 1")]
    assert row["difference"] == pytest.approx(0.2) and row["low"] == pytest.approx(0.2)
    assert row["p"] == pytest.approx(2 / 2**10) and row["first"] == pytest.approx(0.45)


def test_the_interval_is_near_students():
    made = table(draws=10)
    row = searches.compared(made).set_index(["measure", "try"]).loc[("called_rare", "diversity 1")]
    wide = made.pivot(index="draw", columns="try", values="called_rare")
    difference = wide["diversity 1"] - wide["defaults"]
    half = t.ppf(0.975, 9) * difference.std() / 10**0.5
    assert row["high"] - row["low"] == pytest.approx(2 * half, rel=0.15)


def test_few_draws_are_not_tested_and_one_try_has_nothing_beside_it():
    few = searches.compared(table(draws=3))
    assert few["p"].isna().all() and (few["verdict"] == "not tested").all()
    made = table()
    assert searches.compared(made[made["try"] == "defaults"]).empty
    apart = made[(made["try"] == "defaults") == (made["draw"] < 5)]
    assert searches.compared(apart).empty
