"""ELPV: electroluminescence images of solar cells, out of the package `elpv-dataset`."""

import importlib.util
from pathlib import Path

import pandas as pd

from fsl_utils import StudyError
from fsl_utils.data import partitions
from fsl_utils.data.datasets.sheet import DataSet, Sheet

SHEET = Sheet(
    title="ELPV solar cells",
    rare=("defective",),
    common="functional",
    group="chunk of about 60 consecutive cells (approximates a module; no module id is published)",
    licence="CC BY-NC-SA 4.0",
    citation="Deitsch et al., Segmentation of photovoltaic module cells in uncalibrated "
    "electroluminescence images, Machine Vision and Applications 2021; "
    "Buerhop-Lutz et al., EU PVSEC 2018",
    source="https://github.com/zae-bayern/elpv-dataset",
    get="pip install elpv-dataset",
)
BASE_SHARE = 0.25
# Lengths of the runs of equal cell type in file order; a module holds 60 or 72 cells of one type.
_CHUNK = 60
_CLASSES = {0.0: "functional", 1.0: "defective"}  # 1/3 and 2/3: the experts were unsure
# One module was photographed twice: 50 cells of chunk38 (2277-2326) are those of chunk29
# (1735-1784) again, in the same order, as the leak audit found: each pair is more alike than .9,
# and their labels agree in 71 %.
_SAME_MODULE = {"chunk38": "chunk29"}


def read() -> tuple[pd.DataFrame, list[str]]:
    """2,624 grey 300x300 cells: 1,508 functional, 715 defective, 401 unclear.

    Groups: each run of one cell type in file order, cut into chunks of about 60; the module that is
    there twice is one group. The stratum is the cell type and the chunk's defect share in 3 steps.
    """
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None:
        raise StudyError(f"the package elpv-dataset is not installed: {SHEET.get}")
    folder = Path(spec.origin).parent / "data"
    frame = pd.read_csv(folder / "labels.csv", sep=r"\s+", names=["file", "probability", "type"])
    frame["image"] = frame["file"].str.removeprefix("images/")
    frame["path"] = [str(folder / f) for f in frame["file"]]
    frame["class_name"] = frame["probability"].map(_CLASSES).fillna("unclear")

    run = (frame["type"] != frame["type"].shift()).cumsum()
    within = frame.groupby(run).cumcount()
    length = frame.groupby(run)["type"].transform("size")
    chunks = (length / _CHUNK).round().clip(lower=1)
    group = run * 1000 + (within * chunks // length).astype(int)
    number = pd.Series(pd.factorize(group)[0], index=frame.index)
    frame["chunk"] = "chunk" + number.map("{:02d}".format)
    frame["group"] = frame["chunk"].replace(_SAME_MODULE)

    share = frame["probability"].eq(1).groupby(frame["chunk"]).transform("mean")
    steps = pd.cut(share, [-1, 0.15, 0.45, 1], labels=[" low", " middle", " high"])
    frame["stratum"] = frame["type"] + steps.astype(str)
    unsure = int((frame["class_name"] == "unclear").sum())
    notes = [
        f"{unsure} cells that the experts were unsure of (defect probability 1/3 or 2/3) "
        "are left out"
    ]
    return frame[["image", "path", "class_name", "group", "stratum", "chunk"]], notes


def split() -> pd.DataFrame:
    """The shipped partition. All groups are mixed, so that any of them can be base."""
    frame = read()[0]
    made = partitions.make(frame.assign(group=frame["chunk"]), "elpv", BASE_SHARE)
    # It was drawn by chunk before the repeated module was known; the group goes where its first
    # chunk went.
    group = made["group"].replace(_SAME_MODULE)
    partition = made.groupby(group)["partition"].transform("first")
    return made.assign(group=group, partition=partition)


ELPV = DataSet(
    name="elpv",
    sheet=SHEET,
    read=read,
    split=split,
    prompts=("a photo of a {} solar cell", "a photo of a {} solar cell"),
    condition=1,
    flips="hv",
    shown=True,
)
