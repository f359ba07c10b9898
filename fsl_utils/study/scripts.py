"""What commands share: their arguments, and errors in one line."""

import argparse
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

from fsl_utils import StudyError, files


def parser(module: str, what: str, place: str) -> argparse.ArgumentParser:
    """Of `python -m fsl_utils.study.<module>`, which trains: --out and --device.

    place: where its tables lie by default, {} for what the file or data set is called.
    """
    made = argparse.ArgumentParser(prog=f"python -m fsl_utils.study.{module}", description=what)
    made.add_argument("--out", type=Path, help=f"default: {place.format('NAME')}")
    made.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return made


def page(write: Callable[[list[Path], Path], str], what: str, place: Path) -> None:
    """The command that makes a page of finished tables: write(folders, out), and print the page.

    what: the page in words. place: where it lies by default.
    """
    made = argparse.ArgumentParser(description=what)
    made.add_argument("tables", nargs="+", type=Path, help="folders with cells.csv")
    made.add_argument("--out", type=Path, default=place, help=f"default {place}")
    given = made.parse_args()
    sys.exit(guarded(lambda: print(write(given.tables, given.out))))


def guarded(run: Callable[[], object]) -> int:
    """Call run; returns the exit code. What the user can mend is one line, and code 1."""
    try:
        for name, path in list(os.environ.items()):
            if name.startswith("FSL_") and path:  # notebooks run in a folder of their own
                os.environ[name] = str(files.absolute(path))
        run()
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(f"error: {str(error.filename)[:80]}...: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        kept = "interrupted: finished work is kept; run the same command again to go on"
        print(str(stop) or kept, file=sys.stderr)
        return 130
    return 0
