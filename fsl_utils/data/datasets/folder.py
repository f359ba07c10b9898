"""The user's own folder as a data set; its reader and partition are in `own_folder`."""

import pandas as pd

from fsl_utils.data.datasets import own_folder
from fsl_utils.data.datasets.sheet import DataSet, Sheet

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


def read(folder: str = "", group_pattern: str = "") -> tuple[pd.DataFrame, list[str]]:
    """See `own_folder.read`."""
    return own_folder.read(own_folder.locate(folder), group_pattern)


def partition(
    frame: pd.DataFrame, common: str, folder: str = "", group_pattern: str = ""
) -> tuple[pd.DataFrame, list[str]]:
    """See `own_folder.partition`."""
    return own_folder.partition(frame, own_folder.locate(folder), group_pattern, common)


FOLDER = DataSet(
    name="folder",
    sheet=SHEET,
    read=read,
    options=("folder", "group_pattern"),
    partition=partition,
)
