"""The data sets by name."""

from pathlib import Path

from fsl_utils import StudyError
from fsl_utils.data import download
from fsl_utils.data.datasets.chestxray14 import CHESTXRAY14
from fsl_utils.data.datasets.elpv import ELPV
from fsl_utils.data.datasets.folder import FOLDER
from fsl_utils.data.datasets.magnetic_tile import MAGNETIC_TILE
from fsl_utils.data.datasets.pv_cracks import PV_CRACKS
from fsl_utils.data.datasets.sheet import DataSet, data_root

DATA_SETS: dict[str, DataSet] = {
    each.name: each for each in (ELPV, MAGNETIC_TILE, CHESTXRAY14, PV_CRACKS, FOLDER)
}


def get(name: str) -> DataSet:
    """The data set of that name. Raises StudyError with the known ones."""
    if name not in DATA_SETS:
        raise StudyError(f"unknown domain '{name}': known are {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def fetch(name: str, archives: str = "") -> Path:
    """Fetch a data set into `data_root()/<name>` and return that folder; what is there and right is
    not fetched again.

    archives: numbers such as '1,2' or 'all', for a data set that comes in several.
    Raises StudyError where they are not said, a download breaks off (run again: it goes on from
    there), is not the publisher's file, or the disk is too small.
    """
    data_set = get(name)
    if data_set.fetch is None:
        raise StudyError(f"nothing to fetch for {name}: {data_set.sheet.get}")
    folder = data_root() / name
    data_set.fetch(folder, _chosen(data_set, archives))
    return folder


def _chosen(data_set: DataSet, archives: str) -> list[int]:
    sizes, name = data_set.archives, data_set.name
    if not sizes:
        if archives:
            raise StudyError(f"{name} is one archive: leave --archives out")
        return []
    if archives == "all":
        return sorted(sizes)
    if not archives:
        small = min(sizes, key=sizes.__getitem__)
        listed = ", ".join(f"{n}: {download.size_text(size)}" for n, size in sizes.items())
        raise StudyError(
            f"{name} comes in {len(sizes)} archives, {download.size_text(sum(sizes.values()))} in "
            f"all ({listed}): say which; --archives {small} is enough to start, --archives all is "
            "everything"
        )
    try:
        numbers = {int(word) for word in archives.split(",")}
    except ValueError:
        raise StudyError(f"--archives is '{archives}': give numbers such as 1,2 or all") from None
    if unknown := sorted(numbers - set(sizes)):
        raise StudyError(f"unknown archives {unknown}: {name} has {min(sizes)} to {max(sizes)}")
    return sorted(numbers)
