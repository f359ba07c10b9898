"""Successive halving and the one-standard-error rule, on planted curves and in closed form."""

import numpy as np
import pytest

from fsl_utils import halving

RATIOS = [0.5, 1.0, 2.0, 4.0, 10.0, 20.0]


def sure(value):
    """A score without any noise."""
    return np.full(5, float(value))


def curve(peak, height=0.1):
    """A score of a ratio that rises to `peak` and falls beyond it."""
    return lambda ratio: sure(0.5 + height * (1 - abs(np.log(ratio / peak)) / 10))


@pytest.mark.parametrize("peak", RATIOS)
@pytest.mark.parametrize("better", ["rare", "both"])
def test_it_finds_a_planted_recipe_and_ratio(peak, better):
    curves = {name: curve(peak, 0.2 if name == better else 0.1) for name in ("rare", "both")}
    scored = halving.search(sure(0.5), list(curves), RATIOS, lambda name, r: curves[name](r))
    assert halving.choose(scored) == (better, peak)
    # the worse recipe is tried once, the better one to the first ratio that brings nothing
    assert len(scored) == 2 + min(RATIOS.index(peak) + 2, len(RATIOS))


def test_where_nothing_helps_it_stops_at_once_and_stays_at_0x():
    asked = []

    def score(name, ratio):
        asked.append((name, ratio))
        return sure(0.5)

    scored = halving.search(sure(0.5), ["rare", "both"], RATIOS, score)
    assert asked == [("rare", 0.5), ("both", 0.5)]
    assert halving.choose(scored) == ("real", 0.0)


def test_half_of_the_recipes_go_on():
    names = list("abcde")
    scored = halving.search(
        sure(0), names, [1, 2, 4, 10], lambda name, ratio: sure(names.index(name) + ratio)
    )
    rungs = [sorted(name for name, r in scored if r == ratio) for ratio in (1, 2, 4, 10)]
    assert rungs == [list("abcde"), list("cde"), list("de"), list("e")]


def test_the_standard_error_is_that_of_the_paired_difference():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 1, 100)  # an easy group is easy for all: no reason to doubt an order
    own = rng.normal(0, 0.01, 100)
    scored = {("real", 0.0): np.append(0.5, shared), ("lora", 4.0): np.append(0.6, shared + own)}
    apart, error = halving.behind(scored)["real", 0.0]
    assert apart == pytest.approx(0.1) and error == pytest.approx(np.std(own, ddof=1))
    assert halving.choose(scored) == ("lora", 4.0)


@pytest.mark.parametrize(("gap", "taken"), [(0.9, ("lora", 1.0)), (1.1, ("lora", 4.0))])
def test_the_smallest_ratio_within_one_standard_error_is_taken(gap, taken):
    noise = np.array([-1.0, 1.0, 0.0])  # standard deviation 1
    scored = {
        ("lora", 4.0): np.append(10, np.zeros(3)),
        ("lora", 1.0): np.append(10 - gap, noise),
        ("synth_both", 1.0): np.append(10 - gap, noise),  # of equals the one named first
        ("real", 0.0): np.append(5, noise),
    }
    assert halving.choose(scored) == taken


def test_noise_alone_seldom_leads_away_from_0x():
    rng = np.random.default_rng(1)
    left = 0
    for _ in range(300):
        # Ratios on the same groups: what they share cancels, what is their own does not.
        values = {}

        def score(name, ratio, values=values):
            true = rng.normal(0, 0.03)
            values[name, ratio] = np.append(true, true + rng.normal(0, 0.03, 50))
            return values[name, ratio]

        scored = halving.search(np.append(0, rng.normal(0, 0.03, 50)), ["a", "b"], RATIOS, score)
        left += halving.choose(scored) != ("real", 0.0)
    assert left / 300 < 0.5
