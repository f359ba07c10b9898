"""Small helpers of the readers: tables as text, folders that must be there, lists of names."""

from pathlib import Path

import pandas as pd

from fsl_utils import StudyError


def read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """Those of the columns that are there, as text."""
    try:
        return pd.read_csv(
            path,
            usecols=lambda c: c in columns,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise StudyError(
            f"{path}: not a readable CSV file ({str(error).strip().splitlines()[0]}); replace it"
        ) from error


def need_folder(root: Path, get: str) -> None:
    """Raises StudyError where a data set's folder is not there; `get` says how to get it."""
    if not root.is_dir():
        raise StudyError(
            f"{root}: no such folder; set FSL_DATA_DIR to the folder that holds {root.name}/, "
            f"or get it: {get}"
        )


def some(names: list[str]) -> str:
    """The first three names and the count of the others."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
