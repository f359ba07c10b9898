"""Classifiers beside one another on one task: which of what costs nothing is best?"""

import pandas as pd

from fsl_utils.analysis import contrasts, curves
from fsl_utils.analysis.resampling import Resampled, resample
from fsl_utils.analysis.tables import TASK_COLUMNS

OWN = ("classifier", "init")  # columns in which the classifiers of a task differ
BASELINE = ("probe", "real")


def compare(cells: pd.DataFrame, scores: pd.DataFrame, metric: str = "pr_auc") -> pd.DataFrame:
    """Every classifier and arm of real images against BASELINE: one family of tests a task.

    Arms with a pool are left out: they cost something. A row each, columns classifier, arm, ratio,
    level with its interval (level_low, level_high) and the spread over draws (sd), those of
    `contrasts.contrast` over the draws that both have, p_holm and verdict. Images of one size and
    one number of shots make a task. Empty where no task has the baseline and another classifier.
    """
    tables, real = [], cells[cells["pool"] == ""]
    for _, task in real.groupby([name for name in TASK_COLUMNS if name not in OWN]):
        names = task["classifier"] + "|" + task["arm"]
        study = resample(task.assign(arm=names, classifier="", init=""), scores, metric)
        baseline = study.at("|".join(BASELINE), 0)
        if baseline and task["classifier"].nunique() > 1:
            levels = curves.levels(study).set_index(["arm", "ratio"])
            rows = [_row(study, key, baseline) | _level(study, key, levels) for key in levels.index]
            tables.append(contrasts.family(rows))
    return pd.concat([pd.DataFrame(), *tables], ignore_index=True)


def _row(study: Resampled, key: tuple[str, float], baseline: tuple[str, float]) -> dict:
    row = contrasts.contrast(study, key, baseline)
    row["classifier"], row["arm"] = key[0].split("|")
    if key == baseline:
        row |= dict.fromkeys(("difference", "low", "high", "p"), float("nan"))
    return row | {"control": " ".join(BASELINE)}


def _level(study: Resampled, key: tuple[str, float], levels: pd.DataFrame) -> dict:
    """The level of an (arm, ratio) with its interval, of `curves.levels`, and its spread."""
    mean, low, high = levels.loc[key, ["mean", "low", "high"]]
    spread = study.points.loc[key].std()
    return {"level": mean, "level_low": low, "level_high": high, "sd": spread}
