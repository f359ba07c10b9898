"""The data sheets: what a reader must know of each data set, and where the data lie."""

import os
from dataclasses import dataclass
from pathlib import Path

from fsl_utils import ROOT


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
        title="ELPV solar cells",
        rare=("defective",),
        common="functional",
        group="chunk of about 60 consecutive cells (approximates a module; no module id is published)",
        licence="CC BY-NC-SA 4.0",
        citation="Deitsch et al., Segmentation of photovoltaic module cells in uncalibrated electroluminescence "
        "images, Machine Vision and Applications 2021; Buerhop-Lutz et al., EU PVSEC 2018",
        source="https://github.com/zae-bayern/elpv-dataset",
        get="pip install elpv-dataset",
        base_share=0.25,
        flips="hv",
    ),
    "magnetic_tile": Sheet(
        title="Magnetic tile defects",
        rare=("any_defect", "crack", "blowhole", "break", "fray", "uneven"),
        common="free",
        group="tile: photos whose capture number lies within 1,000 of the next (no tile id is published)",
        licence="'welcomed to use', no licence file: do not redistribute",
        citation="Huang, Qiu, Yuan, Surface defect saliency of magnetic tile, The Visual Computer 2020",
        source="https://github.com/abin24/Magnetic-tile-defect-datasets.",
        get="python -m fsl_utils fetch magnetic_tile",
        base_share=1.0,
        flips="hv",
    ),
    "chestxray14": Sheet(
        title="NIH ChestX-ray14",
        rare=(
            "Effusion",
            "Atelectasis",
            "Cardiomegaly",
            "Consolidation",
            "Edema",
            "Emphysema",
            "Fibrosis",
            "Hernia",
            "Infiltration",
            "Mass",
            "Nodule",
            "Pleural_Thickening",
            "Pneumonia",
            "Pneumothorax",
        ),
        common="No Finding",
        group="patient",
        licence="free use: link to the NIH site, cite, acknowledge the NIH Clinical Center",
        citation="Wang et al., ChestX-ray8, CVPR 2017",
        source="https://nihcc.app.box.com/v/ChestXray-NIHCC",
        get="python -m fsl_utils fetch chestxray14",
        base_share=0.30,
        flips="",
    ),
    "folder": Sheet(
        title="your own folder",
        rare=(),
        common="",
        group="as groups.csv or group_pattern say, else the image",
        licence="yours",
        citation="",
        source="",
        get="set folder to a folder that holds <class>/*.png",
        base_share=0.30,
        flips="",  # not known of a stranger's images whether a mirrored one is still real
    ),
}


def data_root() -> Path:
    """Folder of the data sets: `FSL_DATA_DIR`, else `data/` in the clone."""
    return Path(os.environ.get("FSL_DATA_DIR") or ROOT / "data").expanduser().absolute()
