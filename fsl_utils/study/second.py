"""The second study's page from finished tables: those of the pilot first, then those of the study.

python -m fsl_utils.study.second results/pilot2/tables results/study2/tables
"""

from pathlib import Path

import pandas as pd

from fsl_utils import StudyError, store
from fsl_utils.analysis import ways
from fsl_utils.analysis.tables import read_results
from fsl_utils.figures import style
from fsl_utils.figures import ways as pages
from fsl_utils.study import scripts

PLACE = Path("results/study2")


def write(folders: list[Path], out: Path) -> str:
    """Write the page, named like its folder, and for each of its tables a CSV into `out`; the page.

    folders: the pilot's tables and the study's. With the pilot's alone the contrasts are of the
    pilot, on the images that chose: the page says so.
    """
    if len(folders) > 2:
        raise StudyError("give the pilot's tables, then the study's")
    chosen = ways.choose(*read_results(folders[0]))
    by_shots = ways.studies(*ways.with_ensembles(*read_results(folders[-1])))
    title, caution = "The second study", next(iter(by_shots.values())).cautions()
    if len(folders) == 1:
        title += "'s pilot"
        caution += ". The images that chose are those that score: no contrast confirms anything."
    free = chosen[chosen["role"] == "free"].set_index("n_real")
    every = pd.concat(
        [
            ways.against(study, ways.key_of(free.loc[n_real]))
            for n_real, study in by_shots.items()
            if n_real in free.index
        ],
        ignore_index=True,
    )
    tables = {
        "primary": ways.confirm(chosen, by_shots),
        "conditions": ways.conditions(chosen, by_shots),
        "secondary": ways.secondary(by_shots),
        "added": pd.concat(map(ways.added, by_shots.values()), ignore_index=True),
    }
    style.apply()
    style.save_table(out / "choices", chosen)
    for name, rows in tables.items():
        style.save_table(out / name, rows)
    style.save(pages.figure(every), out / "ways", every)
    text = pages.page(title, caution, chosen, **tables)
    store.write_text(out / f"{out.name}.md", text)
    return text


if __name__ == "__main__":
    scripts.page(write, "the second study: the pilot's choices and the contrasts", PLACE)
