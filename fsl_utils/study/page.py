"""A page of finished tables as a command: folders with cells.csv in, a page and its files out."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from fsl_utils import StudyError


def command(write: Callable[[list[Path], Path], str], what: str, place: Path) -> None:
    """Call write(folders, out) with what the command line says, and print the page.

    what: the page in words. place: where it lies by default.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("tables", nargs="+", type=Path, help="folders with cells.csv")
    parser.add_argument("--out", type=Path, default=place, help=f"default {place}")
    given = parser.parse_args()
    try:
        print(write(given.tables, given.out))
    except StudyError as error:
        sys.exit(f"error: {error}")
