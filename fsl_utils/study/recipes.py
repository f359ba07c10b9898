"""What each way to use the same pools changes, from finished tables.

python -m fsl_utils.study.recipes results/recipes/tables
"""

from pathlib import Path

from fsl_utils import store
from fsl_utils.analysis import recipes
from fsl_utils.analysis.resampling import resample
from fsl_utils.analysis.tables import read_several, split_studies
from fsl_utils.figures import recipes as pages
from fsl_utils.figures import results, style
from fsl_utils.study import scripts

PLACE = Path("results/recipes")


def write(folders: list[Path], out: Path) -> str:
    """Write the page, named like its folder, rivals.csv, gains.csv and the figure into `out`."""
    cells, scores = read_several(folders)
    studies = [resample(part, scores) for part in split_studies(cells)]
    gains = recipes.gains(studies)
    verdicts = recipes.verdicts(studies)
    style.apply()
    style.save(results.overview(gains), out / "gains", gains)
    style.save_table(out / "rivals", verdicts)
    text = pages.page(gains, verdicts)
    store.write_text(out / f"{out.name}.md", text)
    return text


if __name__ == "__main__":
    scripts.page(write, "ways to use the same pools", PLACE)
