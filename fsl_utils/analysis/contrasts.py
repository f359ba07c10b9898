"""Whether an arm is better than another: tidy tables, one row a contrast, each naming the cells behind it."""

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

PRIMARY = (
    "lora_filtered",
    4.0,
)  # against `real` and against `duplicate` at the same ratio; named before any run
FAMILY = ["protocol", "classifier", "init", "evaluated_on"]
SUMMARISED = ("pr_auc", "auroc", "f1_at_threshold", "recall_at_threshold")


def combination(study: Resampled, weights: dict[tuple[str, float], float]) -> dict:
    """A weighted sum of (arm, ratio) over the draws that have all of them: difference, low, high, p (NaN below MIN_DRAWS draws)."""
    draws, columns = study.shared(*weights)
    difference = sum(weight * study.points.loc[key] for key, weight in weights.items()).iloc[draws]
    low, high = study.interval(
        sum(weight * study.replicates[key][draws] for key, weight in weights.items())
    )
    p = sign_flip(difference) if len(draws) >= MIN_DRAWS else math.nan
    return {"difference": difference.mean(), "low": low, "high": high, "p": p, **columns}


def contrast(study: Resampled, arm: tuple[str, float], control: tuple[str, float]) -> dict:
    """One paired contrast: arm minus control over the draws that have both."""
    found = combination(study, {arm: 1, control: -1} if arm != control else {arm: 0})
    return {
        "arm": arm[0],
        "ratio": arm[1],
        "control": control[0],
        "control_ratio": control[1],
        **found,
    }


def _family(rows: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    return frame.assign(p_holm=holm(frame["p"])) if len(frame) else frame


def against(study: Resampled, control: str, ratio: float = PRIMARY[1]) -> pd.DataFrame:
    """One family: every other arm at `ratio` against a control at `ratio` (0 where a ratio has no meaning).

    `p_holm` is adjusted over the arms. Empty where the control was not run.
    """
    baseline = study.at(control, ratio)
    keys = [study.at(arm, ratio) for arm in study.arms if arm != control]
    return _family([contrast(study, key, baseline) for key in keys if key] if baseline else [])


def ratios_against(study: Resampled, arm: str, control: str) -> pd.DataFrame:
    """One family: every ratio of an arm against a control at the same ratio (0 where a ratio has no meaning)."""
    keys = [key for key in study.replicates if key[0] == arm and study.at(control, key[1])]
    return _family([contrast(study, key, study.at(control, key[1])) for key in keys])


def gains(study: Resampled, control: str) -> pd.DataFrame:
    """`ratios_against` of every arm that was run at a ratio: one family an arm. Empty where the control was not run."""
    arms = dict.fromkeys(arm for arm, ratio in study.replicates if ratio > 0 and arm != control)
    return pd.concat(
        [pd.DataFrame(), *(ratios_against(study, arm, control) for arm in arms)], ignore_index=True
    )


def against_controls(study: Resampled, ratio: float = PRIMARY[1]) -> pd.DataFrame:
    """Every arm against every control at `ratio`, Holm within each control; `beats_controls`: better than each of them."""
    families = [family for control in CONTROLS if len(family := against(study, control, ratio))]
    if not families:
        return pd.DataFrame()
    frame = pd.concat(families, ignore_index=True)
    better = (frame["p_holm"] < 1 - LEVEL) & (frame["difference"] > 0)
    return frame.assign(beats_controls=better.groupby(frame["arm"]).transform("all"))


def primary(found: list[Resampled]) -> pd.DataFrame:
    """The primary contrast, one row a study: PRIMARY against `real` and against `duplicate` at the same ratio.

    The larger of the two p counts (better than both: an intersection-union test). Holm over all rows with
    the same FAMILY: one a domain as designed; further modes or shot numbers make the family larger. A domain's
    secondary rare classes are left out. `verdict` says in words what follows.
    """
    rows = []
    for study in found:
        where = study.setting
        if study.metric != "pr_auc":
            raise StudyError(
                f"the primary contrast is in pr_auc, but a study was resampled for {study.metric}"
            )
        data_set = registry.DATA_SETS.get(where["domain"])
        known = data_set.sheet.rare if data_set else ()
        if known and where["rare_class"] != known[0]:
            continue
        row = {
            **{name: where[name] for name in [*TASK_COLUMNS, *POOL_COLUMNS]},
            "p": math.nan,
            "n_draws": 0,
            "caution": "",
            "cells": "",
            "verdict": "not run",
        }
        keys = {control: study.at(control, PRIMARY[1]) for control in ("real", "duplicate")}
        if PRIMARY in study.replicates and None not in keys.values():
            both = {control: contrast(study, PRIMARY, key) for control, key in keys.items()}
            for control, one in both.items():
                row |= {
                    f"{name}_{control}": one[name] for name in ("difference", "low", "high", "p")
                }
            differences = [one["difference"] for one in both.values()]
            row |= {
                "p": np.max([one["p"] for one in both.values()]),
                "n_draws": min(one["n_draws"] for one in both.values()),
                "verdict": "better than both"
                if min(differences) > 0
                else "worse than both"
                if max(differences) < 0
                else "better than one alone",
                "caution": both["real"]["caution"],
                "cells": ";".join(one["cells"] for one in both.values()),
            }
        rows.append(row)
    if not rows:
        return pd.DataFrame()
    frame = pd.DataFrame(rows)
    frame["p_holm"] = frame.groupby(FAMILY)["p"].transform(holm)
    open_ = (frame["n_draws"] > 0) & ~(frame["p_holm"] < 1 - LEVEL)
    verdict = (
        frame["verdict"]
        .mask(open_, "no evidence either way")
        .mask(open_ & frame["p"].isna(), "too few draws to test")
    )
    return frame.assign(verdict=verdict)


def study_table(
    cells: pd.DataFrame, scores: pd.DataFrame, ratio: float = PRIMARY[1]
) -> pd.DataFrame:
    """What a paper's table shows of one study, at one ratio: columns arm, ratio, quantity, value, low, high, p_holm, beats_controls.

    Quantities are the metrics SUMMARISED and the PR-AUC differences 'vs duplicate' and 'vs real'.
    Metrics that the study lacks are left out.
    """
    have = [metric for metric in SUMMARISED if cells[metric].notna().any()]
    made = {metric: resample(cells, scores, metric) for metric in have}
    keys = [made["pr_auc"].at(arm, ratio) for arm in made["pr_auc"].arms]
    parts = []
    for metric, study in made.items():
        table = curves.levels(study).set_index(["arm", "ratio"])
        parts.append(
            table.loc[[key for key in keys if key in table.index]]
            .reset_index()
            .rename(columns={"mean": "value"})
            .assign(quantity=metric)
        )
    compared = against_controls(made["pr_auc"], ratio)
    if len(compared):
        compared = compared[compared["control"].isin(["duplicate", "real"])]
        parts.append(
            compared.rename(columns={"difference": "value"}).assign(
                quantity="vs " + compared["control"]
            )
        )
    table = pd.concat(parts, ignore_index=True)
    columns = [
        "arm",
        "ratio",
        "quantity",
        "value",
        "low",
        "high",
        "p_holm",
        "beats_controls",
        "n_draws",
        "metric",
        *TASK_COLUMNS,
        *POOL_COLUMNS,
        "caution",
        "cells",
    ]
    return table.reindex(columns=columns)
