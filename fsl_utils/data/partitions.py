"""Who may see which image: partitions (for good) and draws (one random choice inside development).

Both split whole groups (a tile, a patient, a chunk of cells), stratified, and depend on
nothing but group names and a seed: not on row order, not on scikit-learn's version.
Its stratified splitters refuse a stratum with one member, and here most have few.
"""

import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from fsl_utils import StudyError

SEALED = "sealed"  # in place of "test" while a sealed test partition is shut
SHIPPED = Path(__file__).parent / "splits"
TEST_SHARE = 0.35
VALIDATION_SHARE = 0.20


def generator(*words) -> np.random.Generator:
    """A random generator named by words and numbers: the same words, the same stream, on any
    machine.
    """
    return np.random.default_rng([zlib.crc32(str(word).encode()) for word in words])


def pick(groups: pd.Series, share: float, rng: np.random.Generator) -> set:
    """Choose about `share` of the groups, the same share in every stratum.

    `groups` maps group name -> stratum. Systematic sampling: groups are shuffled, sorted
    by stratum and taken at equal steps from a random start, so that each stratum gets its
    share to within one group, however small it is.
    """
    groups = groups.sort_index()
    groups = groups.iloc[rng.permutation(len(groups))].sort_values(kind="stable")
    steps = np.floor(np.arange(len(groups) + 1) * share + rng.random())
    return set(groups.index[np.diff(steps) > 0])


def assign(frame: pd.DataFrame, base_groups: pd.Series, base_share: float, name: str) -> pd.Series:
    """Partition of every row of `frame` (columns group, stratum): base, development or test.

    `base_groups` maps the groups that may serve as base to their stratum; `base_share` of them do.
    """
    strata = frame.groupby("group")["stratum"].first()
    base = pick(base_groups, base_share, generator(name, "base")) if len(base_groups) else set()
    test = pick(strata[~strata.index.isin(base)], TEST_SHARE, generator(name, "test"))
    return frame["group"].map(
        lambda g: "base" if g in base else "test" if g in test else "development"
    )


def make(
    frame: pd.DataFrame, name: str, base_share: float, common: str | None = None
) -> pd.DataFrame:
    """A data set's partition to ship: file, group, partition, one row an image, sorted by file.

    frame: columns image, group, stratum, class_name. `base_share` of the groups whose every image
    is of the class `common` is base; without `common`, of all groups.
    """
    groups = frame.groupby("group")["stratum"].first()
    if common is not None:
        groups = groups[(frame["class_name"] == common).groupby(frame["group"]).all()]
    made = frame.assign(partition=assign(frame, groups, base_share, name))
    return made.rename(columns={"image": "file"})[["file", "group", "partition"]].sort_values(
        "file"
    )


def shipped(name: str) -> pd.DataFrame | None:
    """The partition file of an embedded domain (file, group, partition), or None."""
    path = SHIPPED / f"{name}.csv"
    return pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else None


def by_image(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table for protocol='image': every image a group of its own, development and test redrawn.

    It leaks by design and is there for comparison alone. Base and a sealed test partition stay as
    they were, and the group that the split ignores is kept as `whole_group`.
    """
    table = table.assign(
        whole_group=table["group"], group=table["image"], stratum=table["label"].astype(str)
    )
    rest = ~table["partition"].isin(["base", SEALED])
    redrawn = assign(table[rest], pd.Series(dtype=str), 0.0, f"{name} by image")
    return table.assign(partition=table["partition"].where(~rest, redrawn))


def outer_fold(table: pd.DataFrame, number: int, folds: int = 5) -> pd.DataFrame:
    """The table with outer fold `number` of its groups as test and the others as development.

    Base and a sealed test partition stay as they are; every other group is test in exactly one
    fold. Each fold has the same share of every stratum, apart by whether a group has rare images,
    to within one group. For data sets whose test partition was opened: here it becomes
    development. Raises StudyError where there is no such fold, or one side of it lacks a class.
    """
    if not 0 <= number < folds:
        raise StudyError(f"outer fold {number} is not there: it is 0 to {folds - 1}")
    ours = ~table["partition"].isin(["base", SEALED])
    groups = table[ours].groupby("group").agg(rare=("label", "max"), stratum=("stratum", "first"))
    groups = groups.iloc[generator("outer folds").permutation(len(groups))]
    groups = groups.sort_values(["rare", "stratum"], kind="stable")
    test = table["group"].isin(groups.index[number::folds])
    partition = table["partition"].where(~ours, np.where(test, "test", "development"))
    for side in ("test", "development"):
        for label, word in ((1, "rare"), (0, "common")):
            if not (table["label"][partition == side] == label).any():
                raise StudyError(
                    f"outer fold {number} of {folds} has no {word} image on its {side} side: "
                    f"{len(groups)} groups, {groups['rare'].sum()} of them with rare images"
                )
    return table.assign(partition=partition)


@dataclass(frozen=True)
class Draw:
    """One draw: positions into the domain's table. `shots` are ordered, so the 20 are in the 50.

    common: common images of the training groups. more: rare images of the training groups that
    are not shots, in the order in which they would have become shots. validation: every image
    of the validation groups.
    """

    number: int
    shots: np.ndarray
    common: np.ndarray
    more: np.ndarray
    validation: np.ndarray
    labels: np.ndarray  # of the whole table
    groups: np.ndarray

    @cached_property
    def choosing(self) -> np.ndarray:
        """The part of validation that thresholds may see: at most n_real / 2 rare images, same
        prevalence.
        """
        rng = generator("choosing", self.number)
        rare = spread(self.validation[self.labels[self.validation] == 1], self.groups, rng)
        common = self.validation[self.labels[self.validation] == 0]
        kept = min(len(rare), len(self.shots) // 2)
        share = kept / len(rare)
        common = rng.permutation(common)[: max(1, round(len(common) * share))]
        return np.sort(np.concatenate([rare[:kept], common]))

    @property
    def n_rare_seen(self) -> int:
        """Rare real images that this draw looks at in all: the shots and those that choose
        thresholds.
        """
        return len(self.shots) + int(self.labels[self.choosing].sum())


def spread(rows: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order `rows` so that every beginning is spread evenly over groups: one of each group, then a
    second, ...
    """
    rows = rng.permutation(rows)
    group = pd.Series(groups[rows])
    turn = group.groupby(group).cumcount().to_numpy()
    names = np.unique(groups[rows])
    rank = dict(zip(names, rng.permutation(len(names))))
    return rows[np.lexsort([group.map(rank).to_numpy(), turn])]


def draw(table: pd.DataFrame, number: int, n_real: int) -> Draw:
    """Draw `number` with `n_real` shots from a domain table (image, label, group, stratum,
    partition).

    Raises StudyError with the counts where groups or rare images do not suffice.
    """
    if n_real < 2:
        raise StudyError(
            f"n_real is {n_real}: at least 2 shots are needed, since n_real / 2 rare images "
            "of validation choose the threshold"
        )
    order = table["image"].to_numpy().argsort(kind="stable")  # not the order of the rows
    labels, groups = table["label"].to_numpy(), table["group"].to_numpy()
    rows = order[(table["partition"].to_numpy() == "development")[order]]
    per_group = pd.DataFrame(
        {"group": groups[rows], "label": labels[rows], "stratum": table["stratum"].to_numpy()[rows]}
    )
    per_group = per_group.groupby("group").agg(
        rare=("label", "sum"), n=("label", "size"), stratum=("stratum", "first")
    )
    strata = (per_group["rare"] > 0).astype(str) + " " + per_group["stratum"]
    validation_groups = pick(strata, VALIDATION_SHARE, generator("draw", number))

    validate = np.isin(groups[rows], list(validation_groups))
    train, validation = rows[~validate], rows[validate]
    with_rare = int((per_group["rare"] > 0).sum())
    have = f"{len(per_group)} development groups, {with_rare} of them with rare images"
    for side, part in (("training", train), ("validation", validation)):
        for label, word in ((1, "rare"), (0, "common")):
            if not (labels[part] == label).any():
                raise StudyError(
                    f"draw {number} has no {word} image on its {side} side: too few groups ({have})"
                )
    rare = spread(train[labels[train] == 1], groups, generator("shots", number))
    if n_real > len(rare):
        raise StudyError(
            f"n_real is {n_real}, but draw {number} has {len(rare)} rare training images ({have}): "
            + ("ask for fewer" if len(rare) > 1 else "more rare images are needed")
        )
    return Draw(
        number, rare[:n_real], train[labels[train] == 0], rare[n_real:], validation, labels, groups
    )
