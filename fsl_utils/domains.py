"""The data sets: where each lies, how it is read, its groups, licence and citation.

A reader returns one row an image: image (name inside the data set), path, class_name,
group (what must not be split), stratum (what a split is balanced by). Everything after
that is the same for all domains.
"""

import hashlib
import importlib.util
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from . import ROOT, StudyError, images, partitions


@dataclass(frozen=True)
class Sheet:
    """What a reader must know of a data set."""

    title: str
    rare: tuple[str, ...]  # the classes that can be rare; the first is the default
    common: str
    group: str  # what a group is
    licence: str
    citation: str
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
        get="pip install elpv-dataset", base_share=0.25, flips="hv",
    ),
    "magnetic_tile": Sheet(
        title="Magnetic tile defects", rare=("any_defect", "crack", "blowhole", "break", "fray", "uneven"), common="free",
        group="tile: photos whose capture number lies within 1,000 of the next (no tile id is published)",
        licence="'welcomed to use', no licence file: do not redistribute",
        citation="Huang, Qiu, Yuan, Surface defect saliency of magnetic tile, The Visual Computer 2020",
        get="python -m fsl_utils fetch magnetic_tile", base_share=1.0, flips="hv",
    ),
    "chestxray14": Sheet(
        title="NIH ChestX-ray14",
        rare=("Effusion", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Hernia",
              "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
        common="No Finding", group="patient",
        licence="free use: link to the NIH site, cite, acknowledge the NIH Clinical Center",
        citation="Wang et al., ChestX-ray8, CVPR 2017",
        get="python -m fsl_utils fetch chestxray14", base_share=0.30, flips="",
    ),
}


def data_root() -> Path:
    """Folder of the data sets: `FSL_DATA_DIR`, else `data/` in the clone."""
    return Path(os.environ.get("FSL_DATA_DIR") or ROOT / "data").expanduser().absolute()


@dataclass(frozen=True)
class Domain:
    """One task. `table`: image, path, class_name, label (1 rare, 0 common), group, stratum, partition."""

    name: str
    rare_class: str
    common_class: str
    protocol: str
    table: pd.DataFrame = field(repr=False)
    channels: int = 1

    @cached_property
    def data_hash(self) -> str:
        """Hash of every image of the task (names and contents) with its label, group and partition."""
        pixels = images.data_hash([Path(p) for p in self.table["path"]], list(self.table["image"]))
        rows = self.table.sort_values("image")[["image", "label", "group", "partition"]].to_csv(index=False)
        return hashlib.sha256((pixels + rows).encode()).hexdigest()

    def images(self, size: int) -> np.ndarray:
        """All images, uint8 [N, C, size, size] in table order, memory-mapped."""
        return images.cached([Path(p) for p in self.table["path"]], list(self.table["image"]), self.data_hash, size, self.channels)

    def rows(self, partition: str, label: int | None = None) -> np.ndarray:
        """Positions of a partition's images, of one label or both."""
        keep = self.table["partition"] == partition
        if label is not None:
            keep &= self.table["label"] == label
        return np.flatnonzero(keep)


def load(name: str = "elpv", rare_class: str = "", protocol: str = "group") -> Domain:
    """Read a domain and label it for one task. Raises StudyError where data, class or partition do not fit."""
    if name not in SHEETS:
        raise StudyError(f"unknown domain '{name}': known are {', '.join(SHEETS)}")
    if protocol not in ("group", "image"):
        raise StudyError(f"unknown protocol '{protocol}': known are group, image")
    sheet = SHEETS[name]
    rare_class = rare_class or sheet.rare[0]
    if rare_class not in sheet.rare:
        raise StudyError(f"unknown rare_class '{rare_class}' of {name}: known are {', '.join(sheet.rare)}")
    frame = READERS[name]()
    frame = frame.assign(partition=_shipped_partition(name, frame))
    table = label(frame, rare_class, sheet.common)
    if protocol == "image":
        table = partitions.by_image(table, name)
    return Domain(name, rare_class, sheet.common, protocol, table)


def label(frame: pd.DataFrame, rare_class: str, common: str) -> pd.DataFrame:
    """Keep the images of the two classes and label them 1 (rare) or 0 (common).

    A class name may hold several findings, as in 'Effusion|Mass'; 'any_defect' is all that is not common.
    """
    names = frame["class_name"].str.split("|")
    rare = frame["class_name"] != common if rare_class == "any_defect" else names.map(lambda found: rare_class in found)
    rare &= frame["class_name"] != "unclear"
    keep = rare | (frame["class_name"] == common)
    if not rare.any():
        raise StudyError(f"no image of the rare class '{rare_class}' among {len(frame)} images")
    return frame.assign(label=rare.astype(int))[keep].sort_values("image").reset_index(drop=True)


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


def read_elpv() -> pd.DataFrame:
    """2,624 grey 300x300 cells out of the `elpv-dataset` package: 1,508 functional, 715 defective, 401 unclear.

    Groups: each run of one cell type in file order, cut into chunks of about 60. The stratum is the
    cell type and the chunk's defect share in three steps.
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
    frame["group"] = "chunk" + pd.Series(pd.factorize(group)[0], index=frame.index).map("{:02d}".format)

    share = frame["probability"].eq(1).groupby(frame["group"]).transform("mean")
    frame["stratum"] = frame["type"] + pd.cut(share, [-1, 0.15, 0.45, 1], labels=[" low", " middle", " high"]).astype(str)
    return frame[["image", "path", "class_name", "group", "stratum"]]


# -- Magnetic tile --------------------------------------------------------------------------------

# Capture numbers of the nine tiles with cracks, told apart by eye; a range may join several clusters.
_CRACK_TILES = ((3191, 3279), (32128, 32235), (85602, 88201), (116527, 116623), (249594, 249821),
                (265613, 265737), (276355, 276355), (339819, 339965), (342140, 342249))
_GAP = 1000
_TILE_CLASSES = ("free", "blowhole", "break", "crack", "fray", "uneven")
_RAREST_FIRST = ("crack", "fray", "break", "uneven", "blowhole", "free")


def read_magnetic_tile() -> pd.DataFrame:
    """1,344 grey photos, `MT_<Class>/Imgs/exp<1-6>_num_<N>.jpg`, each with a `.png` mask of the same stem."""
    root = data_root() / "magnetic_tile"
    _need_folder(root, "magnetic_tile")
    rows = []
    for name in _TILE_CLASSES:
        for path in sorted((root / f"MT_{name.capitalize()}" / "Imgs").glob("*.jpg")):
            match = re.fullmatch(r"exp\d+_num_(\d+)", path.stem)
            if match is None:
                raise StudyError(f"{path}: expected a name like exp1_num_4727.jpg")
            rows.append((str(path.relative_to(root)), str(path), name, int(match[1])))
    if not rows:
        raise StudyError(f"{root}: no MT_<Class>/Imgs/*.jpg there; {SHEETS['magnetic_tile'].get}")
    frame = pd.DataFrame(rows, columns=["image", "path", "class_name", "number"]).sort_values("number")
    frame["group"] = tile_groups(frame["number"].to_numpy())
    rarest = frame.groupby("group")["class_name"].transform(lambda c: min(c, key=_RAREST_FIRST.index))
    return frame.assign(stratum=rarest)[["image", "path", "class_name", "group", "stratum"]]


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
VIEW = "PA"  # sicker patients are imaged lying, AP: with both views a classifier learns the view


def read_chest_labels(root: Path) -> pd.DataFrame:
    """The official label table: image, class_name ('A|B'), patient, view. One row an image, all 112,120 of them."""
    _need_folder(root, "chestxray14")
    files = sorted(root.glob("Data_Entry_2017*.csv"))
    if not files:
        raise StudyError(f"{root}: no Data_Entry_2017*.csv there; {SHEETS['chestxray14'].get}")
    frame = pd.read_csv(files[-1], dtype=str)
    missing = [c for c in _CHEST_COLUMNS if c not in frame.columns]
    if missing:
        raise StudyError(f"{files[-1]}: the columns {missing} are missing; take the official file")
    frame = frame[list(_CHEST_COLUMNS)].rename(columns=_CHEST_COLUMNS)
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


def read_chestxray14() -> pd.DataFrame:
    """PA views of the images at hand, in `images/` or the twelve `images_0NN/images/`."""
    root = data_root() / "chestxray14"
    labels = read_chest_labels(root)
    found = {p.name: str(p) for folder in ("images", "images_0*/images", "images_0*") for p in root.glob(f"{folder}/*.png")}
    if not found:
        raise StudyError(f"{root}: no images/*.png or images_0NN/images/*.png there; {SHEETS['chestxray14'].get}")
    frame = labels[labels["image"].isin(found) & (labels["view"] == VIEW)]
    return frame.assign(path=frame["image"].map(found))[["image", "path", "class_name", "group", "stratum"]]


def _need_folder(root: Path, name: str) -> None:
    if not root.is_dir():
        raise StudyError(f"{root}: no such folder; set FSL_DATA_DIR to the folder that holds {name}/, or get it: {SHEETS[name].get}")


READERS = {"elpv": read_elpv, "magnetic_tile": read_magnetic_tile, "chestxray14": read_chestxray14}


# -- How the shipped partitions were made -----------------------------------------------------------

def make_partition(name: str) -> pd.DataFrame:
    """Make an embedded domain's partition anew: file, group, partition, one row an image, sorted by file.

    Base groups: elpv a quarter of all; magnetic_tile those with free images alone; chestxray14 30 % of
    the patients whose every image says No Finding.
    """
    sheet = SHEETS[name]
    frame = read_chest_labels(data_root() / name) if name == "chestxray14" else READERS[name]()
    strata = frame.groupby("group")["stratum"].first()
    clean = (frame["class_name"] == sheet.common).groupby(frame["group"]).all()
    can_be_base = strata if name == "elpv" else strata[clean]
    frame["partition"] = partitions.assign(frame, can_be_base, sheet.base_share, name)
    return frame.rename(columns={"image": "file"})[["file", "group", "partition"]].sort_values("file")
