"""Kept partitions of random tables: nothing moves, whatever is added."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from test_partitions import simple, tables

from fsl_utils.data import kept


def keep(path, table):
    clean = (table["label"] == 0).groupby(table["group"]).all()
    table = table.assign(content=table["image"].map(hash).astype(str))
    return kept.partition(path, table, clean, 0.3).set_axis(table["image"])


@given(tables(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_added_images_move_nothing(tmp_path_factory, table, random):
    """Images arrive in three lots, of groups known and new: the first lots stay where they were."""
    path = tmp_path_factory.mktemp("kept") / "kept.csv"
    lot = np.array([random.randrange(3) for _ in range(len(table))])
    placed = pd.Series(dtype=str)
    for last in range(3):
        now = table[lot <= last]
        if len(now):
            partition = keep(path, now)
            assert partition.notna().all()
            assert partition.groupby(now["group"].to_numpy()).nunique().max() == 1
            assert (partition[placed.index] == placed).all()
            placed = partition
    before = path.read_bytes()
    assert (keep(path, table) == placed[table["image"]]).all() and path.read_bytes() == before
    if (lot == 0).any():  # images that were taken away and come back are where they were
        keep(path, table[lot == 0])
        assert (keep(path, table) == placed[table["image"]]).all()


def test_single_new_groups_do_not_all_go_to_one_side(tmp_path):
    path = tmp_path / "kept.csv"
    table = simple(60).assign(label=1)
    keep(path, table[table["group"] < "g20"])
    for i in range(20, 60):
        last = keep(path, table[table["group"] <= f"g{i}"])
    later = last.groupby(table["group"].to_numpy()).first()["g20":]
    assert 5 <= (later == "test").sum() <= 25  # 14 expected


def test_the_names_of_groups_do_not_matter(tmp_path):
    table = simple(60)
    renamed = table.assign(group="z" + table["group"].str[::-1])
    assert (keep(tmp_path / "a.csv", table) == keep(tmp_path / "b.csv", renamed)).all()
