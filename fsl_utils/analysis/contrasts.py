"""Whether an arm is better than another: one row a contrast, each naming the cells behind it."""

import math

import numpy as np
import pandas as pd

from fsl_utils import StudyError
from fsl_utils.analysis import curves
from fsl_utils.analysis.resampling import (
    CONTROLS,
    LEVEL,
    MIN_DRAWS,
    Resampled,
    holm,
    resample,
    sign_flip,
)
from fsl_utils.analysis.tables import POOL_COLUMNS, TASK_COLUMNS
from fsl_utils.data.datasets import registry

# Against `real` and against `duplicate` at the same ratio; named before any run.
PRIMARY = ("lora_filtered", 4.0)
FAMILY = ["protocol", "classifier", "init", "evaluated_on"]
SUMMARISED = ("pr_auc", "auroc", "f1_at_threshold", "recall_at_threshold")
SHOWN = ("better", "worse")  # verdicts that are bold in a table and filled in a figure


def verdict(table: pd.DataFrame) -> np.ndarray:
    """The one rule of every verdict: better, worse, cannot tell or not tested.

    table: columns low, high, p_holm. A difference is shown where p after Holm is below .05 *and*
    the whole interval, over draws and groups, lies on one side of zero: p speaks of these test
    images, the interval of further ones. Not tested: fewer than MIN_DRAWS draws.
    """
    shown = table["p_holm"] < 1 - LEVEL
    return np.select(
        [table["p_holm"].isna(), shown & (table["low"] > 0), shown & (table["high"] < 0)],
        ["not tested", "better", "worse"],
        "cannot tell",
    )


def combination(study: Resampled, weights: dict[tuple[str, float], float]) -> dict:
    """A weighted sum of (arm, ratio) over the draws that have all of them.

    Columns difference, low, high, p (NaN below MIN_DRAWS draws) and those of every table.
    """
    draws, columns = study.shared(*weights)
    difference = sum(weight * study.points.loc[key] for key, weight in weights.items()).iloc[draws]
    low, high = study.interval(
        sum(weight * study.replicates[key][draws] for key, weight in weights.items())
    )
    p = sign_flip(difference) if len(draws) >= MIN_DRAWS else math.nan
    return {"difference": difference.mean(), "low": low, "high": high, "p": p, **columns}


def contrast(study: Resampled, arm: tuple[str, float], control: tuple[str, float]) -> dict:
    """One paired contrast: arm minus control over the draws that have both."""
    names = {"arm": arm[0], "ratio": arm[1], "control": control[0], "control_ratio": control[1]}
    return names | combination(study, {arm: 1, control: -1} if arm != control else {arm: 0})


def family(rows: list[dict]) -> pd.DataFrame:
    """Contrasts tested together, with p after Holm and verdict."""
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table["p_holm"] = holm(table["p"])
    return table.assign(verdict=verdict(table))


def against(study: Resampled, control: str, ratio: float = PRIMARY[1]) -> pd.DataFrame:
    """One family: every other arm at `ratio` against a control at `ratio`.

    The ratio is 0 where it has no meaning. Empty where the control was not run.
    """
    baseline = study.at(control, ratio)
    keys = [study.at(arm, ratio) for arm in study.arms if arm != control]
    return family([contrast(study, key, baseline) for key in keys if key] if baseline else [])


def bold_before(families: pd.DataFrame) -> pd.DataFrame:
    """What the first study made bold, p after Holm alone, and whether it `remains` by `verdict`.

    families: of `against`, concatenated.
    """
    if families.empty:
        return families.assign(remains=pd.Series(dtype=bool))
    bold = families[families["p_holm"] < 1 - LEVEL]
    return bold.assign(remains=bold["verdict"].isin(SHOWN))


def against_controls(study: Resampled, ratio: float = PRIMARY[1]) -> pd.DataFrame:
    """Every arm against every control at `ratio`, Holm within each control.

    `beats_controls`: better than each of them. Empty where no control was run.
    """
    families = [against(study, control, ratio) for control in CONTROLS]
    table = pd.concat([pd.DataFrame(), *families], ignore_index=True)
    if table.empty:
        return table
    better = table["verdict"] == "better"
    return table.assign(beats_controls=better.groupby(table["arm"]).transform("all"))


def gains(study: Resampled, control: str) -> pd.DataFrame:
    """Every arm that has ratios against a control at the same ratio: one family an arm.

    Empty where the control was not run.
    """
    families = {}
    for key in study.replicates:
        if key[0] != control and study.at(control, key[1]):
            families.setdefault(key[0], []).append(key)
    tables = [
        family([contrast(study, key, study.at(control, key[1])) for key in keys])
        for keys in families.values()
        if any(ratio > 0 for _, ratio in keys)
    ]
    return pd.concat([pd.DataFrame(), *tables], ignore_index=True)


def primary(studies: list[Resampled]) -> pd.DataFrame:
    """The primary contrast: PRIMARY against `real` and against `duplicate` at the same ratio.

    One row a study, but for a domain's secondary rare classes. Better (worse) than both: the
    larger p and the bound nearer to zero count (an intersection-union test). Holm over all rows
    with the same FAMILY: one a domain as designed; further modes or numbers of shots make the
    family larger.
    """
    rows = []
    for study in studies:
        where = study.setting
        if study.metric != "pr_auc":
            raise StudyError(
                f"the primary contrast is in pr_auc, but a study was resampled for {study.metric}"
            )
        data_set = registry.DATA_SETS.get(where["domain"])
        known = data_set.sheet.rare if data_set else ()
        if not known or where["rare_class"] == known[0]:
            rows.append(_against_both(study))
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    table["p_holm"] = table.groupby(FAMILY)["p"].transform(holm)
    return table.assign(verdict=np.where(table["n_draws"] > 0, verdict(table), "not run"))


def _against_both(study: Resampled) -> dict:
    """The row of `primary` of one study."""
    row = {name: study.setting[name] for name in [*TASK_COLUMNS, *POOL_COLUMNS]}
    controls = {name: study.at(name, PRIMARY[1]) for name in ("real", "duplicate")}
    if PRIMARY not in study.replicates or None in controls.values():
        return row | dict.fromkeys(["low", "high", "p"], math.nan) | {"n_draws": 0}
    both = {name: contrast(study, PRIMARY, key) for name, key in controls.items()}
    for name, one in both.items():
        row |= {f"{column}_{name}": one[column] for column in ("difference", "low", "high", "p")}
    one, other = both.values()
    return row | {
        **study.scored,
        "low": min(one["low"], other["low"]),
        "high": max(one["high"], other["high"]),
        "p": np.max([one["p"], other["p"]]),
        "n_draws": min(one["n_draws"], other["n_draws"]),
        "caution": one["caution"],
        "cells": f"{one['cells']};{other['cells']}",
    }


def study_table(
    cells: pd.DataFrame, scores: pd.DataFrame, ratio: float = PRIMARY[1]
) -> pd.DataFrame:
    """What a paper's table shows of one study, at one ratio: one row an arm and quantity.

    Quantities are the metrics SUMMARISED and the PR-AUC differences 'vs duplicate' and 'vs real',
    each with value, low and high; differences have p_holm, verdict and beats_controls. The last
    rows are those of `no skill`. Metrics that the study lacks are left out.
    """
    resampled = {
        metric: resample(cells, scores, metric)
        for metric in SUMMARISED
        if cells[metric].notna().any()
    }
    in_pr_auc = resampled["pr_auc"]
    keys = pd.Index([in_pr_auc.at(arm, ratio) for arm in in_pr_auc.arms])
    parts = []
    for metric, study in resampled.items():
        table = curves.levels(study).set_index(["arm", "ratio"])
        table = table.loc[keys.intersection(table.index, sort=False)].reset_index()
        parts.append(table.rename(columns={"mean": "value"}).assign(quantity=metric))
    no_skill = [_no_skill(part) for part in parts]
    compared = against_controls(in_pr_auc, ratio)
    if len(compared):
        compared = compared[compared["control"].isin(["duplicate", "real"])]
        quantity = "vs " + compared["control"]
        parts.append(compared.rename(columns={"difference": "value"}).assign(quantity=quantity))
    table = pd.concat([*parts, *no_skill], ignore_index=True)
    tested = [name for name in ("p_holm", "verdict", "beats_controls") if name not in table]
    return table.assign(**dict.fromkeys(tested, math.nan))  # where no control was run


def _no_skill(levels: pd.DataFrame) -> pd.DataFrame:
    """A row like those of `levels`, of a classifier without skill; none where that is no number."""
    row = levels.head(1).assign(arm="no skill", ratio=0.0, low=math.nan, high=math.nan, cells="")
    return row.assign(value=row["no_skill"]).dropna(subset="value")
