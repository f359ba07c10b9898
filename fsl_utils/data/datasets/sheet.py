"""What a data set is: its sheet, and how it is read, split, fetched, masked and painted."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fsl_utils import ROOT, StudyError, files
from fsl_utils.data import decoding, images


@dataclass(frozen=True)
class Sheet:
    """What a reader must know of a data set, in words."""

    title: str
    rare: tuple[str, ...]  # the classes that can be rare, the default first; empty: as the data say
    common: str
    group: str  # what a group is
    licence: str
    citation: str
    source: str
    get: str  # how to get it


@dataclass(frozen=True)
class DataSet:
    """One data set. A new one is a file that makes this, a CSV in `splits/`, a line in `registry`.

    read: returns one row an image (image, the name inside the data set; path; class_name, several
    findings joined by '|'; group, what must not be split; stratum, what a split is balanced by;
    perhaps object, the thing itself, known more finely than its group) and notes on what was left
    out and why. It takes the parameters that `options` names.
    partition: (rows, common class, **options) -> (rows with `partition`, notes); None: as
    `splits/<name>.csv` has it. split: makes that file's table anew (see `partitions.make`).
    fetch: gets it into a folder, the chosen `archives` where it comes in several.
    """

    name: str
    sheet: Sheet
    read: Callable[..., tuple[pd.DataFrame, list[str]]]
    options: tuple[str, ...] = ()  # parameters of a task that its reader takes
    partition: Callable[..., tuple[pd.DataFrame, list[str]]] | None = None
    split: Callable[[], pd.DataFrame] | None = None
    sealed: bool = False  # the test partition stays shut unless `open_sealed` is given
    fetch: Callable[[Path, list[int]], None] | None = None
    archives: Mapping[int, int] = field(default_factory=dict)  # number: bytes
    mask_path: Callable[[str], Path] | None = None  # of an image's path; None: no pixel masks
    mask_values: tuple[int, ...] = ()  # grey levels that mark a defect; empty: white marks it
    prompts: tuple[str, str] = ("a photo of {}", "a photo of {}")  # of the rare and common class
    condition: int = 4  # row of mini's embedding for its common class; 4 is that of all others
    finetuning: Mapping[str, float] = field(default_factory=dict)  # settings that it changes
    flips: str = ""  # axes along which a mirrored image is still one of the domain: 'hv', 'h' or ''
    shown: bool = False  # whether its terms allow to publish its images
    confounder: Callable[[], pd.DataFrame] | None = None  # a table, see chestxray14

    def options_of(self, given: Mapping[str, str]) -> dict[str, str]:
        """Those of the given parameters that this data set takes; '' where one is not given."""
        return {name: given.get(name, "") for name in self.options}

    def masks(self, paths: list[str], size: int) -> np.ndarray:
        """Pixel masks of the images at `paths`, uint8 [n, 1, size, size], white on the defect.

        Raises StudyError where the data set has no masks, or one is missing or not readable.
        """
        if self.mask_path is None:
            raise StudyError(f"{self.name} has no pixel masks")
        files = [self.mask_path(path) for path in paths]
        if not self.mask_values:
            return images.read_all(files, size, 1, progress=False)
        marks = [np.isin(decoding.decode(file, 1), self.mask_values) for file in files]
        white = [Image.fromarray(np.uint8(255) * mark) for mark in marks]
        return np.stack([images.to_array(mask, size) for mask in white])


def data_root() -> Path:
    """Folder of the data sets: `FSL_DATA_DIR`, else `data/` in the clone."""
    return files.absolute(os.environ.get("FSL_DATA_DIR") or ROOT / "data")
