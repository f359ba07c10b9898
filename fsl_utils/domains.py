"""The data sets: where each lies, how it is read, its groups, licence and citation.

A reader returns one row an image: image (name inside the data set), path, class_name,
group (what must not be split), stratum (what a split is balanced by); and notes: lines
on what was left out and why. Everything after that is the same for all domains.
"""

import hashlib
import importlib.util
import os
import re
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from . import ROOT, StudyError, images, partitions, store


@dataclass(frozen=True)
class Sheet:
    """What a reader must know of a data set."""

    title: str
    rare: tuple[str, ...]  # the classes that can be rare; the first is the default
    common: str
    group: str  # what a group is
    licence: str
    citation: str
    source: str
    get: str  # how to get it
    base_share: float  # of the groups that can be base
    flips: str  # axes along which an image may be mirrored and still be one of the domain: 'hv', 'h' or ''


SHEETS = {
    "elpv": Sheet(
        title="ELPV solar cells", rare=("defective",), common="functional",
        group="chunk of about 60 consecutive cells (approximates a module; no module id is published)",
        licence="CC BY-NC-SA 4.0",
        citation="Deitsch et al., Segmentation of photovoltaic module cells in uncalibrated electroluminescence "
        "images, Machine Vision and Applications 2021; Buerhop-Lutz et al., EU PVSEC 2018",
        source="https://github.com/zae-bayern/elpv-dataset",
        get="pip install elpv-dataset", base_share=0.25, flips="hv",
    ),
    "magnetic_tile": Sheet(
        title="Magnetic tile defects", rare=("any_defect", "crack", "blowhole", "break", "fray", "uneven"), common="free",
        group="tile: photos whose capture number lies within 1,000 of the next (no tile id is published)",
        licence="'welcomed to use', no licence file: do not redistribute",
        citation="Huang, Qiu, Yuan, Surface defect saliency of magnetic tile, The Visual Computer 2020",
        source="https://github.com/abin24/Magnetic-tile-defect-datasets.",
        get="python -m fsl_utils fetch magnetic_tile", base_share=1.0, flips="hv",
    ),
    "chestxray14": Sheet(
        title="NIH ChestX-ray14",
        rare=("Effusion", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Hernia",
              "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
        common="No Finding", group="patient",
        licence="free use: link to the NIH site, cite, acknowledge the NIH Clinical Center",
        citation="Wang et al., ChestX-ray8, CVPR 2017",
        source="https://nihcc.app.box.com/v/ChestXray-NIHCC",
        get="python -m fsl_utils fetch chestxray14", base_share=0.30, flips="",
    ),
    "folder": Sheet(
        title="your own folder", rare=(), common="", group="as groups.csv or group_pattern say, else the image",
        licence="yours", citation="", source="", get="set folder to a folder that holds <class>/*.png",
        base_share=0.30, flips="",  # not known of a stranger's images whether a mirrored one is still real
    ),
}


def data_root() -> Path:
    """Folder of the data sets: `FSL_DATA_DIR`, else `data/` in the clone."""
    return Path(os.environ.get("FSL_DATA_DIR") or ROOT / "data").expanduser().absolute()


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
        rows = self.table.sort_values("image")[["image", "label", "group", "partition"]].to_csv(index=False)
        return hashlib.sha256((self._pixel_hash + rows).encode()).hexdigest()

    @cached_property
    def _pixel_hash(self) -> str:
        return images.data_hash([Path(p) for p in self.table["path"]], list(self.table["image"]))

    def images(self, size: int) -> np.ndarray:
        """All images, uint8 [N, C, size, size] in table order, memory-mapped; both protocols share one cache."""
        return images.cached([Path(p) for p in self.table["path"]], list(self.table["image"]), self._pixel_hash, size, self.channels)

    def rows(self, partition: str, label: int | None = None) -> np.ndarray:
        """Positions of a partition's images, of one label or both."""
        keep = self.table["partition"] == partition
        if label is not None:
            keep &= self.table["label"] == label
        return np.flatnonzero(keep)


def load(name: str = "elpv", rare_class: str = "", protocol: str = "group", *, view: str = "",
         folder: str = "", group_pattern: str = "", common_class: str = "") -> Domain:
    """Read a domain and label it for one task. Raises StudyError where data, class or partition do not fit.

    `view` ('PA', 'AP' or 'all') is for chestxray14 alone and PA if empty. `folder`, `group_pattern` and
    `common_class` are for the domain 'folder' alone (see `read_folder`); `folder` is FSL_FOLDER if empty.
    """
    if name not in SHEETS:
        raise StudyError(f"unknown domain '{name}': known are {', '.join(SHEETS)}")
    if protocol not in ("group", "image"):
        raise StudyError(f"unknown protocol '{protocol}': known are group, image")
    if name == "folder":
        root = folder_root(folder)
        frame, notes = read_folder(root, group_pattern)
        known = sorted(set(frame["class_name"])) + ["any_defect"]
        common = _folder_common(known[:-1], rare_class, common_class)
        frame, more = _folder_partition(frame, root, group_pattern, common)
        notes += more
    else:
        known, common = list(SHEETS[name].rare), SHEETS[name].common
        rare_class = rare_class or known[0]
        frame, notes = read_chestxray14(view or VIEW) if name == "chestxray14" else READERS[name]()
        frame = frame.assign(partition=_shipped_partition(name, frame))
    if rare_class not in known or rare_class == common:
        raise StudyError(f"unknown rare_class '{rare_class}' of {name}: known are {', '.join(k for k in known if k != common)}")
    table = label(frame, rare_class, common)
    if protocol == "image":
        table = partitions.by_image(table, name)
    for part in ("development", "test"):
        here = table[table["partition"] == part]
        if here["label"].nunique() < 2:
            groups = table.loc[table["label"] == 1, "group"].nunique()
            word = "common" if here["label"].any() else "rare"
            raise StudyError(f"{name}: no {word} image in the {part} partition: {rare_class} has {groups} groups with "
                             f"{int(table['label'].sum())} images, {common} {(table['label'] == 0).sum()} images; more groups are needed")
    return Domain(name, rare_class, common, protocol, table, notes=tuple(notes))


def label(frame: pd.DataFrame, rare_class: str, common: str) -> pd.DataFrame:
    """Keep the images of the two classes and label them 1 (rare) or 0 (common).

    A class name may hold several findings, as in 'Effusion|Mass'; 'any_defect' is all that is not common.
    """
    names = frame["class_name"].str.split("|")
    rare = frame["class_name"] != common if rare_class == "any_defect" else names.map(lambda found: rare_class in found)
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
        row = {"domain": name, "title": sheet.title, "rare_class": sheet.rare[0], "common_class": sheet.common}
        try:
            domain, status = load(name), ""
        except StudyError as error:
            domain, status = None, str(error)
        labels = domain.table["label"] if domain else pd.Series(dtype=int)
        groups = domain.table["group"] if domain else pd.Series(dtype=str)
        row |= {"images": len(labels), "rare": int(labels.sum()), "groups": groups.nunique(), "rare_groups": groups[labels == 1].nunique(),
                "prevalence": round(labels.mean(), 3) if len(labels) else float("nan"), "group": sheet.group, "source": sheet.source,
                "licence": sheet.licence, "citation": sheet.citation, "status": status, "notes": domain.notes if domain else ()}
        rows.append(row)
    return pd.DataFrame(rows)


def classes(name: str, **options) -> pd.DataFrame:
    """Images and groups of every class at hand: class_name, images, groups; an image may count for several findings.

    `options`: `view` for chestxray14; `folder` and `group_pattern` for the domain 'folder'.
    """
    if name == "folder":
        frame = read_folder(folder_root(options.get("folder", "")), options.get("group_pattern", ""))[0]
    else:
        frame = read_chestxray14(options.get("view") or VIEW)[0] if name == "chestxray14" else READERS[name]()[0]
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
    frame["chunk"] = "chunk" + pd.Series(pd.factorize(group)[0], index=frame.index).map("{:02d}".format)
    frame["group"] = frame["chunk"].replace(_SAME_MODULE)

    share = frame["probability"].eq(1).groupby(frame["chunk"]).transform("mean")
    frame["stratum"] = frame["type"] + pd.cut(share, [-1, 0.15, 0.45, 1], labels=[" low", " middle", " high"]).astype(str)
    unsure = int((frame["class_name"] == "unclear").sum())
    notes = [f"{unsure} cells that the experts were unsure of (defect probability 1/3 or 2/3) are left out"]
    return frame[["image", "path", "class_name", "group", "stratum", "chunk"]], notes


# -- Magnetic tile --------------------------------------------------------------------------------

# Capture numbers of the nine tiles with cracks, told apart by eye; a range may join several clusters.
_CRACK_TILES = ((3191, 3279), (32128, 32235), (85602, 88201), (116527, 116623), (249594, 249821),
                (265613, 265737), (276355, 276355), (339819, 339965), (342140, 342249))
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
            rows.append((path.relative_to(root).as_posix(), str(path), name, int(match[1]), int(match[2])))
    if not rows:
        raise StudyError(f"{root}: no MT_<Class>/Imgs/*.jpg there; {SHEETS['magnetic_tile'].get}")
    frame = pd.DataFrame(rows, columns=["image", "path", "class_name", "exposure", "number"]).sort_values("number")
    frame["group"] = tile_groups(frame["number"].to_numpy())
    burst = ((frame["number"].diff() > _BURST_GAP) | (frame["exposure"].diff() <= 0)).cumsum()
    frame["object"] = "burst" + burst.astype(str).str.zfill(3)
    rarest = frame.groupby("group")["class_name"].transform(lambda c: min(c, key=_RAREST_FIRST.index))
    shipped = len(partitions.shipped("magnetic_tile"))
    notes = [f"{shipped - len(frame)} of the publisher's {shipped} photos are not here"] if len(frame) < shipped else []
    return frame.assign(stratum=rarest)[["image", "path", "class_name", "group", "stratum", "object"]], notes


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

_CHEST_COLUMNS = {"Image Index": "image", "Finding Labels": "class_name", "Patient ID": "patient", "View Position": "view"}
_CHEST_STUDIED = ("Effusion", "Pneumothorax", "Cardiomegaly")
VIEWS = ("PA", "AP", "all")
VIEW = "PA"  # sicker patients are imaged lying, AP: with both views a classifier learns the view


def read_chest_labels(root: Path) -> pd.DataFrame:
    """The official label table: image, class_name ('A|B'), patient, view. One row an image, all 112,120 of them."""
    _need_folder(root, "chestxray14")
    files = sorted(root.glob("Data_Entry_2017*.csv"))
    if not files:
        raise StudyError(f"{root}: no Data_Entry_2017*.csv there; {SHEETS['chestxray14'].get}")
    frame = _read_csv(files[-1], list(_CHEST_COLUMNS))
    missing = [c for c in _CHEST_COLUMNS if c not in frame.columns]
    if missing:
        raise StudyError(f"{files[-1]}: the columns {missing} are missing; take the official file")
    frame = frame[list(_CHEST_COLUMNS)].rename(columns=_CHEST_COLUMNS)
    twice = frame["image"][frame["image"].duplicated()]
    if len(twice):
        raise StudyError(f"{files[-1]}: {len(twice)} images have several rows (first: {twice.iloc[0]}); take the official file")
    # Stratum: the studied findings of the patient in this view, and the archive of twelve, so
    # that any subset of the archives is split in the same shares.
    found = frame["class_name"].where(frame["view"] == VIEW, "")
    flags = pd.Series("", index=frame.index)
    for finding in _CHEST_STUDIED:
        has = found.str.contains(finding).groupby(frame["patient"]).transform("any")
        flags += has.map({True: "1", False: "0"})
    position = frame["image"].rank(method="first").sub(1)
    archive = (1 + (position - 4999).floordiv(10000).add(1).clip(0, 11)).groupby(frame["patient"]).transform("first")
    frame["group"] = "patient" + frame["patient"].str.zfill(5)
    frame["stratum"] = flags + archive.astype(int).map(" archive{:02d}".format)
    return frame


def read_chestxray14(view: str = VIEW) -> tuple[pd.DataFrame, list[str]]:
    """The images at hand of one view ('PA', 'AP') or 'all', in `images/` or the twelve `images_0NN/images/`."""
    if view not in VIEWS:
        raise StudyError(f"unknown view '{view}': known are {', '.join(VIEWS)}")
    root = data_root() / "chestxray14"
    labels = read_chest_labels(root)
    paths = [p for folder in ("images", "images_0*/images", "images_0*") for p in sorted(root.glob(f"{folder}/*.png"))]
    if not paths:
        raise StudyError(f"{root}: no images/*.png or images_0NN/images/*.png there; {SHEETS['chestxray14'].get}")
    found = {p.name: str(p) for p in reversed(paths)}  # of two with one name the first counts
    here = labels[labels["image"].isin(found)]
    strangers = sorted(found.keys() - set(here["image"]))
    frame = here if view == "all" else here[here["view"] == view]

    notes = [f"{len(labels) - len(here)} of {len(labels)} rows of the label table have no image here: their archives were not fetched"]
    if strangers:
        notes.append(f"{len(strangers)} images without a row in the label table are left out: {_some(strangers)}")
    if len(paths) > len(found):
        twice = sorted({p.name for p in paths if str(p) != found[p.name]})
        notes.append(f"{len(twice)} images lie in two folders, the first is read: {_some(twice)}")
    if view != "all":
        notes.append(f"{len(here) - len(frame)} of {len(here)} images are not in {view} view and are left out: "
                     "sicker patients are imaged lying (AP), so with both views a classifier learns the view")
    return frame.assign(path=frame["image"].map(found))[["image", "path", "class_name", "group", "stratum"]], notes


def _need_folder(root: Path, name: str) -> None:
    if not root.is_dir():
        raise StudyError(f"{root}: no such folder; set FSL_DATA_DIR to the folder that holds {name}/, or get it: {SHEETS[name].get}")


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """Those of the columns that are there, as text."""
    try:
        return pd.read_csv(path, usecols=lambda c: c in columns, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise StudyError(f"{path}: not a readable CSV file ({str(error).strip().splitlines()[0]}); replace it") from error


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


READERS = {"elpv": read_elpv, "magnetic_tile": read_magnetic_tile, "chestxray14": read_chestxray14}


# -- The user's own folder ------------------------------------------------------------------------

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def folder_root(folder: str = "") -> Path:
    """The user's folder: `folder`, else FSL_FOLDER. Raises StudyError where neither names a folder."""
    folder = folder or os.environ.get("FSL_FOLDER", "")
    if not folder:
        raise StudyError("domain 'folder' needs the parameter folder (or the variable FSL_FOLDER): a folder that holds <class>/*.png")
    root = Path(folder).expanduser().absolute()
    if not root.is_dir():
        raise StudyError(f"{root}: no such folder; it should hold one folder for each class")
    return root


def read_folder(root: Path, group_pattern: str = "") -> tuple[pd.DataFrame, list[str]]:
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
        name, image = (unicodedata.normalize("NFC", t) for t in (path.parent.name, path.relative_to(root).as_posix()))
        rows.append((image, str(path), name))
    frame = pd.DataFrame(rows, columns=["image", "path", "class_name"])
    if frame["class_name"].nunique() < 2:
        raise StudyError(f"{root}: {len(frame)} images in {frame['class_name'].nunique()} class folders; expected two or more folders "
                         f"<class>/ with {', '.join('*' + s for s in SUFFIXES)}")
    if (bad := frame["class_name"][frame["class_name"].str.contains("|", regex=False)]).any():
        raise StudyError(f"{root}: the class name '{bad.iloc[0]}' holds a '|'; rename the folder")

    frame["group"], notes = _folder_groups(frame["image"], root, group_pattern)
    if ignored:
        notes.append(f"{len(ignored)} entries are no images and are left out: {_some(ignored)}")
    if images.any_colour([Path(p) for p in frame["path"]]):
        notes.append("colour images are turned to grey: mini paints grey")
    # A group counts for its class with the fewest images, so that rare classes reach every partition.
    rarest = frame["class_name"].map(frame["class_name"].value_counts()).groupby(frame["group"]).transform("min")
    return frame.assign(stratum=rarest.astype(str))[["image", "path", "class_name", "group", "stratum"]], notes


def _folder_groups(names: pd.Series, root: Path, pattern: str) -> tuple[pd.Series, list[str]]:
    """Group of each image, and notes."""
    path = root / "groups.csv"
    if path.is_file():
        table = _read_csv(path, ["file", "group"])
        missing = [c for c in ("file", "group") if c not in table.columns]
        if missing:
            raise StudyError(f"{path}: the columns {missing} are missing; expected file,group")
        table["file"] = table["file"].map(lambda f: unicodedata.normalize("NFC", f))
        twice = table["file"][table["file"].duplicated()]
        if len(twice):
            raise StudyError(f"{path}: {len(twice)} files stand there more than once (first: {twice.iloc[0]})")
        found = names.map(table.set_index("file")["group"]).fillna("")
        extra = sorted(set(table["file"]) - set(names))
        notes = [f"{len(extra)} rows of groups.csv have no image: {_some(extra)}"] if extra else []
        what = f"{path} gives no group to"
    elif pattern:
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise StudyError(f"group_pattern '{pattern}' is no regular expression: {error}") from error
        matches = names.map(lambda image: expression.search(image.rsplit("/", 1)[-1]))
        found = matches.map(lambda m: "" if m is None else (m[1] if expression.groups else m[0]) or "")
        notes, what = [], f"group_pattern '{pattern}' finds no group in"
    else:
        return names, ["no groups.csv and no group_pattern: every image is its own group, so if one object "
                       "stands in several images, the split leaks"]
    lost = sorted(names[found == ""])
    if lost:
        raise StudyError(f"{what} {len(lost)} of {len(names)} images: {_some(lost)}")
    return found, notes


def _folder_common(names: list[str], rare_class: str, common_class: str) -> str:
    if not rare_class:
        raise StudyError(f"domain 'folder' needs rare_class: one of {', '.join(names)}")
    others = [n for n in names if n != rare_class]
    if not common_class and len(others) == 1:
        return others[0]
    if common_class not in names:
        raise StudyError(f"common_class is '{common_class}': it must name one of the folders {', '.join(others)}")
    return common_class


def _folder_partition(frame: pd.DataFrame, root: Path, pattern: str, common: str) -> tuple[pd.DataFrame, list[str]]:
    """The folder's images with their partition, made at first use and kept in the store from then on."""
    determined_by = store.canonical({"folder": str(root.resolve()), "common": common, "pattern": pattern})
    path = store.root() / "partitions" / f"folder-{hashlib.sha256(determined_by.encode()).hexdigest()[:16]}.csv"
    clean = (frame["class_name"] == common).groupby(frame["group"]).all()
    frame = frame.assign(partition=partitions.kept(path, frame, clean, SHEETS["folder"].base_share))
    idle = int(((frame["partition"] == "base") & (frame["class_name"] != common)).sum())
    notes = [f"partitions are kept in {path}"]
    if idle:
        notes.append(f"{idle} images of other classes were added to base groups later and are not used")
    return frame, notes


# -- How the shipped partitions were made -----------------------------------------------------------

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
    return frame.rename(columns={"image": "file"})[["file", "group", "partition"]].sort_values("file")
