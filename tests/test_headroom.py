"""Headroom on simulated studies whose truth is known, and against scipy and closed forms."""

import numpy as np
import pandas as pd
import pytest
import simulate
from scipy import stats

from fsl_utils import StudyError
from fsl_utils.analysis import headroom, resampling, tables

SHOTS = (5, 10, 20, 40)
PAIR = ("arm", 4.0), ("real", 0.0)


def strength(images: int, more: float) -> float:
    """What a classifier gains by its number of real rare images: a power law."""
    return more * (1 - (images / 5) ** -0.7) - 1.2


def real_alone(more: float, draws: int = 10, **setting) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells of `real` at SHOTS, and of `real_more` at 20 shots, of a simulated study."""
    arms = {n: {("real", 0.0): strength(n, more)} for n in SHOTS}
    arms[20] |= {("real_more", r): strength(round(20 * (1 + r)), more) for r in (1.0, 2.0)}
    parts = [simulate.study(arms=arms[n], n_real=n, draws=draws, **setting) for n in SHOTS]
    return tuple(pd.concat(both, ignore_index=True) for both in zip(*parts))


@pytest.fixture(scope="module")
def rising():
    return real_alone(2.0, draws=14)


def test_the_learning_curve_is_over_all_real_images(rising):
    cells, scores = rising
    curve = headroom.learning_curves(cells, scores).set_index("images")
    assert curve.index.tolist() == [5, 10, 20, 40, 60]
    real = cells[cells["arm"] == "real"].groupby("n_real")["pr_auc"].mean()
    assert curve.loc[40, "mean"] == pytest.approx(real[40])  # `real` counts where both have it
    more = cells[(cells["arm"] == "real_more") & (cells["ratio"] == 2)]
    assert curve.loc[60, "mean"] == pytest.approx(more["pr_auc"].mean())
    assert curve["no_skill"].to_numpy() == pytest.approx(cells["prevalence"].mean())


def test_measured_gain_is_the_paired_difference(rising):
    cells, scores = rising
    row = headroom.room(cells, scores, further=40).query("shots == 20").iloc[0]
    wide = cells.groupby(["arm", "ratio", "n_real"])["pr_auc"].mean()
    assert row["measured"] and row["verdict"] == "room"
    assert row["difference"] == pytest.approx(wide["real_more", 2.0, 20] - wide["real", 0.0, 20])
    assert "there is room" in headroom.in_words(row)


def test_extrapolation_covers_what_further_images_bring():
    """The gain from 20 to 200 images, known from a simulation, out of what 60 images show."""
    covered = []
    for seed in range(4):
        row = headroom.room(*real_alone(2.0, seed=seed), further=180).set_index("shots").loc[20]
        truth = [
            simulate.study(arms={("real", 0.0): strength(n, 2.0)}, n_real=20, draws=10, seed=seed)
            for n in (20, 200)
        ]
        small, large = (cells["pr_auc"].mean() for cells, _ in truth)
        assert not row["measured"]
        covered.append(row["low"] <= large - small <= row["high"])
    assert sum(covered) >= 3  # of 4 with 95 % each: fewer have a probability of .014


def test_where_images_bring_nothing_there_is_no_room():
    table = headroom.room(*real_alone(0.0, draws=12), further=40).set_index("shots")
    assert table.loc[20, "verdict"] != "room" and table.loc[20, "low"] < 0


def test_too_little_to_go_by_is_said():
    cells, scores = simulate.study(arms={("real", 0.0): 0.0}, draws=3)
    row = headroom.room(cells, scores).iloc[0]
    assert row["verdict"] == "not known" and "three numbers" in headroom.in_words(row)
    with pytest.raises(StudyError, match="run them first"):
        headroom.over_images(cells.assign(arm="lora"), scores)


def law(images, a, b, c):
    return a - b * (images / 5) ** -c


def test_power_law_finds_a_law_and_is_the_least_squares_fit():
    images = np.array([5.0, 10, 20, 40, 80])
    truth = 0.9, 0.5, headroom.EXPONENTS[20]
    got = headroom.power_law(images, law(images, *truth)[None], np.array([1000.0]))
    assert got[0, 0] == pytest.approx(law(1000, *truth))
    noisy = law(images, *truth) + np.random.default_rng(0).normal(0, 0.01, (4, 5))
    for row, fitted in zip(noisy, headroom.power_law(images, noisy, images)):
        least = min(
            np.polyfit((images / 5) ** -c, row, 1, full=True)[1][0] for c in headroom.EXPONENTS
        )
        assert ((row - fitted) ** 2).sum() == pytest.approx(least)


def test_a_falling_curve_is_taken_as_flat():
    values = np.array([[0.6, 0.5, 0.4]])
    got = headroom.power_law(np.array([5.0, 10, 20]), values, np.array([5.0, 100.0]))
    assert got[0] == pytest.approx([0.5, 0.5])


def paired(differences: np.ndarray, groups_spread: float) -> resampling.Resampled:
    """A study whose arm differs from `real` by `differences` [D], with a spread over 30 groups."""
    points = pd.DataFrame([differences, 0 * differences], index=pd.MultiIndex.from_tuples(PAIR))
    noise = np.random.default_rng(0).normal(0, groups_spread, 4000)
    replicates = dict(
        zip(PAIR, (differences[:, None] + noise, 0 * differences[:, None] + 0 * noise))
    )
    names = dict.fromkeys(tables.TASK_COLUMNS + tables.POOL_COLUMNS, "")
    cells = {key: {draw: [] for draw in points} for key in PAIR}
    return resampling.Resampled(
        names, "pr_auc", points, replicates, cells, 1, {"n_rare_groups": 30}, 30
    )


def test_detectable_has_the_power_it_promises():
    rng = np.random.default_rng(0)
    pilot = rng.normal(0, 1, 12)
    pilot *= 0.1 / pilot.std(ddof=1)
    smallest = headroom.detectable(paired(pilot, 0.0), *PAIR)
    p = stats.ttest_1samp(rng.normal(smallest, 0.1, (4000, 12)), 0, axis=1).pvalue
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.03)


def test_more_draws_do_not_help_against_few_groups():
    study = paired(np.random.default_rng(0).normal(0, 0.2, 12), 0.03)
    many = headroom.detectable(study, *PAIR, draws=10**6)
    students = stats.t.ppf(0.975, 29) + stats.t.ppf(
        0.8, 29
    )  # all of the spread is that of 30 groups
    assert many == pytest.approx(students * 0.03, rel=0.03)
    assert headroom.draws_needed(study, *PAIR, effect=many / 2) == np.inf
    needed = headroom.draws_needed(study, *PAIR, effect=many * 1.2)
    assert headroom.detectable(study, *PAIR, needed) <= many * 1.2
    assert headroom.detectable(study, *PAIR, needed - 1) > many * 1.2
