"""The domains: a data set with one rare and one common class, read, labelled and split."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from fsl_utils import StudyError
from fsl_utils.data import images, partitions
from fsl_utils.data.datasets import own_folder
from fsl_utils.data.datasets.readers import READERS, VIEW, read_chest_labels, read_chestxray14
from fsl_utils.data.datasets.sheets import SHEETS, data_root


@dataclass(frozen=True)
class Domain:
    """One task. `table`: image, path, class_name, label (1 rare, 0 common), group, stratum, partition.

    Where the table has a column `object`, it names the thing itself, known more finely than its
    group; under protocol 'image' the column `whole_group` keeps the group that the split ignores.
    """

    name: str
    rare_class: str
    common_class: str
    protocol: str
    table: pd.DataFrame = field(repr=False)
    channels: int = 1
    notes: tuple[str, ...] = ()  # what was left out of the data, and why

    @cached_property
    def data_hash(self) -> str:
        """Hash of every image of the task (names and contents) with its label, group and partition."""
        rows = self.table.sort_values("image")[["image", "label", "group", "partition"]].to_csv(
            index=False
        )
        return hashlib.sha256((self._pixel_hash + rows).encode()).hexdigest()

    @cached_property
    def _pixel_hash(self) -> str:
        return images.data_hash([Path(p) for p in self.table["path"]], list(self.table["image"]))

    def images(self, size: int) -> np.ndarray:
        """All images, uint8 [N, C, size, size] in table order, memory-mapped; both protocols share one cache."""
        return images.cached(
            [Path(p) for p in self.table["path"]],
            list(self.table["image"]),
            self._pixel_hash,
            size,
            self.channels,
        )

    def rows(self, partition: str, label: int | None = None) -> np.ndarray:
        """Positions of a partition's images, of one label or both."""
        keep = self.table["partition"] == partition
        if label is not None:
            keep &= self.table["label"] == label
        return np.flatnonzero(keep)


def load(
    name: str = "elpv",
    rare_class: str = "",
    protocol: str = "group",
    *,
    view: str = "",
    folder: str = "",
    group_pattern: str = "",
    common_class: str = "",
) -> Domain:
    """Read a domain and label it for one task. Raises StudyError where data, class or partition do not fit.

    `view` ('PA', 'AP' or 'all') is for chestxray14 alone and PA if empty. `folder`, `group_pattern` and
    `common_class` are for the domain 'folder' alone (see `own_folder.read`); `folder` is FSL_FOLDER if empty.
    """
    if name not in SHEETS:
        raise StudyError(f"unknown domain '{name}': known are {', '.join(SHEETS)}")
    if protocol not in ("group", "image"):
        raise StudyError(f"unknown protocol '{protocol}': known are group, image")
    if name == "folder":
        root = own_folder.locate(folder)
        frame, notes = own_folder.read(root, group_pattern)
        known = sorted(set(frame["class_name"])) + ["any_defect"]
        common = own_folder.find_common(known[:-1], rare_class, common_class)
        frame, more = own_folder.partition(frame, root, group_pattern, common)
        notes += more
    else:
        known, common = list(SHEETS[name].rare), SHEETS[name].common
        rare_class = rare_class or known[0]
        frame, notes = read_chestxray14(view or VIEW) if name == "chestxray14" else READERS[name]()
        frame = frame.assign(partition=_shipped_partition(name, frame))
    if rare_class not in known or rare_class == common:
        raise StudyError(
            f"unknown rare_class '{rare_class}' of {name}: known are {', '.join(k for k in known if k != common)}"
        )
    table = label(frame, rare_class, common)
    if protocol == "image":
        table = partitions.by_image(table, name)
    for part in ("development", "test"):
        here = table[table["partition"] == part]
        if here["label"].nunique() < 2:
            groups = table.loc[table["label"] == 1, "group"].nunique()
            word = "common" if here["label"].any() else "rare"
            raise StudyError(
                f"{name}: no {word} image in the {part} partition: {rare_class} has {groups} groups with "
                f"{int(table['label'].sum())} images, {common} {(table['label'] == 0).sum()} images; more groups are needed"
            )
    return Domain(name, rare_class, common, protocol, table, notes=tuple(notes))


def label(frame: pd.DataFrame, rare_class: str, common: str) -> pd.DataFrame:
    """Keep the images of the two classes and label them 1 (rare) or 0 (common).

    A class name may hold several findings, as in 'Effusion|Mass'; 'any_defect' is all that is not common.
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

    Columns: domain, title, rare_class, common_class, images, rare, groups, rare_groups, prevalence, group,
    source, licence, citation, status ('' or what is missing and how to get it), notes. Counts are 0 where
    the data is missing.
    """
    rows = []
    for name, sheet in SHEETS.items():
        if name == "folder":
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
    """Images and groups of every class at hand: class_name, images, groups; an image may count for several findings.

    `options`: `view` for chestxray14; `folder` and `group_pattern` for the domain 'folder'.
    """
    if name == "folder":
        frame = own_folder.read(
            own_folder.locate(options.get("folder", "")), options.get("group_pattern", "")
        )[0]
    else:
        frame = (
            read_chestxray14(options.get("view") or VIEW)[0]
            if name == "chestxray14"
            else READERS[name]()[0]
        )
    frame = frame.assign(class_name=frame["class_name"].str.split("|")).explode("class_name")
    counts = frame.groupby("class_name").agg(images=("image", "size"), groups=("group", "nunique"))
    return counts.sort_values("images", ascending=False).reset_index()


def _shipped_partition(name: str, frame: pd.DataFrame) -> pd.Series:
    shipped = partitions.shipped(name).set_index("file")["partition"]
    found = frame["image"].map(shipped)
    if found.isna().any():
        unknown = frame["image"][found.isna()]
        raise StudyError(
            f"{name}: {len(unknown)} images are not in the shipped partition (first: {unknown.iloc[0]}): "
            "this is another release of the data, or files were added to its folder"
        )
    return found


def make_partition(name: str) -> pd.DataFrame:
    """Make an embedded domain's partition anew: file, group, partition, one row an image, sorted by file.

    Base groups: elpv a quarter of all; magnetic_tile those with free images alone; chestxray14 30 % of
    the patients whose every image says No Finding.
    """
    sheet = SHEETS[name]
    frame = read_chest_labels(data_root() / name) if name == "chestxray14" else READERS[name]()[0]
    drawn = frame.assign(group=frame["chunk"]) if name == "elpv" else frame
    strata = drawn.groupby("group")["stratum"].first()
    clean = (drawn["class_name"] == sheet.common).groupby(drawn["group"]).all()
    can_be_base = strata if name == "elpv" else strata[clean]
    frame["partition"] = partitions.assign(drawn, can_be_base, sheet.base_share, name)
    # ELPV was drawn by chunk before its repeated module was known; the group goes where its first chunk went.
    frame["partition"] = frame.groupby("group")["partition"].transform("first")
    return frame.rename(columns={"image": "file"})[["file", "group", "partition"]].sort_values(
        "file"
    )
