"""Partitions of a user's folder: made once, by group, kept in a file that tells of changes.

An image is known by its name below the folder or by its content, a group by its images: how a
pattern is spelt, where the folder lies and what class an image is in move nothing.
"""

import hashlib
import io
import os
import re
from pathlib import Path

import pandas as pd

from fsl_utils import StudyError, files
from fsl_utils.data import partitions

COLUMNS = ["file", "content", "group", "partition"]
_HEAD = "# partition of {} images, sha256 {}; kept by fsl_utils, not to be edited"
_HEADS = re.compile(_HEAD.format(r"(\d+)", "([0-9a-f]{64})"))


def place(root: Path) -> Path:
    """Where a folder's partition is kept: FSL_PARTITION, else `partition.csv` beside the images."""
    given = os.environ.get("FSL_PARTITION")
    return files.absolute(given) if given else root / "partition.csv"


def partition(path: Path, frame: pd.DataFrame, clean: pd.Series, base_share: float) -> pd.Series:
    """Partition of each row of `frame` (image, content, group, stratum), made once, kept in `path`.

    `clean` says of each group whether it may be base. Nothing ever moves: a new image of a known
    group follows it, new groups are assigned among themselves. Raises StudyError where a group
    would have images in two partitions, and where the file was cut, edited or cannot be written.
    """
    known = read(path)
    by_file = known.set_index("file")["partition"]
    by_content = known[known["content"] != ""].drop_duplicates("content").set_index("content")
    before = frame["image"].map(by_file).astype(object)
    before = before.fillna(frame["content"].map(by_content["partition"]))
    _one_side(frame, before, path)
    of_group = known.drop_duplicates("group").set_index("group")["partition"]
    side = before.groupby(frame["group"]).first()
    side = side.fillna(side.index.to_series().map(of_group))
    new = frame[frame["group"].map(side).isna()]
    if len(new):
        # Named by their images: another spelling of the same groups, the same partition.
        named = new.assign(group=new.groupby("group")["image"].transform("min"))
        label = named.groupby("group")["stratum"].first()
        may_be_base = clean[new["group"]].set_axis(named["group"]).groupby(level=0).first()
        made = partitions.assign(named, label[may_be_base], base_share, " ".join(label.index))
        side = side.fillna(made.groupby(new["group"]).first())
    out = frame["group"].map(side)
    rows = frame.assign(partition=out).rename(columns={"image": "file"})[COLUMNS]
    rows = rows[~rows["file"].isin(known["file"])]
    if len(rows):
        _write(path, pd.concat([known, rows]).sort_values("file"))
    return out


def _one_side(frame: pd.DataFrame, before: pd.Series, path: Path) -> None:
    sides = before.groupby(frame["group"]).nunique()
    for group in sides.index[sides > 1]:
        here = before[frame["group"] == group].dropna().drop_duplicates()
        where = " and ".join(f"{frame['image'][i]} in {side}" for i, side in here.items())
        raise StudyError(
            f"{(sides > 1).sum()} groups have images on two sides of the partition in {path} "
            f"(first: {group}, {where}): undo the change of groups, remove a double, or delete "
            "that file and all results to split anew"
        )


def read(path: Path) -> pd.DataFrame:
    """A kept partition (file, content, group, partition), empty where there is none yet.

    Raises StudyError where a line was lost, added or changed.
    """
    if not os.path.lexists(path):  # a link that leads nowhere is no reason to split anew
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    mend = "restore it; deleting it splits anew, and results of before no longer count"
    try:
        with files.plain(path) as file:
            head, text = file.read().decode().split("\n", 1)
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: not a partition that can be read ({error}); {mend}") from error
    match = _HEADS.fullmatch(head.strip())
    if match is None or list(table.columns) != COLUMNS:
        raise StudyError(f"{path}: not a partition that fsl_utils has written; {mend}")
    if len(table) != int(match[1]) or _digest(table) != match[2]:
        raise StudyError(
            f"{path} was changed since it was written ({len(table)} of {match[1]} images are in "
            f"it), which could move test images into training: {mend}"
        )
    return table


def _text(table: pd.DataFrame) -> str:
    return table[COLUMNS].to_csv(index=False, lineterminator="\n")


def _digest(table: pd.DataFrame) -> str:
    return hashlib.sha256(_text(table).encode()).hexdigest()


def _write(path: Path, table: pd.DataFrame) -> None:
    head = _HEAD.format(len(table), _digest(table))
    try:
        files.write_text(path, f"{head}\n{_text(table)}")
    except (OSError, StudyError) as error:
        raise StudyError(
            f"the partition cannot be kept in {path} ({error}): set FSL_PARTITION to a file of its "
            "own that can be written and stays"
        ) from error
