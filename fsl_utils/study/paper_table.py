"""The paper's table beside that of finished studies, as one page and its rows.

python -m fsl_utils.study.paper_table results/study/tables results/by_image/tables
"""

import argparse
import sys
from pathlib import Path

from fsl_utils import StudyError, store
from fsl_utils.analysis import leakage, paper
from fsl_utils.analysis.tables import read_several
from fsl_utils.figures import leakage as leakage_pages
from fsl_utils.figures import paper as pages
from fsl_utils.figures import style

PLACE = Path("results/details")


def write(folders: list[Path], out: Path) -> str:
    """Write paper_table.md, .csv and paper_pattern.csv of these tables into `out`; the page."""
    cells, scores = read_several(folders)
    rows, pattern = paper.table(cells), paper.parted(cells, scores)
    theirs = cells[cells["domain"].isin(paper.reported()["domain"])]
    leaks = leakage.given_away(theirs, scores)
    parts = ["# The paper's table, by its protocol and by ours", pages.beside(rows).markdown()]
    if len(pattern):
        parts.insert(1, f"**{pages.headline(pattern)}**")
        parts += [_THRESHOLD, pages.pattern(pattern).markdown()]
        style.save_table(out / "paper_pattern", pattern)
    if len(leaks):
        parts += [_LEAKAGE, leakage_pages.page(leaks).markdown()]
        style.save_table(out / "paper_leakage", leaks)
    page = "\n\n".join(part.strip() for part in parts) + "\n"
    store.write_text(out / "paper_table.md", page)
    style.save_table(out / "paper_table", rows)
    return page


_THRESHOLD = """## What is threshold

F1 and recall at .5 rise wherever scores shift up. F1 at a threshold of its own and PR-AUC do not
know a shift: what is left there stays."""
_LEAKAGE = """## What is leakage

The real shots alone, split by image and by group."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="the paper's table beside ours")
    parser.add_argument("tables", nargs="+", type=Path, help="folders with cells.csv")
    parser.add_argument("--out", type=Path, default=PLACE, help=f"default {PLACE}")
    given = parser.parse_args(arguments)
    print(write(given.tables, given.out))


if __name__ == "__main__":
    try:
        main()
    except StudyError as error:
        sys.exit(f"error: {error}")
