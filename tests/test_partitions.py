"""Properties of partitions and draws over random tables: nothing leaks, whatever the groups."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsl_utils import StudyError
from fsl_utils.data import partitions


@st.composite
def tables(draw_from):
    """A domain's table with groups of any size, class mixture and stratum."""
    rng = np.random.default_rng(draw_from(st.integers(0, 2**32)))
    n_groups = draw_from(st.integers(1, 60))
    sizes = rng.integers(1, draw_from(st.integers(2, 12)), n_groups)
    rare = rng.random(n_groups) * draw_from(st.floats(0, 1))
    group = np.repeat(np.arange(n_groups), sizes)
    table = pd.DataFrame(
        {
            "image": [f"i{i:04d}" for i in range(len(group))],
            "group": [f"g{g:03d}" for g in group],
            "stratum": np.array(["a", "b", "c"])[rng.integers(0, 3, n_groups)][group],
            "label": (rng.random(len(group)) < rare[group]).astype(int),
        }
    )
    clean = (table["label"] == 0).groupby(table["group"]).all()
    strata = table.groupby("group")["stratum"].first()
    return table.assign(
        partition=partitions.assign(table, strata[clean], draw_from(st.floats(0, 1)), "any")
    )


def drawn(table, number, n_real):
    """A draw, or None where groups are too few (which is its own test)."""
    try:
        return partitions.draw(table, number, n_real)
    except StudyError:
        return None


@given(tables())
@settings(max_examples=150, deadline=None)
def test_a_group_is_in_one_partition_and_base_holds_clean_groups(table):
    assert table.groupby("group")["partition"].nunique().max() == 1
    assert set(table["partition"]) <= {"base", "development", "test"}
    assert table.loc[table["partition"] == "base", "label"].sum() == 0


@given(tables(), st.integers(0, 5), st.integers(2, 6))
@settings(max_examples=150, deadline=None)
def test_a_draw_never_leaks(table, number, n_real):
    draw = drawn(table, number, n_real)
    if draw is None:
        return
    groups, labels = table["group"].to_numpy(), table["label"].to_numpy()
    training = np.concatenate([draw.shots, draw.common, draw.more])
    assert not set(groups[training]) & set(groups[draw.validation])
    both = np.concatenate([training, draw.validation])
    assert len(set(both)) == len(both)  # no image twice
    assert set(both) == set(np.flatnonzero(table["partition"] == "development"))  # and none lost
    assert len(draw.shots) == n_real and (labels[draw.shots] == 1).all()
    assert (labels[draw.more] == 1).all() and (labels[draw.common] == 0).all()
    # What chooses thresholds: within validation, rare images capped at half the shots.
    assert set(draw.choosing) <= set(draw.validation)
    assert labels[draw.choosing].sum() <= n_real // 2
    assert draw.n_rare_seen == n_real + labels[draw.choosing].sum()


@given(tables(), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_shots_are_nested_and_spread_evenly_over_groups(table, number):
    one = drawn(table, number, 2)
    if one is None:
        return
    everything = np.concatenate([one.shots, one.more])
    groups = table["group"].to_numpy()
    for n in range(2, len(everything) + 1):
        draw = partitions.draw(table, number, n)
        assert (draw.shots == everything[:n]).all() and (draw.more == everything[n:]).all()
        assert (draw.validation == one.validation).all()
        # No group gives one more before every other has given as many or all it has.
        have, taken = (
            pd.Series(groups[everything]).value_counts(),
            pd.Series(groups[draw.shots]).value_counts(),
        )
        taken = taken.reindex(have.index, fill_value=0)
        assert taken[taken < have].min() >= taken.max() - 1 or (taken == have).all()
    with pytest.raises(
        StudyError,
        match=f"n_real is {len(everything) + 1}, but draw {number} has {len(everything)} rare",
    ):
        partitions.draw(table, number, len(everything) + 1)


@given(tables(), st.integers(0, 5), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_row_order_does_not_matter(table, number, random):
    order = list(range(len(table)))
    random.shuffle(order)
    mixed = table.iloc[order].reset_index(drop=True)
    strata = table.groupby("group")["stratum"].first()
    again = [
        partitions.assign(t, strata, 0.3, "name").set_axis(t["image"]).sort_index()
        for t in (table, mixed)
    ]
    assert (again[0] == again[1]).all()
    draw, other = drawn(table, number, 2), drawn(mixed, number, 2)
    assert (draw is None) == (other is None)
    if draw is not None:
        for part in ("shots", "more", "common", "validation", "choosing"):
            names = [
                t["image"].to_numpy()[getattr(d, part)] for t, d in ((table, draw), (mixed, other))
            ]
            assert (
                (names[0] == names[1]).all()
                if part in ("shots", "more")
                else set(names[0]) == set(names[1])
            )


def folded(table, folds):
    """The table under each outer fold, or None where groups are too few for that."""
    try:
        return [partitions.outer_fold(table, number, folds) for number in range(folds)]
    except StudyError:
        return None


@given(tables(), st.integers(2, 6), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_every_group_but_base_is_test_in_exactly_one_outer_fold(table, folds, random):
    outer = folded(table, folds)
    if outer is None:
        return
    on_test = np.array([fold["partition"] == "test" for fold in outer])
    base = (table["partition"] == "base").to_numpy()
    assert (on_test.sum(0) == np.where(base, 0, 1)).all()
    for fold in outer:
        assert ((fold["partition"] == "base") == base).all()
        assert fold.groupby("group")["partition"].nunique().max() == 1
        assert set(fold["partition"]) <= {"base", "development", "test"}
    # Each stratum, with and without rare images, is spread evenly over the folds.
    has_rare = table.groupby("group")["label"].transform("max")
    groups = table.assign(has_rare=has_rare)[~base].drop_duplicates("group")
    for _, stratum in groups.groupby(["has_rare", "stratum"]):
        sizes = on_test[:, stratum.index].sum(1)
        assert sizes.max() - sizes.min() <= 1
    mixed = table.sample(frac=1, random_state=random.randrange(2**32))
    again = folded(mixed, folds)
    assert all(
        (one["partition"] == other["partition"]).all()
        for one, other in zip(outer, [fold.sort_index() for fold in again])
    )


def test_an_outer_fold_that_cannot_be_is_refused():
    table = simple()
    with pytest.raises(StudyError, match="outer fold 5 is not there: it is 0 to 4"):
        partitions.outer_fold(table, 5)
    one = table.assign(label=(table["group"] == "g03").astype(int))
    with pytest.raises(StudyError, match="no rare image on its test side: 20 groups, 1 of them"):
        partitions.outer_fold(one, 0)


@given(tables())
@settings(max_examples=40, deadline=None)
def test_by_image_keeps_base_and_remembers_the_groups(table):
    redrawn = partitions.by_image(table, "any")
    assert ((redrawn["partition"] == "base") == (table["partition"] == "base")).all()
    assert (redrawn["whole_group"] == table["group"]).all() and (
        redrawn["group"] == table["image"]
    ).all()


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5), st.sampled_from("abc"), min_size=1, max_size=80
    ),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_pick_takes_its_share_of_every_stratum(groups, share, seed):
    strata = pd.Series(groups)
    taken = partitions.pick(strata, share, np.random.default_rng(seed))
    assert abs(len(taken) - share * len(strata)) < 1
    for stratum, members in strata.groupby(strata):
        assert abs(len(taken & set(members.index)) - share * len(members)) < 2, stratum


def simple(n_groups=20, per_group=4) -> pd.DataFrame:
    group = np.repeat([f"g{i:02d}" for i in range(n_groups)], per_group)
    return pd.DataFrame(
        {
            "image": [f"i{i:03d}" for i in range(len(group))],
            "group": group,
            "stratum": "s",
            "label": np.tile([1] + [0] * (per_group - 1), n_groups),
            "partition": "development",
        }
    )


def test_draws_differ_and_are_the_same_again():
    table = simple()
    draws = [partitions.draw(table, n, 8) for n in range(4)]
    assert len({tuple(d.shots) for d in draws}) == 4
    assert all((partitions.draw(table, n, 8).shots == d.shots).all() for n, d in enumerate(draws))
    assert all(len(set(d.groups[d.validation])) == 4 for d in draws)  # a fifth of 20


def test_words_name_a_stream():
    a, b = partitions.generator("draw", 1).random(3), partitions.generator("draw", 2).random(3)
    assert (a == partitions.generator("draw", 1).random(3)).all() and (a != b).all()


def test_too_little_is_told_with_its_number():
    with pytest.raises(
        StudyError, match=r"too few groups \(1 development groups, 1 of them with rare images\)"
    ):
        partitions.draw(simple(1), 0, 2)
    with pytest.raises(
        StudyError,
        match=r"n_real is 50, but draw 0 has 16 rare training images \(20 development groups, 20",
    ):
        partitions.draw(simple(), 0, 50)
    with pytest.raises(StudyError, match="n_real is 0"):
        partitions.draw(simple(), 0, 0)
    with pytest.raises(StudyError, match="n_real is 1: at least 2 shots"):
        partitions.draw(simple(), 0, 1)
    one_rare = simple().assign(label=lambda t: (t["image"].isin(["i000", "i044"])).astype(int))
    with pytest.raises(StudyError, match="has 1 rare training images .*: more rare images"):
        for number in range(20):
            partitions.draw(one_rare, number, 2)
