"""The paper's table beside that of finished studies, as one page and its rows.

python -m fsl_utils.study.paper_table results/study1/tables results/by_image/tables
"""

from pathlib import Path

from fsl_utils import store
from fsl_utils.analysis import leakage, paper
from fsl_utils.analysis.tables import read_several
from fsl_utils.figures import leakage as leakage_pages
from fsl_utils.figures import paper as pages
from fsl_utils.figures import style
from fsl_utils.study import scripts

PLACE = Path("results/details")


def write(folders: list[Path], out: Path) -> str:
    """Write paper_table (.md, .csv), paper_pattern and paper_splits (.csv, .png) into `out`; the
    page."""
    cells, scores = read_several(folders)
    rows, pattern = paper.table(cells), paper.parted(cells, scores)
    theirs = cells[cells["domain"].isin(paper.reported()["domain"])]
    added = paper.added(cells, scores)
    leaks = leakage.given_away(theirs, scores)
    style.apply()
    parts = ["# The paper's table, by its protocol and by ours", pages.beside(rows).markdown()]
    if len(pattern):
        parts.insert(1, f"**{pages.headline(pattern)}**")
        parts += [_THRESHOLD, _FIGURE, pages.pattern(pattern).markdown()]
        style.save(pages.figure(pattern), out / "paper_pattern", pattern)
    if len(added):
        parts += [_ADDED, pages.added(added).markdown()]
        style.save(pages.splits(added), out / "paper_splits", added)
    if len(leaks):
        parts += [_LEAKAGE, leakage_pages.page(leaks).markdown()]
        style.save_table(out / "paper_leakage", leaks)
    text = "\n\n".join(part.strip() for part in parts) + "\n"
    store.write_text(out / "paper_table.md", text)
    style.save_table(out / "paper_table", rows)
    return text


_THRESHOLD = """## What is threshold

F1 and recall at .5 rise wherever scores shift up. F1 at a threshold of its own and PR-AUC do not
know a shift: what is left there stays."""
_FIGURE = "![what 4x changes, by metric](paper_pattern.png)"
_ADDED = """## What images add, split by image and by group

Outer folds, the paper's way: by image an image of the same tile or patient may train adapter and
classifier. The same arms, folds of whole tiles or patients beside it.

![what each arm adds, by split](paper_splits.png)"""
_LEAKAGE = """## What is leakage

The real shots alone, split by image and by group."""


if __name__ == "__main__":
    scripts.page(write, "the paper's table beside ours", PLACE)
