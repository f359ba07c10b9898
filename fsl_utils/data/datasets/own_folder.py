"""The user's own folder as a domain: its images, groups, common class and partition."""

import hashlib
import os
import re
import unicodedata
from pathlib import Path

import pandas as pd

from fsl_utils import StudyError, store
from fsl_utils.data import images, partitions
from fsl_utils.data.datasets.tables import read_csv, some

BASE_SHARE = 0.30  # of the groups that show the common class alone
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def locate(folder: str = "") -> Path:
    """The user's folder: `folder`, else FSL_FOLDER. Raises StudyError where neither names a folder."""
    folder = folder or os.environ.get("FSL_FOLDER", "")
    if not folder:
        raise StudyError(
            "domain 'folder' needs the parameter folder (or the variable FSL_FOLDER): a folder that holds <class>/*.png"
        )
    root = Path(folder).expanduser().absolute()
    if not root.is_dir():
        raise StudyError(f"{root}: no such folder; it should hold one folder for each class")
    return root


def read(root: Path, group_pattern: str = "") -> tuple[pd.DataFrame, list[str]]:
    """A user's own `<root>/<class>/*.{png,jpg,tif,bmp}`: grey or colour, 8 or 16 bit, any size.

    Groups come from `<root>/groups.csv` (columns file, group; file as in 'class/name.png'), else from
    `group_pattern` (a regular expression searched in the file name; its first group, or all it matches),
    else every image is its own group. Colour is turned to grey and any aspect squeezed to a square, since
    `mini` paints grey squares. Raises StudyError for an image without a group, a link that leads out
    of the folder, or fewer than two classes.
    """
    rows, ignored = [], []
    for path in sorted(root.glob("*/*")):
        if path.name.startswith(".") or path.parent.name.startswith("."):
            continue
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            ignored.append(path.relative_to(root).as_posix())
            continue
        if not path.resolve().is_relative_to(root.resolve()):
            raise StudyError(f"{path}: a link that leads out of {root}; put the image itself there")
        # One spelling of accented letters, whatever the file system's.
        name, image = (
            unicodedata.normalize("NFC", t)
            for t in (path.parent.name, path.relative_to(root).as_posix())
        )
        rows.append((image, str(path), name))
    frame = pd.DataFrame(rows, columns=["image", "path", "class_name"])
    if frame["class_name"].nunique() < 2:
        raise StudyError(
            f"{root}: {len(frame)} images in {frame['class_name'].nunique()} class folders; expected two or more folders "
            f"<class>/ with {', '.join('*' + s for s in SUFFIXES)}"
        )
    if (bad := frame["class_name"][frame["class_name"].str.contains("|", regex=False)]).any():
        raise StudyError(f"{root}: the class name '{bad.iloc[0]}' holds a '|'; rename the folder")

    frame["group"], notes = _groups(frame["image"], root, group_pattern)
    if ignored:
        notes.append(f"{len(ignored)} entries are no images and are left out: {some(ignored)}")
    if images.any_colour([Path(p) for p in frame["path"]]):
        notes.append("colour images are turned to grey: mini paints grey")
    # A group counts for its class with the fewest images, so that rare classes reach every partition.
    rarest = (
        frame["class_name"]
        .map(frame["class_name"].value_counts())
        .groupby(frame["group"])
        .transform("min")
    )
    return frame.assign(stratum=rarest.astype(str))[
        ["image", "path", "class_name", "group", "stratum"]
    ], notes


def _groups(names: pd.Series, root: Path, pattern: str) -> tuple[pd.Series, list[str]]:
    """Group of each image, and notes."""
    path = root / "groups.csv"
    if path.is_file():
        table = read_csv(path, ["file", "group"])
        missing = [c for c in ("file", "group") if c not in table.columns]
        if missing:
            raise StudyError(f"{path}: the columns {missing} are missing; expected file,group")
        table["file"] = table["file"].map(lambda f: unicodedata.normalize("NFC", f))
        twice = table["file"][table["file"].duplicated()]
        if len(twice):
            raise StudyError(
                f"{path}: {len(twice)} files stand there more than once (first: {twice.iloc[0]})"
            )
        found = names.map(table.set_index("file")["group"]).fillna("")
        extra = sorted(set(table["file"]) - set(names))
        notes = [f"{len(extra)} rows of groups.csv have no image: {some(extra)}"] if extra else []
        what = f"{path} gives no group to"
    elif pattern:
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise StudyError(
                f"group_pattern '{pattern}' is no regular expression: {error}"
            ) from error
        matches = names.map(lambda image: expression.search(image.rsplit("/", 1)[-1]))
        found = matches.map(
            lambda m: "" if m is None else (m[1] if expression.groups else m[0]) or ""
        )
        notes, what = [], f"group_pattern '{pattern}' finds no group in"
    else:
        return names, [
            "no groups.csv and no group_pattern: every image is its own group, so if one object "
            "stands in several images, the split leaks"
        ]
    lost = sorted(names[found == ""])
    if lost:
        raise StudyError(f"{what} {len(lost)} of {len(names)} images: {some(lost)}")
    return found, notes


def find_common(names: list[str], rare_class: str, common_class: str) -> str:
    if not rare_class:
        raise StudyError(f"domain 'folder' needs rare_class: one of {', '.join(names)}")
    others = [n for n in names if n != rare_class]
    if not common_class and len(others) == 1:
        return others[0]
    if common_class not in names:
        raise StudyError(
            f"common_class is '{common_class}': it must name one of the folders {', '.join(others)}"
        )
    return common_class


def partition(
    frame: pd.DataFrame, root: Path, pattern: str, common: str
) -> tuple[pd.DataFrame, list[str]]:
    """The folder's images with their partition, made at first use and kept in the store from then on."""
    determined_by = store.canonical(
        {"folder": str(root.resolve()), "common": common, "pattern": pattern}
    )
    path = (
        store.opened()
        / "partitions"
        / f"folder-{hashlib.sha256(determined_by.encode()).hexdigest()[:16]}.csv"
    )
    clean = (frame["class_name"] == common).groupby(frame["group"]).all()
    frame = frame.assign(partition=partitions.kept(path, frame, clean, BASE_SHARE))
    idle = int(((frame["partition"] == "base") & (frame["class_name"] != common)).sum())
    notes = [f"partitions are kept in {path}"]
    if idle:
        notes.append(
            f"{idle} images of other classes were added to base groups later and are not used"
        )
    return frame, notes
