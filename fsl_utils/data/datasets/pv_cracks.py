"""pv_cracks: electroluminescence images of solar cells with pixel masks of cracks, from pv-vision.

Which images show one module? **The number in a file name is not a module.** All images of one cell
position were correlated (96 pixels, brightness flattened, row medians and 25 leading components
taken out, moved by up to 4 pixels; then looked at by eye where in doubt):

- `EL<2k-1>` and `EL<2k>` are one module photographed twice: all 17 pairs of a position that both
  have correlate at .66 or more (most above .87), and no other pair of EL names above .2.
- An `FSEC_<series><n>` is one module again and again as its cracks grow; n is the order of the
  photographs. Pairs of a position correlate at .6 to .95 in the middle within a module, at .1
  across; two uncracked cells at .45 or more, across below .5 save four that differ to the eye.
  `2AXI` and `3AXI` are one module, `2GC` goes on in `3GC42`, `5GC` changes its module at 20 and 59.
- `ELH5` to `ELH8` are one module, other names of `ELH` and those of `PA` one each. No two names of
  `ELHn` in a row share a position, so they are taken for one module as those of `EL` are.

So 417 names are 80 modules, 42 of them with a crack. Within a module the same cell comes back: its
position is in `object`. Wafers cut from one block, in modules of one batch, look alike too.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from fsl_utils import StudyError
from fsl_utils.data import decoding, download, images, partitions
from fsl_utils.data.datasets.sheet import DataSet, Sheet, data_root
from fsl_utils.data.datasets.tables import need_folder

SHEET = Sheet(
    title="Cracks in solar cells (pv-vision)",
    rare=("crack", "dark"),
    common="no_defect",
    group="module, by file names and by correlating all images of one cell position; 417 names "
    "are 80 modules (see fsl_utils/data/datasets/pv_cracks.py)",
    licence="BSD-3-Clause (its licence file covers the repository)",
    citation="pv-vision, zenodo 6564508",
    source="https://github.com/hackingmaterials/pv-vision, commit 9093c49a, "
    "examples/crack_segmentation/img_label_for_training/",
    get="python -m fsl_utils fetch pv_cracks",
)
BASE_SHARE = 0.5
URL = "https://codeload.github.com/hackingmaterials/pv-vision/tar.gz/9093c49a"
BYTES = 1_500_000_000  # at most: the whole repository, of some hundred MB; the server does not tell
SUMS = partitions.SHIPPED / "pv_cracks.sha256.xz"
_MEMBERS = (
    r"[^/]+/examples/crack_segmentation/img_label_for_training/"
    r"((?:train|val|testset)/(?:img|ann)/[^/]+)"
)

DARK, CROSS, CRACK, BUSBAR = 1, 2, 3, 4  # values of a mask; 0 is background

# Series whose names are not one module as a whole: (first number, module).
_SERIES = {
    "FSEC_3AXI": ((1, "FSEC_2AXI"),),
    "FSEC_3GC": ((1, "FSEC_3GC"), (42, "FSEC_2GC")),
    "FSEC_5GC": ((1, "FSEC_5GC"), (20, "FSEC_5GC20"), (59, "FSEC_5GC59")),
}
_STEPS = (0, 1, 2, 10, 50)  # images with a crack from which a module is in another stratum


def module(name: str) -> str:
    """The module of a file name's part before the cell, as 'EL86' or 'FSEC_3GC45'."""
    match = re.fullmatch(r"(.*?)(\d+)", name)
    if match is None:
        raise StudyError(f"pv_cracks: {name} is no name like EL86_3.jpg: another release?")
    series, number = match.groups()
    number = int(number)
    if series in ("EL", "ELHn"):
        return f"{series}{number + number % 2 - 1:03d}"
    if series == "ELH":
        return f"ELH{5 if 5 <= number <= 8 else number:03d}"
    if not series.startswith("FSEC_"):
        return f"{series}{number:03d}"
    starts = _SERIES.get(series, ((1, series),))
    return next(found for first, found in reversed(starts) if number >= first)


def read() -> tuple[pd.DataFrame, list[str]]:
    """1,272 grey cells, `{train,val,testset}/img/<name>_<cell>.jpg`, each with a mask in `ann/`.

    400 pixels as published, or smaller. Classes are those of the mask's pixels: 'crack', 'dark'
    (an inactive area), 'crack|dark', 'cross' (a worker's mark or a spot alone), 'no_defect'.
    `object` is the cell of a module, photographed up to 8 times. Stratum: images with a crack of
    the module.
    """
    root = data_root() / "pv_cracks"
    need_folder(root, SHEET.get)
    rows = []
    for path in sorted(root.glob("*/img/*.jpg")):
        match = re.fullmatch(r"((?:EL|ELH|ELHn|PA|FSEC_\d?[A-Z]+)\d+)_(\d+)", path.stem)
        if match is None:
            raise StudyError(f"{path}: expected a name like EL86_12.jpg or FSEC_3GC45_12.jpg")
        group = module(match[1])
        image = path.relative_to(root).as_posix()
        rows.append((image, str(path), group, f"{group} cell {int(match[2]):02d}"))
    if not rows:
        raise StudyError(f"{root}: no {{train,val,testset}}/img/*.jpg there; {SHEET.get}")
    frame = pd.DataFrame(rows, columns=["image", "path", "group", "object"])
    frame["class_name"] = _classes(frame["path"])
    cracks = frame["class_name"].str.contains("crack").groupby(frame["group"]).transform("sum")
    frame["stratum"] = [f"cracks {max(s for s in _STEPS if s <= n):02d}" for n in cracks]
    return frame[["image", "path", "class_name", "group", "stratum", "object"]], _notes(frame)


def _classes(paths: pd.Series) -> list[str]:
    names = [""] * len(paths)

    def classify(i):
        path = mask_path(paths.iloc[i])
        values = set(np.unique(np.asarray(decoding.decode(path, 1))).tolist())
        if not values <= {0, DARK, CROSS, CRACK, BUSBAR}:
            raise StudyError(f"{path}: not a mask of the values 0 to {BUSBAR}; get it anew")
        found = [name for name, value in (("crack", CRACK), ("dark", DARK)) if value in values]
        names[i] = "|".join(found) or ("cross" if CROSS in values else SHEET.common)

    images.each(classify, range(len(paths)), "masks", progress=False)
    return names


def _notes(frame: pd.DataFrame) -> list[str]:
    count = frame["class_name"].value_counts()
    notes = [
        f"{count.get('cross', 0)} cells with a cross alone (a worker's mark or a spot) are left "
        "out, and those that show another defect than the rare one alone: of dark areas without a "
        f"crack {count.get('dark', 0)}, of cracks without a dark area {count.get('crack', 0)}"
    ]
    rows = partitions.shipped("pv_cracks")
    shipped = 0 if rows is None else len(rows)
    if len(frame) < shipped:
        notes.append(f"{shipped - len(frame)} of the publisher's {shipped} cells are not here")
    return notes


def mask_path(image_path: str) -> Path:
    """The pixel mask of a cell: of its name, in the folder beside."""
    path = Path(image_path)
    return path.parent.with_name("ann") / f"{path.stem}.png"


def split() -> pd.DataFrame:
    """The shipped partition: half of the modules without any defect or mark are base."""
    return partitions.make(read()[0], "pv_cracks", BASE_SHARE, SHEET.common)


def fetch(folder: Path, archives: list[int]) -> None:
    """The publisher's images and masks at one commit, each compared with the shipped SHA-256."""
    download.listed_files(folder, URL, BYTES, SUMS, _MEMBERS)


PV_CRACKS = DataSet(
    name="pv_cracks",
    sheet=SHEET,
    read=read,
    split=split,
    sealed=True,
    fetch=fetch,
    mask_path=mask_path,
    mask_values=(DARK, CRACK),
    prompts=("a photo of a solar cell with {}", "a photo of a solar cell with {}"),
    condition=6,
    flips="hv",
    shown=True,
)
