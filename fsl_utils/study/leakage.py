"""What a split by image gives away, by domain and classifier, from finished tables.

python -m fsl_utils.study.leakage results/baselines/tables results/leakage/tables
"""

from pathlib import Path

from fsl_utils import StudyError, store
from fsl_utils.analysis import leakage
from fsl_utils.analysis.tables import read_several
from fsl_utils.figures import leakage as pages
from fsl_utils.figures import style
from fsl_utils.study import scripts

PLACE = Path("results/leakage")


def write(folders: list[Path], out: Path) -> str:
    """Write leakage.md, .csv and .png of these tables into `out`; the page."""
    cells, scores = read_several(folders)
    rows = leakage.given_away(cells, scores)
    if rows.empty:
        raise StudyError("no task of these tables was split both by image and by group")
    style.apply()
    style.save(pages.figure(rows), out / "leakage", rows)
    text = f"# What a split by image gives away\n\n{pages.page(rows).markdown()}\n"
    store.write_text(out / "leakage.md", text)
    return text


if __name__ == "__main__":
    scripts.page(write, "what a split by image gives away", PLACE)
