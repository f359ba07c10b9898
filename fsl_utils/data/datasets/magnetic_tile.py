"""Magnetic-Tile-Defect: photos of tiles with pixel masks, several of one tile."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from fsl_utils import StudyError
from fsl_utils.data import download, partitions
from fsl_utils.data.datasets.sheet import DataSet, Sheet, data_root
from fsl_utils.data.datasets.tables import need_folder

SHEET = Sheet(
    title="Magnetic tile defects",
    rare=("any_defect", "crack", "blowhole", "break", "fray", "uneven"),
    common="free",
    group="tile: photos whose capture number lies within 1,000 of the next (no tile id is "
    "published)",
    licence="'welcomed to use', no licence file: do not redistribute",
    citation="Huang, Qiu, Yuan, Surface defect saliency of magnetic tile, The Visual Computer 2020",
    source="https://github.com/abin24/Magnetic-tile-defect-datasets.",
    get="python -m fsl_utils fetch magnetic_tile",
)
COMMIT = "cc4eb530b57b9cb7225bf76023873043ffd50655"
URL = f"https://codeload.github.com/abin24/Magnetic-tile-defect-datasets./tar.gz/{COMMIT}"
BYTES = 100_000_000  # at most; it has about 60 MB, and the server does not tell
SUMS = partitions.SHIPPED / "magnetic_tile.sha256"

# Capture numbers of the nine tiles with cracks, told apart by eye; a range may join several
# clusters.
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
_CLASSES = ("free", "blowhole", "break", "crack", "fray", "uneven")
_RAREST_FIRST = ("crack", "fray", "break", "uneven", "blowhole", "free")


def read() -> tuple[pd.DataFrame, list[str]]:
    """1,344 grey photos, `MT_<Class>/Imgs/exp<1-6>_num_<N>.jpg`, each with a `.png` mask.

    `object` is the burst: consecutive photos with rising exposure and a gap of at most 500, surely
    one tile; the group is coarser.
    """
    root = data_root() / "magnetic_tile"
    need_folder(root, SHEET.get)
    rows = []
    for name in _CLASSES:
        for path in sorted((root / f"MT_{name.capitalize()}" / "Imgs").glob("*.jpg")):
            match = re.fullmatch(r"exp(\d+)_num_(\d+)", path.stem)
            if match is None:
                raise StudyError(f"{path}: expected a name like exp1_num_4727.jpg")
            image = path.relative_to(root).as_posix()
            rows.append((image, str(path), name, int(match[1]), int(match[2])))
    if not rows:
        raise StudyError(f"{root}: no MT_<Class>/Imgs/*.jpg there; {SHEET.get}")
    frame = pd.DataFrame(rows, columns=["image", "path", "class_name", "exposure", "number"])
    frame = frame.sort_values("number")
    frame["group"] = tile_groups(frame["number"].to_numpy())
    burst = ((frame["number"].diff() > _BURST_GAP) | (frame["exposure"].diff() <= 0)).cumsum()
    frame["object"] = "burst" + burst.astype(str).str.zfill(3)
    rarest = frame.groupby("group")["class_name"].transform(
        lambda c: min(c, key=_RAREST_FIRST.index)
    )
    shipped, notes = len(partitions.shipped("magnetic_tile")), []
    if len(frame) < shipped:
        notes.append(f"{shipped - len(frame)} of the publisher's {shipped} photos are not here")
    columns = ["image", "path", "class_name", "group", "stratum", "object"]
    return frame.assign(stratum=rarest)[columns], notes


def tile_groups(numbers: np.ndarray) -> list[str]:
    """Tile of each capture number (ascending): clusters with gaps up to 1,000, joined by the crack
    tiles.
    """
    cluster = np.concatenate([[0], np.cumsum(np.diff(numbers) > _GAP)])
    for low, high in _CRACK_TILES:
        spanned = cluster[(numbers >= low) & (numbers <= high)]
        if len(spanned):
            cluster[np.isin(cluster, spanned)] = spanned.min()
    first = dict(zip(cluster[::-1], numbers[::-1]))
    return [f"tile{first[c]:06d}" for c in cluster]


def mask_path(image_path: str) -> Path:
    """The pixel mask (white: defect) that stands beside a photo."""
    return Path(image_path).with_suffix(".png")


def split() -> pd.DataFrame:
    """The shipped partition: every tile without a defect is base."""
    return partitions.make(read()[0], "magnetic_tile", 1.0, SHEET.common)


def fetch(folder: Path, archives: list[int]) -> None:
    """The publisher's photos and masks at one commit, each compared with the shipped SHA-256."""
    members = r"[^/]+/(MT_\w+/Imgs/[^/]+)"
    download.listed_files(folder, URL, BYTES, SUMS, members)


MAGNETIC_TILE = DataSet(
    name="magnetic_tile",
    sheet=SHEET,
    read=read,
    split=split,
    fetch=fetch,
    mask_path=mask_path,
    prompts=("a photo of a magnetic tile with {}", "a photo of a magnetic tile {} of defects"),
    condition=2,
    finetuning={"defect": 5.0},
    flips="hv",
)
