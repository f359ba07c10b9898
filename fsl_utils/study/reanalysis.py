"""The first study beside the same tasks with today's classifiers, from finished tables.

python -m fsl_utils.study.reanalysis results/study1/tables results/mended/tables
"""

from pathlib import Path

from fsl_utils import StudyError, store
from fsl_utils.analysis import reanalysis
from fsl_utils.analysis.tables import read_results
from fsl_utils.figures import reanalysis as pages
from fsl_utils.figures import results, style
from fsl_utils.study import scripts

PLACE = Path("results/mended")


def write(folders: list[Path], out: Path) -> str:
    """Write the page, named like its folder, and its figures and tables into `out`; the page."""
    if len(folders) != 2:
        raise StudyError("give the first study's tables, then those of what was run again")
    both = reanalysis.together(*map(read_results, folders))
    studies, repairs = reanalysis.studies(*both), reanalysis.repairs(*both)
    gains, draws = reanalysis.gains(studies), reanalysis.draws(studies)
    ensembles = reanalysis.ensembles(*both)
    style.apply()
    # An arm that lacks a draw stands in the table alone: its caution is not the panel's.
    whole = gains["n_draws"] == gains["n_draws"].max()
    drawn = gains[whole & (gains["classifier"] != reanalysis.PUBLISHED)]
    style.save(results.overview(drawn), out / "gains", gains)
    style.save(results.slopes(draws), out / "draws", draws)
    style.save_table(out / "repairs", repairs)
    style.save_table(out / "ensembles", ensembles)
    text = pages.page(gains, repairs, draws, ensembles)
    store.write_text(out / f"{out.name}.md", text)
    return text


if __name__ == "__main__":
    scripts.page(write, "the first study again, with today's classifiers", PLACE)
