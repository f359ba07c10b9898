"""How much of what further real images bring is reached without them, from finished tables.

python -m fsl_utils.study.ceiling results/rotation/tables
"""

from pathlib import Path

import pandas as pd

from fsl_utils import store
from fsl_utils.analysis import ceiling, contrasts, ratios, recipes
from fsl_utils.analysis.resampling import resample
from fsl_utils.analysis.tables import read_several, split_studies
from fsl_utils.figures import ceiling as pages
from fsl_utils.figures import results, style
from fsl_utils.study import scripts

PLACE = Path("results/rotation")
# Arms whose worth in further real images is told.
WORTH = ("augment", "paste", "lora", "lora_filtered", "synth_both")


def write(folders: list[Path], out: Path) -> str:
    """Write the page, named like its folder, shares, rivals, hindsight, gains, worth (.csv) and the
    figures of shares and gains into `out`."""
    cells, scores = read_several(folders)
    tasks = ceiling.tasks(cells)
    taken = [ceiling.chosen(part, scores) for part in tasks]
    best = pd.concat([ceiling.hindsight(part, scores) for part in tasks], ignore_index=True)
    valued = [ceiling.valued(part, scores) for part in taken]
    shares = pd.concat(map(ceiling.shares, valued, taken), ignore_index=True)
    rivals = contrasts.family([row for study in valued if (row := ceiling.rivals(study))])
    studies = [resample(part, scores) for part in split_studies(cells)]
    gains = recipes.gains(studies)
    arms = [(study, arm) for study in studies for arm in study.arms if arm in WORTH]
    worth = pd.concat([ratios.worth_in_images(*one) for one in arms], ignore_index=True)
    style.apply()
    style.save(pages.figure(shares), out / "shares", shares)
    style.save(results.overview(gains), out / "gains", gains)
    style.save_table(out / "rivals", rivals)
    style.save_table(out / "hindsight", best)
    style.save_table(out / "worth", worth)
    text = pages.page(shares, rivals, best, worth)
    store.write_text(out / f"{out.name}.md", text)
    return text


if __name__ == "__main__":
    scripts.page(write, "how much of the ceiling is reached", PLACE)
