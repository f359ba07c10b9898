"""Readers of the three data sets, and what their groups are.

A reader returns one row an image: image (name inside the data set), path, class_name,
group (what must not be split), stratum (what a split is balanced by); and notes: lines
on what was left out and why. Everything after that, in `domains`, is the same for all.
"""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd

from fsl_utils import StudyError
from fsl_utils.data import partitions
from fsl_utils.data.datasets.sheets import SHEETS, data_root

# -- ELPV ---------------------------------------------------------------------------------------

# Lengths of the runs of equal cell type in file order; a module holds 60 or 72 cells of one type.
_CHUNK = 60
_ELPV_CLASSES = {0.0: "functional", 1.0: "defective"}  # 1/3 and 2/3: the experts were unsure
# One module was photographed twice: 50 cells of chunk38 (2277-2326) are those of chunk29 (1735-1784) again, in the same
# order, as the leak audit found: each pair is more alike than .9, and their labels agree in 71 %.
_SAME_MODULE = {"chunk38": "chunk29"}


def read_elpv() -> tuple[pd.DataFrame, list[str]]:
    """2,624 grey 300x300 cells out of the `elpv-dataset` package: 1,508 functional, 715 defective, 401 unclear.

    Groups: each run of one cell type in file order, cut into chunks of about 60; the module that is there
    twice is one group. The stratum is the cell type and the chunk's defect share in three steps.
    """
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None:
        raise StudyError(f"the package elpv-dataset is not installed: {SHEETS['elpv'].get}")
    folder = Path(spec.origin).parent / "data"
    frame = pd.read_csv(folder / "labels.csv", sep=r"\s+", names=["file", "probability", "type"])
    frame["image"] = frame["file"].str.removeprefix("images/")
    frame["path"] = [str(folder / f) for f in frame["file"]]
    frame["class_name"] = frame["probability"].map(_ELPV_CLASSES).fillna("unclear")

    run = (frame["type"] != frame["type"].shift()).cumsum()
    within = frame.groupby(run).cumcount()
    length = frame.groupby(run)["type"].transform("size")
    chunks = (length / _CHUNK).round().clip(lower=1)
    group = run * 1000 + (within * chunks // length).astype(int)
    frame["chunk"] = "chunk" + pd.Series(pd.factorize(group)[0], index=frame.index).map(
        "{:02d}".format
    )
    frame["group"] = frame["chunk"].replace(_SAME_MODULE)

    share = frame["probability"].eq(1).groupby(frame["chunk"]).transform("mean")
    frame["stratum"] = frame["type"] + pd.cut(
        share, [-1, 0.15, 0.45, 1], labels=[" low", " middle", " high"]
    ).astype(str)
    unsure = int((frame["class_name"] == "unclear").sum())
    notes = [
        f"{unsure} cells that the experts were unsure of (defect probability 1/3 or 2/3) are left out"
    ]
    return frame[["image", "path", "class_name", "group", "stratum", "chunk"]], notes


# -- Magnetic tile --------------------------------------------------------------------------------

# Capture numbers of the nine tiles with cracks, told apart by eye; a range may join several clusters.
_CRACK_TILES = (
    (3191, 3279),
    (32128, 32235),
    (85602, 88201),
    (116527, 116623),
    (249594, 249821),
    (265613, 265737),
    (276355, 276355),
    (339819, 339965),
    (342140, 342249),
)
_GAP = 1000
_BURST_GAP = 500
_TILE_CLASSES = ("free", "blowhole", "break", "crack", "fray", "uneven")
_RAREST_FIRST = ("crack", "fray", "break", "uneven", "blowhole", "free")


def read_magnetic_tile() -> tuple[pd.DataFrame, list[str]]:
    """1,344 grey photos, `MT_<Class>/Imgs/exp<1-6>_num_<N>.jpg`, each with a `.png` mask of the same stem.

    `object` is the burst: consecutive photos with rising exposure and a gap of at most 500, surely
    one tile; the group is coarser.
    """
    root = data_root() / "magnetic_tile"
    _need_folder(root, "magnetic_tile")
    rows = []
    for name in _TILE_CLASSES:
        for path in sorted((root / f"MT_{name.capitalize()}" / "Imgs").glob("*.jpg")):
            match = re.fullmatch(r"exp(\d+)_num_(\d+)", path.stem)
            if match is None:
                raise StudyError(f"{path}: expected a name like exp1_num_4727.jpg")
            rows.append(
                (path.relative_to(root).as_posix(), str(path), name, int(match[1]), int(match[2]))
            )
    if not rows:
        raise StudyError(f"{root}: no MT_<Class>/Imgs/*.jpg there; {SHEETS['magnetic_tile'].get}")
    frame = pd.DataFrame(
        rows, columns=["image", "path", "class_name", "exposure", "number"]
    ).sort_values("number")
    frame["group"] = tile_groups(frame["number"].to_numpy())
    burst = ((frame["number"].diff() > _BURST_GAP) | (frame["exposure"].diff() <= 0)).cumsum()
    frame["object"] = "burst" + burst.astype(str).str.zfill(3)
    rarest = frame.groupby("group")["class_name"].transform(
        lambda c: min(c, key=_RAREST_FIRST.index)
    )
    shipped = len(partitions.shipped("magnetic_tile"))
    notes = (
        [f"{shipped - len(frame)} of the publisher's {shipped} photos are not here"]
        if len(frame) < shipped
        else []
    )
    return frame.assign(stratum=rarest)[
        ["image", "path", "class_name", "group", "stratum", "object"]
    ], notes


def tile_groups(numbers: np.ndarray) -> list[str]:
    """Tile of each capture number (ascending): clusters with gaps up to 1,000, joined by the crack tiles."""
    cluster = np.concatenate([[0], np.cumsum(np.diff(numbers) > _GAP)])
    for low, high in _CRACK_TILES:
        spanned = cluster[(numbers >= low) & (numbers <= high)]
        if len(spanned):
            cluster[np.isin(cluster, spanned)] = spanned.min()
    first = {c: n for c, n in zip(cluster[::-1], numbers[::-1])}
    return [f"tile{first[c]:06d}" for c in cluster]


def mask_path(image_path: str) -> Path:
    """The pixel mask (white: defect) that stands beside a magnetic-tile photo."""
    return Path(image_path).with_suffix(".png")


# -- ChestX-ray14 ---------------------------------------------------------------------------------

_CHEST_COLUMNS = {
    "Image Index": "image",
    "Finding Labels": "class_name",
    "Patient ID": "patient",
    "View Position": "view",
}
_CHEST_STUDIED = ("Effusion", "Pneumothorax", "Cardiomegaly")
VIEWS = ("PA", "AP", "all")
VIEW = "PA"  # sicker patients are imaged lying, AP: with both views a classifier learns the view


def read_chest_labels(root: Path) -> pd.DataFrame:
    """The official label table: image, class_name ('A|B'), patient, view. One row an image, all 112,120 of them."""
    _need_folder(root, "chestxray14")
    files = sorted(root.glob("Data_Entry_2017*.csv"))
    if not files:
        raise StudyError(f"{root}: no Data_Entry_2017*.csv there; {SHEETS['chestxray14'].get}")
    frame = read_csv(files[-1], list(_CHEST_COLUMNS))
    missing = [c for c in _CHEST_COLUMNS if c not in frame.columns]
    if missing:
        raise StudyError(f"{files[-1]}: the columns {missing} are missing; take the official file")
    frame = frame[list(_CHEST_COLUMNS)].rename(columns=_CHEST_COLUMNS)
    twice = frame["image"][frame["image"].duplicated()]
    if len(twice):
        raise StudyError(
            f"{files[-1]}: {len(twice)} images have several rows (first: {twice.iloc[0]}); take the official file"
        )
    # Stratum: the studied findings of the patient in this view, and the archive of twelve, so
    # that any subset of the archives is split in the same shares.
    found = frame["class_name"].where(frame["view"] == VIEW, "")
    flags = pd.Series("", index=frame.index)
    for finding in _CHEST_STUDIED:
        has = found.str.contains(finding).groupby(frame["patient"]).transform("any")
        flags += has.map({True: "1", False: "0"})
    position = frame["image"].rank(method="first").sub(1)
    archive = (
        (1 + (position - 4999).floordiv(10000).add(1).clip(0, 11))
        .groupby(frame["patient"])
        .transform("first")
    )
    frame["group"] = "patient" + frame["patient"].str.zfill(5)
    frame["stratum"] = flags + archive.astype(int).map(" archive{:02d}".format)
    return frame


def read_chestxray14(view: str = VIEW) -> tuple[pd.DataFrame, list[str]]:
    """The images at hand of one view ('PA', 'AP') or 'all', in `images/` or the twelve `images_0NN/images/`."""
    if view not in VIEWS:
        raise StudyError(f"unknown view '{view}': known are {', '.join(VIEWS)}")
    root = data_root() / "chestxray14"
    labels = read_chest_labels(root)
    paths = [
        p
        for folder in ("images", "images_0*/images", "images_0*")
        for p in sorted(root.glob(f"{folder}/*.png"))
    ]
    if not paths:
        raise StudyError(
            f"{root}: no images/*.png or images_0NN/images/*.png there; {SHEETS['chestxray14'].get}"
        )
    found = {p.name: str(p) for p in reversed(paths)}  # of two with one name the first counts
    here = labels[labels["image"].isin(found)]
    strangers = sorted(found.keys() - set(here["image"]))
    frame = here if view == "all" else here[here["view"] == view]

    notes = [
        f"{len(labels) - len(here)} of {len(labels)} rows of the label table have no image here: their archives were not fetched"
    ]
    if strangers:
        notes.append(
            f"{len(strangers)} images without a row in the label table are left out: {some(strangers)}"
        )
    if len(paths) > len(found):
        twice = sorted({p.name for p in paths if str(p) != found[p.name]})
        notes.append(f"{len(twice)} images lie in two folders, the first is read: {some(twice)}")
    if view != "all":
        notes.append(
            f"{len(here) - len(frame)} of {len(here)} images are not in {view} view and are left out: "
            "sicker patients are imaged lying (AP), so with both views a classifier learns the view"
        )
    return frame.assign(path=frame["image"].map(found))[
        ["image", "path", "class_name", "group", "stratum"]
    ], notes


def _need_folder(root: Path, name: str) -> None:
    if not root.is_dir():
        raise StudyError(
            f"{root}: no such folder; set FSL_DATA_DIR to the folder that holds {name}/, or get it: {SHEETS[name].get}"
        )


def read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """Those of the columns that are there, as text."""
    try:
        return pd.read_csv(
            path,
            usecols=lambda c: c in columns,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise StudyError(
            f"{path}: not a readable CSV file ({str(error).strip().splitlines()[0]}); replace it"
        ) from error


def some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


READERS = {"elpv": read_elpv, "magnetic_tile": read_magnetic_tile, "chestxray14": read_chestxray14}
