"""`fsl`, or `python -m fsl_utils`: the commands and their arguments."""

import argparse
import math
import sys
from pathlib import Path

from fsl_utils.study import commands, scripts

GRID = "notebooks/grids/quickstart.yaml"


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    return scripts.guarded(lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fsl", description="Does few-shot synthetic data help a rare class?"
    )
    group = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add in ARGUMENTS.items():
        run = getattr(commands, name)
        words, example = (add.__doc__ or "").strip().split("\n", 1)
        command = group.add_parser(
            name,
            help=words,
            description=words,
            epilog=example.strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        add(command)
    return parser


def _domains(_) -> None:
    """The data sets: what is at hand, how to get the rest.

    example: fsl domains
    """


def _fetch(command) -> None:
    """Download a data set from its publisher; what is there is not fetched again.

    example: fsl fetch magnetic_tile
    """
    command.add_argument("domain", help="a data set, as `fsl domains` lists them")
    command.add_argument(
        "--archives", default="", help="of a data set that comes in several: which, as 1,2, or all"
    )


def _pretrain(command) -> None:
    """Train a mini's weights on the base partitions (hours; not needed: weights ship).

    example: fsl pretrain --domains folder --folder ~/parts --rare-class scratch --steps 1000
    """
    command.add_argument("--backbone", choices=("mini", "mini128"), default="mini")
    command.add_argument(
        "--corpora", action="store_true", help="see the images of corpus/ in the data folder too"
    )
    command.add_argument(
        "--domains",
        default="elpv,magnetic_tile,chestxray14",
        help="comma-separated; 'folder' continues from the shipped weights",
    )
    command.add_argument("--folder", default="", help="your own images, with --domains folder")
    command.add_argument("--rare-class", default="", help="with --domains folder")
    command.add_argument("--common-class", default="", help="with --domains folder")
    command.add_argument("--group-pattern", default="", help="with --domains folder")
    command.add_argument(
        "--from",
        dest="source",
        choices=("base", "draw"),
        default="base",
        help="base partitions, or the common training images of a draw, for that draw alone",
    )
    command.add_argument("--draw", type=int, default=0, help="which draw, with --from draw")
    command.add_argument(
        "--start",
        type=Path,
        help="weights to go on from (default: random; for a folder the shipped ones)",
    )
    command.add_argument("--steps", type=_count, default=5000)
    command.add_argument(
        "--out", type=Path, help="folder of checkpoint and weights (default: in the store)"
    )


def _tune(command) -> None:
    """Fine-tune one adapter without a notebook; on several GPUs under `accelerate launch -m`.

    example: fsl tune -p backbone flux2-klein-4b -p adapter_steps 400
    """
    command.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter of notebook 02, taken as it stands; again for each",
    )


def _grid(command) -> None:
    """Run a grid file through the notebooks, then tables and figures.

    examples:
      fsl grid notebooks/grids/quickstart.yaml --dry-run
      fsl grid mine.yaml --workers 4
      fsl grid mine.yaml --scheduler tls://host:8786 --threads 2
    """
    command.add_argument("file", type=Path, help=f"such as {GRID}")
    how = command.add_mutually_exclusive_group()
    how.add_argument(
        "--dry-run", action="store_true", help="say what would run and what it will cost"
    )
    how.add_argument(
        "--gather",
        action="store_true",
        help="run no notebook of the grid: tables and figures of what is finished",
    )
    command.add_argument(
        "--out", type=Path, help="folder for tables and figures (default: results/mine/<name>)"
    )
    command.add_argument(
        "--add",
        action="store_true",
        help="what stands in the tables of --out stays, whether or not the store has it",
    )
    command.add_argument(
        "--replace", action="store_true", help="results in the tables of --out may be lost"
    )
    _engine(command)


def _engine(command) -> None:
    """How a grid's notebooks are run."""
    command.add_argument(
        "--workers",
        type=_count,
        help="notebooks at a time (default: as cores, memory and the grid allow)",
    )
    command.add_argument(
        "--threads",
        type=_count,
        help="threads of each (default: cores / workers; 1 on a running cluster)",
    )
    command.add_argument(
        "--scheduler", default="", help="a running Dask cluster (default: this machine)"
    )
    command.add_argument(
        "--retries",
        type=_whole,
        default=0,
        help="how often a failed notebook is tried again (default: 0)",
    )
    command.add_argument(
        "--timeout",
        type=_hours,
        default=6,
        help="hours that one cell of a notebook may take (default: 6)",
    )


def _status(command) -> None:
    """How far a grid is, whoever runs it and wherever.

    example: fsl status notebooks/grids/quickstart.yaml
    """
    command.add_argument("file", type=Path, help=f"such as {GRID}")


def _remake(command) -> None:
    """Make one published cell again and compare; with an empty FSL_STORE from nothing.

    example: FSL_STORE=/tmp/again fsl remake notebooks/grids/study2.yaml bf9a9e15e526
    """
    command.add_argument("file", type=Path, help="the grid file that it is from")
    command.add_argument("cell", help="the first digits of its key (column 'cell' of cells.csv)")
    command.add_argument(
        "--tables", type=Path, help="with cells.csv (default: results/<name>/tables)"
    )
    command.add_argument(
        "--threads",
        type=_count,
        help="default: all cores; as many as were published with give the same bits",
    )


def _decide(command) -> None:
    """From a folder of images to a decision: label more, augment, detect, or synthesise?

    examples:
      fsl decide --demo --quick
      fsl decide ~/parts --rare scratch --group 'part(\\d+)_' --out parts_decision
    """
    command.add_argument("folder", nargs="?", default="", help="holds one folder for each class")
    command.add_argument("--rare", default="", help="the rare class")
    command.add_argument("--common", default="", help="the common class (default: all others)")
    command.add_argument(
        "--each", action="store_true", help="every class in turn against all others"
    )
    command.add_argument(
        "--group", default="", help="pattern of the part's name in a file's name, as 'part(\\d+)_'"
    )
    command.add_argument(
        "--quick", action="store_true", help="fewer repeats, and nothing is synthesised"
    )
    command.add_argument("--demo", action="store_true", help="on the solar cells that ship")
    command.add_argument("--size", type=_size, default=128, help="pixels (default: 128)")
    command.add_argument(
        "--out", type=Path, default=Path("decision"), help="a new folder (default: decision)"
    )
    command.add_argument("--replace", action="store_true", help="what stands in --out may be lost")


def _predict(command) -> None:
    """Score new images with the classifier of a decision.

    example: fsl predict ~/new_parts --model decision/export/model --out scores.csv
    """
    command.add_argument("folder", type=Path, help="images, in folders below too")
    command.add_argument("--model", type=Path, required=True, help="such as decision/export/model")
    command.add_argument(
        "--out", type=Path, default=Path("predictions.csv"), help="default: predictions.csv"
    )
    command.add_argument("--replace", action="store_true", help="--out may be written over")


ARGUMENTS = {
    "domains": _domains,
    "fetch": _fetch,
    "pretrain": _pretrain,
    "tune": _tune,
    "grid": _grid,
    "status": _status,
    "remake": _remake,
    "decide": _decide,
    "predict": _predict,
}


def _whole(text: str, least: int = 0) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 8) or int(text) < least:
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is not a whole number, {least} or more")
    return int(text)


def _size(text: str) -> int:
    size = _whole(text, 64)
    if size > 512 or size % 4:
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is no size: 64 to 512, a multiple of 4")
    return size


def _count(text: str) -> int:
    return _whole(text, 1)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours <= 10_000:
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is not a number of hours, up to 10,000")
    return hours


if __name__ == "__main__":
    sys.exit(main())
