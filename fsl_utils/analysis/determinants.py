"""What the keys of a table's cells are made of, so that an edited draw, class or arm is noticed.

`determinants.parquet` lies beside cells.csv. Its one column holds for each cell the text that the
cell's key is the SHA-256 of (`manifests.determinant`), or the bare key of a cell that stood in the
table before there was this file: such a row, like a table without the file, is not checkable.
"""

import json
from pathlib import Path

import pandas as pd

from fsl_utils import StudyError, manifests, store

FILE = "determinants.parquet"


def of(folder: Path) -> str:
    """The text that a finished folder's key is the hash of."""
    record = store.manifest(folder)
    return manifests.determinant(record["stage"], record["stage_version"], record["params"])


def write(tables: Path, texts: dict[str, str]) -> None:
    """Write FILE: key -> text, '' where only the key is known. The same texts, the same bytes."""
    rows = sorted(text or key for key, text in texts.items())
    frame = pd.DataFrame({"determinant": rows})
    store.write_whole(
        tables / FILE,
        lambda partial: frame.to_parquet(partial, index=False, compression="zstd"),
    )


def read(tables: Path) -> dict[str, str]:
    """Key -> text as `write` took them; empty without FILE. StudyError where it cannot be read."""
    if not (tables / FILE).is_file():
        return {}
    try:
        rows = pd.read_parquet(tables / FILE)["determinant"].astype(str)
    except (ValueError, OSError, KeyError) as error:
        raise StudyError(f"{tables / FILE} cannot be read; make the tables again") from error
    return {
        manifests.digest(row) if row.startswith("{") else row: row if row.startswith("{") else ""
        for row in rows
    }


def check(cells: pd.DataFrame, tables: Path) -> int:
    """Hold the rows of `tables`' cells.csv against their keys; returns how many are not checkable.

    Raises StudyError naming the first row that its key was not made of.
    """
    texts, path = read(tables), tables / "cells.csv"
    if not texts:
        return len(cells)
    for row in cells.itertuples():
        if (text := texts.get(row.cell)) is None:
            raise StudyError(
                f"{path}, line {row.Index + 2}: cell {row.cell[:12]} is not in {FILE}: "
                "the two files are of different runs; make the tables again"
            )
        for name, value in columns(json.loads(text)).items() if text else ():
            if getattr(row, name) != value:
                raise StudyError(
                    f"{path}, line {row.Index + 2}: {name} is {getattr(row, name)!r}, but the key "
                    f"{row.cell[:12]} was made with {value!r}; make the table again"
                )
    return sum(not texts[key] for key in cells["cell"])


def columns(determinant: dict) -> dict:
    """What stands in cells.csv of all that determines a cell."""
    cell = determinant["params"]
    told = ("domain", "rare_class", "protocol", "image_size", "n_real", "draw", "seed")
    told += ("arm", "ratio", "classifier", "init")
    later = ("classifier_size", "classifier_channels", "synthetic_weight")  # from version 2 on
    pools = cell["pools"]
    return {
        **{name: cell[name] for name in told},
        **{name: cell[name] for name in later if name in cell},
        "fold": str(cell.get("fold", "")),
        "evaluated_on": cell["evaluate_on"],
        "backbone": cell.get("backbone", ""),
        "mode": cell.get("mode", ""),
        "base": cell.get("base", "")[:12],
        "pool": pools.get("rare") or pools.get("base", ""),
    }
