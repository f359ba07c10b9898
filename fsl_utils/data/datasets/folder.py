"""The user's own folder as a data set: images, classes, partition, what was left out or mended."""

import json
import os
import unicodedata
from collections import Counter
from pathlib import Path

import pandas as pd

from fsl_utils import StudyError, files
from fsl_utils.data import decoding, kept, survey
from fsl_utils.data.datasets import groups, masks
from fsl_utils.data.datasets.groups import noted
from fsl_utils.data.datasets.sheet import DataSet, Sheet
from fsl_utils.data.datasets.tables import some

_READING = 2  # raised when the same files are read as other pixels or masks
_COLUMNS = (
    *("image", "path", "class_name", "group", "stratum", "content", "colour", "reading"),
    *("black", "white", *masks.COLUMNS),
)
_TABLES = ("groups.csv", "boxes.csv", "partition.csv")


SHEET = Sheet(
    title="your own folder",
    rare=(),
    common="",
    group="as groups.csv or group_pattern say, else the image",
    licence="yours",
    citation="",
    source="",
    get="set folder to a folder that holds <class>/*.png",
)
BASE_SHARE = 0.30  # of the groups that show the common class alone


def locate(folder: str = "") -> Path:
    """The user's folder: `folder`, else FSL_FOLDER. Raises StudyError where neither names one."""
    folder = folder or os.environ.get("FSL_FOLDER", "")
    if not folder:
        raise StudyError(
            "domain 'folder' needs the parameter folder (or the variable FSL_FOLDER): "
            "a folder that holds <class>/*.png"
        )
    root = files.absolute(folder)
    if not root.is_dir():
        raise StudyError(f"{root}: no such folder; it should hold one folder for each class")
    return root


def read(folder: str = "", group_pattern: str = "") -> tuple[pd.DataFrame, list[str]]:
    """A user's own `<root>/<class>/**`: images of any size and depth, of `decoding.SUFFIXES`.

    Beside what every reader gives: content (hash of the picture), colour, reading (what determines
    pixels and mask beside the file) and, where there are any, mask and boxes (see `masks`), black
    and white (levels of 16-bit files).
    Groups: see `groups.of`; images of one content, or of one name but for the suffix, are one
    group. Masks: see `masks.split`. Raises StudyError for an image without a group, a link that
    leads out of the folder, damaged files, or fewer than two classes.
    """
    root = locate(folder)
    names, others = _walk(root)
    frame = survey.of(root, names)
    strangers = sorted(frame["image"][frame["format"] != ""])
    frame = frame[frame["format"] == ""].reset_index(drop=True).infer_objects()
    pictures = frame.set_index("path")["content"]
    frame, notes = masks.split(frame)
    frame, more = masks.boxes(frame.reset_index(drop=True), root)
    notes = _left_out(others, strangers) + notes + more
    frame["image"] = [unicodedata.normalize("NFC", name) for name in frame["image"]]
    frame["class_name"] = [name.split("/")[0] for name in frame["image"]]
    _need_classes(frame, root, names)

    levels = _levels(frame, root)
    notes += _mended(frame, levels)
    frame["group"], more = groups.of(frame["image"], root, group_pattern)
    frame["group"], doubles = _doubles_joined(frame)
    # A group counts for its class with the fewest images: rare classes reach every partition.
    sizes = frame["class_name"].map(frame["class_name"].value_counts())
    frame["stratum"] = sizes.groupby(frame["group"]).transform("min").astype(str)
    if levels:
        frame["black"], frame["white"] = levels
    given = [frame[name] if name in frame else [""] * len(frame) for name in masks.COLUMNS]
    frame["reading"] = [
        json.dumps([_READING, levels, pictures.get(mask, ""), boxes]) for mask, boxes in zip(*given)
    ]
    columns = [name for name in _COLUMNS if name in frame]
    return frame[columns], notes + more + doubles


def _walk(root: Path) -> tuple[list[str], list[str]]:
    """Files of images below the class folders, and all other files, as paths below the root."""
    names, others = [], []

    def refuse(error):
        raise StudyError(f"{error.filename}: {error.strerror}; its images cannot be read")

    for place, folders, names_here in os.walk(root, onerror=refuse):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        linked = [f for f in folders if Path(place, f).is_symlink()]
        for entry in (*linked, *sorted(f for f in names_here if not f.startswith("."))):
            path = Path(place, entry)
            name = path.relative_to(root).as_posix()
            if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
                raise StudyError(
                    f"{path}: a link that leads out of {root}; put the image itself there"
                )
            if name.encode(errors="replace").decode() != name:
                shown = os.fsencode(name).decode(errors="backslashreplace")
                raise StudyError(f"{root}: the name {shown} is not UTF-8; rename it")
            image = path.suffix.lower() in decoding.SUFFIXES and path.is_file() and "/" in name
            if name not in _TABLES:
                (names if image else others).append(name)
    return names, others


def _left_out(others: list[str], strangers: list[str]) -> list[str]:
    kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in others).most_common()
    told = ", ".join(f"{n} {kind}" for kind, n in kinds)
    return noted(f"files are no images that are read and are left out ({told})", others) + noted(
        "files hold another format than their names say, which is not read, and are left out",
        strangers,
    )


def _need_classes(frame: pd.DataFrame, root: Path, names: list[str]) -> None:
    classes = sorted(frame["class_name"].unique())
    if bad := [name for name in classes if "|" in name]:
        raise StudyError(f"{root}: the class name '{bad[0]}' holds a '|'; rename the folder")
    if len(classes) >= 2:
        return
    below = sorted({"/".join(name.split("/")[:2]) for name in names if name.count("/") > 1})
    loose = sum(path.suffix.lower() in decoding.SUFFIXES for path in root.iterdir())
    hint = ""
    if loose:
        hint = f"; {loose} images lie in it directly: is the folder above the right one?"
    elif len(below) > 1:
        hint = f"; below lie {some(below)}: is {root / classes[0]} the right one?"
    raise StudyError(
        f"{root}: {len(frame)} images in {len(classes)} class folders ({some(classes) or 'none'}); "
        f"expected two or more folders <class>/ with images{hint}"
    )


def _levels(frame: pd.DataFrame, root: Path) -> decoding.Levels | None:
    """One scale for all 16-bit files: the range of as many bits as they use; None for all 16."""
    deep, coloured = frame[frame["grey16"]], frame[frame["deep"] & ~frame["grey16"]]
    if len(coloured) and (high := int(coloured["high"].max())) < 128:
        raise StudyError(
            f"{root}: {len(coloured)} colour images of 16 bits use {high.bit_length() + 8}, "
            f"and the upper 8 are read: {some(sorted(coloured['image']))}; save them with 8 bits"
        )
    if deep.empty:
        return None
    black = min(0, int(deep["low"].min()))
    bits = max(8, (int(deep["high"].max()) - black).bit_length())
    levels = decoding.Levels(black, black + 2**bits - 1)
    return None if levels == decoding.Levels() else levels


def _mended(frame: pd.DataFrame, levels: decoding.Levels | None) -> list[str]:
    """Notes on what is read otherwise than the bare pixels say, or may look wrong."""
    names, deep = frame["image"], frame[frame["grey16"]]
    notes = noted("images are turned as their EXIF orientation says", names[frame["turned"]])
    notes += noted(
        "images are see-through in places; white lies below", names[frame["see_through"]]
    )
    if levels:
        notes += noted(
            f"images of 16 bits hold levels {deep['low'].min()} to {deep['high'].max()} and are "
            f"scaled by one factor ({levels.black} is black, {levels.white} white)",
            deep["image"],
        )
    white = (levels or decoding.Levels()).white
    if len(deep) and (typical := deep["high"].median()) * 8 < white:
        notes.append(
            f"images of 16 bits come out dark: half of them stay below {typical:.0f} of {white}; "
            f"the brightest is {deep['image'][deep['high'].idxmax()]}"
        )
    notes += noted(
        "images of 16 bits hold white as 0 and are inverted", deep["image"][deep["inverted"]]
    )
    notes += noted("images hold a single grey level", names[frame["levels"] == 1])
    return notes + noted(
        f"of {len(frame)} images are in colour: mini paints grey, and what it paints stands in "
        "grey among them; a classifier sees their colour with classifier_channels=3",
        names[frame["colour"]],
    )


def _doubles_joined(frame: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    """Groups, with those of one picture as one; notes that name the doubles."""
    empty = frame["levels"] == 1  # empty pictures are alike and show no common object
    content = frame["content"].where(~empty, frame["image"])
    doubles = frame[content.duplicated(keep=False)].groupby("content")
    named = {" = ".join(sorted(d["image"])): d["class_name"].nunique() for _, d in doubles}
    notes = noted("pictures stand there more than once; each is one group", named)
    notes += noted("pictures stand there under two labels", [n for n, c in named.items() if c > 1])
    stems = frame["image"].str.rsplit(".", n=1).str[0]
    return groups.joined(frame["group"], content, stems), notes


def find_common(names: list[str], rare_class: str, common_class: str) -> str:
    """The common class: `common_class`, or the only other one. Raises StudyError if it is open."""
    known = [*names, "any_defect"]
    if not rare_class:
        raise StudyError(f"domain 'folder' needs rare_class: one of {', '.join(names)}")
    if rare_class not in known:
        raise StudyError(
            f"unknown class '{rare_class}' in rare_class: known are {', '.join(known)}"
        )
    if common_class and common_class not in names:
        raise StudyError(
            f"unknown class '{common_class}' in common_class: known are {', '.join(names)}"
        )
    others = [n for n in names if n != rare_class]
    if common_class:
        return common_class
    if len(others) != 1:
        raise StudyError(f"common_class is '': it must name one of the folders {', '.join(others)}")
    return others[0]


def partition(
    table: pd.DataFrame, common: str, folder: str = "", group_pattern: str = ""
) -> tuple[pd.DataFrame, list[str]]:
    """The folder's table with its partition, made at first use and kept (see `kept`); notes."""
    path = kept.place(locate(folder))
    clean = (table["class_name"] == common).groupby(table["group"]).all()
    side = kept.partition(path, table, clean, BASE_SHARE)
    idle = table["image"][(side == "base") & (table["class_name"] != common)]
    notes = [f"partitions are kept in {path}"]
    notes += noted("images of other classes were added to base groups later and are not used", idle)
    return table.assign(partition=side), notes


FOLDER = DataSet(
    name="folder",
    sheet=SHEET,
    read=read,
    options=("folder", "group_pattern"),
    partition=partition,
)
