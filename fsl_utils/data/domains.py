"""The domains: a data set with one rare and one common class, read, labelled and split."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from fsl_utils import StudyError
from fsl_utils.data import cache, decoding, partitions
from fsl_utils.data.datasets import folder, masks, registry
from fsl_utils.data.datasets.sheet import DataSet


@dataclass(frozen=True)
class Domain:
    """One task. `table`: image, path, class_name, label (1 rare), group, stratum, partition.

    Of a sealed data set that was not opened, the test partition is called 'sealed', so that nothing
    which asks for test images finds them; the data hash, and so every key, is the same.
    Where the table has a column `object`, it names the thing itself, known more finely than its
    group; under protocol 'image' the column `whole_group` keeps the group that the split ignores.
    A folder's table has more (see `folder.read`).
    """

    name: str
    rare_class: str
    common_class: str
    protocol: str
    table: pd.DataFrame = field(repr=False)
    notes: tuple[str, ...] = ()  # what was left out of the data or mended, and why

    @property
    def data_set(self) -> DataSet:
        """The data set that the task is of."""
        return registry.get(self.name)

    @cached_property
    def data_hash(self) -> str:
        """Hash of all images (names and contents) with their label, group and partition."""
        rows = self.table.replace({"partition": {partitions.SEALED: "test"}}).sort_values("image")
        rows = rows[["image", "label", "group", "partition"]].to_csv(index=False)
        return hashlib.sha256((self._pixel_hash + rows).encode()).hexdigest()

    @cached_property
    def _pixel_hash(self) -> str:
        paths, names = [Path(p) for p in self.table["path"]], list(self.table["image"])
        found = cache.data_hash(paths, names)
        if "reading" not in self.table:
            return found
        how = self.table.sort_values("image")["reading"]
        return hashlib.sha256("\n".join([found, *how]).encode()).hexdigest()

    @property
    def channels(self) -> int:
        """3 where some image is in colour, for a classifier to see."""
        return 3 if "colour" in self.table and self.table["colour"].any() else 1

    def images(self, size: int, channels: int = 1) -> np.ndarray:
        """All images, grey or RGB, uint8 [N, channels, size, size] in table order, memory-mapped.

        Both protocols share one cache.
        """
        paths, names = [Path(p) for p in self.table["path"]], list(self.table["image"])
        levels = None
        if "white" in self.table:
            levels = decoding.Levels(*(int(self.table[c].iloc[0]) for c in ("black", "white")))
        return cache.pixels(paths, names, self._pixel_hash, size, channels, levels)

    @property
    def has_masks(self) -> bool:
        """Whether masks of defects stand beside the rare images."""
        rare = self.table[self.table["label"] == 1]
        beside = any(rare[name].map(bool).any() for name in masks.COLUMNS if name in rare)
        return beside or self.data_set.mask_path is not None

    def masks(self, rows: np.ndarray, size: int) -> np.ndarray:
        """Masks of the images at `rows`, uint8 [n, 1, size, size], white on the defect.

        Raises StudyError where the data set has none, or one is missing or not readable.
        """
        table = self.table.iloc[rows]
        if any(name in table for name in masks.COLUMNS):
            return masks.read(table, size)
        return self.data_set.masks(table["path"].tolist(), size)

    def print_notes(self) -> None:
        """Say what was left out of the data or mended, wherever they are read."""
        for note in self.notes:
            print(f"note: {note}")

    def rows(self, partition: str, label: int | None = None) -> np.ndarray:
        """Positions of a partition's images, of one label or both. Raises StudyError for 'test'
        where it is sealed."""
        self.need_open(partition)
        keep = self.table["partition"] == partition
        if label is not None:
            keep &= self.table["label"] == label
        return np.flatnonzero(keep)

    @property
    def sealed(self) -> bool:
        """Whether the test partition is shut."""
        names = set(self.table["partition"])
        return partitions.SEALED in names and "test" not in names

    def need_open(self, evaluate_on: str) -> None:
        """Raise StudyError where `evaluate_on` is 'test' and that partition is shut."""
        if evaluate_on == "test" and self.sealed:
            raise StudyError(
                f"the test partition of {self.name} is sealed, to be opened once, after a protocol "
                "is committed: take evaluate_on: validation, or open it for good with "
                "open_sealed: true"
            )

    def audited(self, draw: int = 0) -> "Domain":
        """What an audit for leaks may look at: itself, without images of a sealed test partition.

        In their place stand the validation images of a draw, as `test`, and the draw's training
        images are `development`. To look at the sealed images too, load with `open_sealed=True`.
        """
        if partitions.SEALED not in set(self.table["partition"]):
            return self
        table = self.table.copy()
        if self.sealed:
            validation = partitions.draw(table, draw, 2).validation
            table.loc[table.index[validation], "partition"] = "test"
        table = table[table["partition"] != partitions.SEALED].reset_index(drop=True)
        return replace(self, table=table)


def load(
    name: str = "elpv",
    rare_class: str = "",
    protocol: str = "group",
    *,
    common_class: str = "",
    fold: int = -1,
    open_sealed: bool = False,
    **options: str,
) -> Domain:
    """Read a domain, labelled for one task. Raises StudyError where data or class do not fit.

    `options` are those that readers take, and what a data set does not take is left alone: `view`
    ('PA', 'AP' or 'all') for chestxray14, PA if empty; `folder` (FSL_FOLDER if empty) and
    `group_pattern` for the domain 'folder' (see `folder.read`). `common_class` is for a data set
    whose classes are not known beforehand. `fold`: the outer fold that is test
    (`partitions.outer_fold`), -1 for the partitions as they are kept. `open_sealed` opens a sealed
    test partition (see `Domain`).
    """
    data_set = registry.get(name)
    if protocol not in ("group", "image"):
        raise StudyError(f"unknown protocol '{protocol}': known are group, image")
    taken = data_set.options_of(options)
    frame, notes = data_set.read(**taken)
    known, common = _classes(data_set, frame, rare_class, common_class)
    rare_class = rare_class or known[0]
    if data_set.partition is None:
        frame = frame.assign(partition=_shipped_partition(name, frame))
    else:
        frame, more = data_set.partition(frame, common, **taken)
        notes = notes + more
    if rare_class not in known or rare_class == common:
        raise StudyError(
            f"unknown rare_class '{rare_class}' of {name}: known are "
            f"{', '.join(k for k in known if k != common)}"
        )
    table = label(frame, rare_class, common)
    if data_set.sealed and not open_sealed:
        table = table.replace({"partition": {"test": partitions.SEALED}})
    if protocol == "image":
        table = partitions.by_image(table, name)
    if fold >= 0:
        table = partitions.outer_fold(table, fold)
    _need_both_classes(name, table, rare_class, common)
    notes = (*notes, *_majority(table, rare_class))
    return Domain(name, rare_class, common, protocol, table, notes)


def _majority(table: pd.DataFrame, rare_class: str) -> list[str]:
    """The note that a class called rare is not; none where it is."""
    share = table["label"].mean()
    counts = f"{table['label'].sum()} of {len(table)} images ({share:.0%})"
    return [f"the rare class {rare_class} is the majority: {counts}"] if share > 0.5 else []


def _classes(
    data_set: DataSet, frame: pd.DataFrame, rare_class: str, common_class: str
) -> tuple[list[str], str]:
    """The classes that can be rare, and the common one."""
    if data_set.sheet.rare:
        return list(data_set.sheet.rare), data_set.sheet.common
    names = sorted(set(frame["class_name"]))
    return [*names, "any_defect"], folder.find_common(names, rare_class, common_class)


def _need_both_classes(name: str, table: pd.DataFrame, rare_class: str, common: str) -> None:
    held_out = partitions.SEALED if partitions.SEALED in set(table["partition"]) else "test"
    for part in ("development", held_out):
        here = table[table["partition"] == part]
        if here["label"].nunique() < 2:
            groups = table.loc[table["label"] == 1, "group"].nunique()
            word = "common" if here["label"].any() else "rare"
            raise StudyError(
                f"{name}: no {word} image in the {part} partition: {rare_class} has {groups} "
                f"groups with {int(table['label'].sum())} images, {common} "
                f"{(table['label'] == 0).sum()} "
                "images; more groups are needed"
            )


def label(frame: pd.DataFrame, rare_class: str, common: str) -> pd.DataFrame:
    """Keep the images of the two classes and label them 1 (rare) or 0 (common).

    A class name may hold several findings, as in 'Effusion|Mass'; 'any_defect' is all that is not
    common.
    """
    names = frame["class_name"].str.split("|")
    rare = (
        frame["class_name"] != common
        if rare_class == "any_defect"
        else names.map(lambda found: rare_class in found)
    )
    keep = rare | (frame["class_name"] == common)
    if not rare.any():
        raise StudyError(f"no image of the rare class '{rare_class}' among {len(frame)} images")
    return frame.assign(label=rare.astype(int))[keep].sort_values("image").reset_index(drop=True)


def describe() -> pd.DataFrame:
    """The embedded domains at their default task, from the data at hand, one row a domain.

    Columns: domain, title, rare_class, common_class, images, rare, groups, rare_groups, prevalence,
    group, source, licence, citation, status ('' or what is missing and how to get it), notes.
    Counts are 0 where the data is missing.
    """
    rows = []
    for name, data_set in registry.DATA_SETS.items():
        sheet = data_set.sheet
        if not sheet.rare:  # no task by itself
            continue
        row = {
            "domain": name,
            "title": sheet.title,
            "rare_class": sheet.rare[0],
            "common_class": sheet.common,
        }
        try:
            domain, status = load(name), ""
        except StudyError as error:
            domain, status = None, str(error)
        labels = domain.table["label"] if domain else pd.Series(dtype=int)
        groups = domain.table["group"] if domain else pd.Series(dtype=str)
        row |= {
            "images": len(labels),
            "rare": int(labels.sum()),
            "groups": groups.nunique(),
            "rare_groups": groups[labels == 1].nunique(),
            "prevalence": round(labels.mean(), 3) if len(labels) else float("nan"),
            "group": sheet.group,
            "source": sheet.source,
            "licence": sheet.licence,
            "citation": sheet.citation,
            "status": status,
            "notes": domain.notes if domain else (),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def classes(name: str, **options) -> pd.DataFrame:
    """Images and groups of every class at hand: class_name, images, groups; an image may count for
    several findings.

    `options`: `view` for chestxray14; `folder` and `group_pattern` for the domain 'folder'.
    """
    data_set = registry.get(name)
    frame = data_set.read(**data_set.options_of(options))[0]
    frame = frame.assign(class_name=frame["class_name"].str.split("|")).explode("class_name")
    counts = frame.groupby("class_name").agg(images=("image", "size"), groups=("group", "nunique"))
    return counts.sort_values("images", ascending=False).reset_index()


def _shipped_partition(name: str, frame: pd.DataFrame) -> pd.Series:
    shipped = partitions.shipped(name)
    if shipped is None:
        raise StudyError(
            f"{partitions.SHIPPED / name}.csv is missing: see fsl_utils/data/README.md"
        )
    found = frame["image"].map(shipped.set_index("file")["partition"])
    if found.isna().any():
        unknown = frame["image"][found.isna()]
        raise StudyError(
            f"{name}: {len(unknown)} images are not in the shipped partition "
            f"(first: {unknown.iloc[0]}): "
            "this is another release of the data, or files were added to its folder"
        )
    return found
