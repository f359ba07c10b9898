"""Which ratio: each at a glance, what it is worth in real images, and what choosing it costs."""

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from fsl_utils import StudyError, metrics
from fsl_utils.analysis import curves
from fsl_utils.analysis.resampling import (
    Resampled,
    interval,
    over_draws,
    resample,
)
from fsl_utils.analysis.tables import (
    POOL_COLUMNS,
    SCORED_ON,
    TASK_COLUMNS,
    Images,
    setting,
    split_studies,
)


def ratio_table(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Arm by ratio at a glance, one row each: PR-AUC with its interval, recall and F1 at .5.

    Beside them the PR-AUC without skill, the numbers of draws, rare images and groups scored, and
    what to beware of. Columns that differ between studies stand in front.
    """
    parts = []
    for one in split_studies(cells):
        table = curves.levels(resample(one, scores)).rename(columns={"mean": "pr_auc"})
        by_draw = one.groupby(["arm", "ratio", "draw"])[["recall", "f1"]].mean()
        plain = by_draw.groupby(["arm", "ratio"]).mean().reset_index()
        parts.append(table.merge(plain, on=["arm", "ratio"]))
    table = pd.concat(parts, ignore_index=True)
    differ = [name for name in [*TASK_COLUMNS, *POOL_COLUMNS] if table[name].nunique() > 1]
    scored = ["no_skill", "n_draws", "n_rare", "n_groups", "n_rare_groups", "caution"]
    return table[[*differ, "arm", "ratio", "pr_auc", "low", "high", "recall", "f1", *scored]]


def worth_in_images(study: Resampled, arm: str) -> pd.DataFrame:
    """How many more real rare images an arm is worth, one row a ratio.

    The curve of `real` and `real_more` over the number of real images, made monotone and
    interpolated in log(n), is read backwards at the arm's mean, in every resample anew. Where the
    arm is no better than `real` it is worth none, however the curve goes on. Columns images, low,
    high: between 0 and the most further real images that were tried (`most`); `beyond` is '>=' or
    '<=' where the arm's mean lies outside. Empty where `real_more` was not run.
    """
    tried = [key for key in study.replicates if key[0] in ("real", "real_more")]
    if len(tried) < 2 or tried[0][0] != "real":
        return pd.DataFrame()
    n_real = study.setting["n_real"]
    images = n_real * (1 + np.array([ratio for _, ratio in tried]))
    rows = []
    for key in [key for key in study.replicates if key[0] == arm]:
        draws, columns = study.shared(key, *tried)
        if not len(draws):
            continue
        values = np.stack([study.mean_and_resamples(one, draws) for one in (*tried, key)], axis=1)
        curve, level = _monotone(values[:, :-1]), values[:, -1]
        worth = np.exp(_read_backwards(curve, np.log(images), level)) - n_real
        worth = np.where(level > values[:, 0], worth, 0).clip(min=0)
        low, high = interval(worth[1:], study.units(len(draws)))
        none = level[0] <= max(values[0, 0], curve[0, 0])
        rows.append(
            {
                "arm": arm,
                "ratio": key[1],
                "images": worth[0],
                "low": low,
                "high": high,
                "beyond": "<=" if none else ">=" if level[0] >= curve[0, -1] else "",
                "most": float(images[-1] - n_real),
                **columns,
            }
        )
    return pd.DataFrame(rows)


def _monotone(values: np.ndarray) -> np.ndarray:
    """Isotonic regression of each row of values [B, K]."""
    values = values.copy()
    for row in np.flatnonzero((np.diff(values) < 0).any(1)):
        values[row] = isotonic_regression(values[row]).x
    return values


def _read_backwards(curve: np.ndarray, x: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Where each rising row of curve [B, K] over x [K] reaches its level [B], within x; [B].

    Where a row is flat, the least x that reaches its level counts.
    """
    rows, level = np.arange(len(curve)), np.minimum(level, curve[:, -1])
    end = (curve < level[:, None]).sum(1).clip(1, len(x) - 1)
    start = (curve < curve[rows, end - 1][:, None]).sum(1)
    below, above = curve[rows, start], curve[rows, end]
    share = (level - below) / np.where(above > below, above - below, 1)
    return x[start] + share.clip(0, 1) * (x[end] - x[start])


def choose_ratio(by_ratio: dict) -> float:
    """The ratio with the highest validation PR-AUC; of equals the smallest.

    by_ratio: ratio -> (labels [N], scores [N]).
    """
    if not by_ratio:
        raise StudyError("there is no ratio to choose from: run the arm at some ratios first")
    return max(sorted(by_ratio), key=lambda ratio: metrics.score(*by_ratio[ratio], None)["pr_auc"])


def regret(
    cells: pd.DataFrame, scores: pd.DataFrame, arm: str, metric: str = "pr_auc"
) -> pd.DataFrame:
    """What choosing the ratio by validation costs against the best fixed ratio.

    One row a draw, fold and seed.

    The ratio is chosen by `choose_ratio` on the `choosing` images of one draw, fold and seed and
    valued in their other seeds, on images that did not choose. The fixed ratio is the best on
    average in the other draws. Columns: chosen, value, fixed, fixed_value, regret (positive: the
    fixed ratio is better), `honest`: False where there was no second seed and no other image, so
    that the value flatters the choice. Ratio 0 is `real`. Raises StudyError for fewer than 2
    draws.
    """
    where = setting(cells)
    ours = cells[(cells["arm"] == arm) | (cells["arm"] == "real")]
    choosing, value, apart = _choice_and_value(ours, scores, metric, where["evaluated_on"])
    draw = value.index.get_level_values("draw")
    if draw.nunique() < 2 or value.shape[1] < 2:
        raise StudyError(
            f"regret of {arm} needs 2 draws and 2 ratios in common; "
            f"there are {draw.nunique()} and {value.shape[1]}"
        )
    rows = []
    for unit in value.index:
        chosen = choose_ratio({ratio: choosing[*unit, ratio] for ratio in value.columns})
        fixed = value[draw != unit[0]].groupby("draw").mean().mean().idxmax()
        others = value.drop(unit).query("draw == @unit[0] and fold == @unit[1]")
        valued = others.mean() if len(others) else value.loc[unit]
        behind = ours["draw"].eq(unit[0]) & ours["ratio"].isin([chosen, fixed])
        rows.append(
            {
                "arm": arm,
                "metric": metric,
                **dict(zip(value.index.names, unit)),
                "chosen": chosen,
                "value": valued[chosen],
                "fixed": fixed,
                "fixed_value": valued[fixed],
                "regret": valued[fixed] - valued[chosen],
                "honest": apart or len(others) > 0,
                **{name: where[name] for name in TASK_COLUMNS},
                "cells": ";".join(ours.loc[behind, "cell"].str[:12]),
            }
        )
    return pd.DataFrame(rows)


def _choice_and_value(cells: pd.DataFrame, scores: pd.DataFrame, metric: str, on: str):
    """What ratios are chosen by and what they are worth.

    Returns (draw, fold, seed, ratio) -> (labels, scores) of the choosing images; a table of the
    metric, index (draw, fold, seed), a column a ratio; whether the images of the two differ.
    """
    images = Images(scores[scores["cell"].isin(cells["cell"])])
    ones = np.ones((images.n_groups, 1))
    marked = bool((images.partition == "choosing").any())
    value_on = ("validation",) if on == "validation" else SCORED_ON[on]
    choosing, values = {}, {}
    for row in cells.itertuples():
        key = row.draw, row.fold, row.seed, row.ratio
        at = images.of(row.cell, ("choosing",) if marked else ("validation",))
        choosing[key] = images.labels[at], images.scores[at]
        at = images.of(row.cell, value_on)
        parts = images.labels[at], images.scores[at], images.groups[at]
        values[key] = metrics.weighted(metric, *parts, ones, row.threshold)[0]
    table = pd.Series(values).rename_axis(["draw", "fold", "seed", "ratio"]).unstack().dropna()
    return choosing, table, marked or on != "validation"


def regret_summary(table: pd.DataFrame) -> dict:
    """Mean regret with its interval over draws, and how often validation chose the fixed ratio."""
    by_draw = table.groupby("draw")["regret"].mean().to_numpy()
    low, high = interval(over_draws(by_draw[:, None]), len(by_draw))
    return {
        "arm": table["arm"].iloc[0],
        "regret": by_draw.mean(),
        "low": low,
        "high": high,
        "n_draws": len(by_draw),
        "agrees": float((table["chosen"] == table["fixed"]).mean()),
        "honest": bool(table["honest"].all()),
    }
