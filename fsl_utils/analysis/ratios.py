"""Which ratio: every ratio at a glance, what it is worth in real images, and what choosing it costs."""

import math

import numpy as np
import pandas as pd

from fsl_utils import StudyError, metrics
from fsl_utils.analysis import curves
from fsl_utils.analysis.resampling import REPLICATES, Resampled, interval, over_draws, resample
from fsl_utils.analysis.tables import (
    POOL_COLUMNS,
    SCORED_ON,
    TASK_COLUMNS,
    Images,
    setting,
    split_studies,
)


def ratio_table(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Arm by ratio at a glance: PR-AUC with its interval, recall and F1 at .5, draws, and what to beware of.

    Columns that differ between studies stand in front; each study has its own rows.
    """
    tables = []
    for one in split_studies(cells):
        table = curves.levels(resample(one, scores)).rename(columns={"mean": "pr_auc"})
        plain = (
            one.groupby(["arm", "ratio", "draw"])[["recall", "f1"]]
            .mean()
            .groupby(["arm", "ratio"])
            .mean()
            .reset_index()
        )
        tables.append(table.merge(plain, on=["arm", "ratio"]))
    table = pd.concat(tables, ignore_index=True)
    differ = [name for name in [*TASK_COLUMNS, *POOL_COLUMNS] if table[name].nunique() > 1]
    return table[
        [*differ, "arm", "ratio", "pr_auc", "low", "high", "recall", "f1", "n_draws", "caution"]
    ]


def worth_in_images(study: Resampled, arm: str) -> pd.DataFrame:
    """How many more real rare images an arm is worth, by ratio: columns ratio, images, low, high, beyond.

    The curve of `real` and `real_more` over the number of real images, made monotone (isotonic
    regression) and interpolated in log(n), is read backwards at the arm's mean, in every resample anew. Where
    the arm is no better than `real` it is worth none, however the curve goes on.
    The result lies between 0 and the most real images that were tried: `beyond` says '>=' or '<=' where
    the arm's mean lies outside. Empty where `real_more` was not run.
    """
    tried = [
        key
        for key in [("real", 0.0), *((a, r) for a, r in study.replicates if a == "real_more")]
        if key in study.replicates
    ]
    if len(tried) < 2 or tried[0][0] != "real":
        return pd.DataFrame()
    n_real = study.setting["n_real"]
    amounts = n_real * (1 + np.array([ratio for _, ratio in tried]))

    def worth(levels, shots, value):
        if value <= shots:
            return 0.0
        first = np.concatenate(
            [[True], np.diff(levels) > 0]
        )  # where the curve is flat, the fewest images that reach it
        return max(0.0, math.exp(np.interp(value, levels[first], np.log(amounts[first]))) - n_real)

    rows = []
    for key in [k for k in study.replicates if k[0] == arm]:
        draws, columns = study.shared(key, *tried)
        if not len(draws):
            continue
        means = study.points.loc[[*tried, key]].iloc[:, draws].mean(axis=1).to_numpy()
        resampled = np.stack(
            [over_draws(study.replicates[k][draws]) for k in (*tried, key)], axis=1
        )
        values = np.vstack([means, resampled])
        levels = monotone(values[:, :-1])
        observed, *worths = map(worth, levels, values[:, 0], values[:, -1])
        low, high = interval(worths, len(draws) if len(draws) > 1 else study.rare_groups)
        beyond = (
            "<="
            if means[-1] <= max(means[0], levels[0, 0])
            else ">="
            if means[-1] >= levels[0, -1]
            else ""
        )
        rows.append(
            {
                "arm": arm,
                "ratio": key[1],
                "images": observed,
                "low": low,
                "high": high,
                "beyond": beyond,
                "most": float(amounts[-1] - n_real),
                **columns,
            }
        )
    return pd.DataFrame(rows)


def monotone(values: np.ndarray) -> np.ndarray:
    """Isotonic regression of each row of values [B, K], by its min-max formula (Robertson, Wright, Dykstra 1988, 1.4)."""
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    k = values.shape[1]
    mean = {
        (i, j): (sums[:, j + 1] - sums[:, i]) / (j + 1 - i) for i in range(k) for j in range(i, k)
    }
    return np.stack(
        [
            np.max(
                [np.min([mean[i, j] for j in range(at, k)], axis=0) for i in range(at + 1)], axis=0
            )
            for at in range(k)
        ],
        axis=1,
    )


def choose_ratio(by_ratio: dict) -> float:
    """The ratio with the highest validation PR-AUC; of equals the smallest. by_ratio: ratio -> (labels [N], scores [N])."""
    if not by_ratio:
        raise StudyError("there is no ratio to choose from: run the arm at some ratios first")
    return max(sorted(by_ratio), key=lambda ratio: metrics.score(*by_ratio[ratio], None)["pr_auc"])


def regret(
    cells: pd.DataFrame, scores: pd.DataFrame, arm: str, metric: str = "pr_auc"
) -> pd.DataFrame:
    """What choosing the ratio by validation costs against the best fixed ratio, one row a draw and seed.

    The ratio is chosen by `choose_ratio` on the `choosing` images of one (draw, seed) and valued in the
    other seeds of that draw, on images that did not choose. The fixed ratio is the best on average in the
    other draws. Columns: chosen, value, fixed, fixed_value, regret (positive: the fixed ratio is better),
    `honest`: False where there was no second seed and no other image, so that the value flatters the choice.
    `regret_summary` sums it up. Ratio 0 is `real`. Raises StudyError for fewer than 2 draws.
    """
    where = setting(cells)
    ours = cells[(cells["arm"] == arm) | (cells["arm"] == "real")]
    images = Images(scores[scores["cell"].isin(ours["cell"])])
    ones = np.ones((images.n_groups, 1))
    marked = bool((images.partition == "choosing").any())
    value_on = SCORED_ON["test"] if where["evaluated_on"] == "test" else ("validation",)
    apart = (
        where["evaluated_on"] == "test" or marked
    )  # are the images that value others than those that choose?
    chosen_by, values = {}, {}
    for row in ours.itertuples():
        rows = images.of(row.cell, ("choosing",) if marked else ("validation",))
        chosen_by[row.draw, row.seed, row.ratio] = images.labels[rows], images.scores[rows]
        rows = images.of(row.cell, value_on)
        values[row.draw, row.seed, row.ratio] = metrics.weighted(
            metric,
            images.labels[rows],
            images.scores[rows],
            images.groups[rows],
            ones,
            row.threshold,
        )[0]
    value = pd.Series(values).unstack()  # index (draw, seed), columns ratio
    value = value.dropna()
    draws = value.index.get_level_values(0)
    if draws.nunique() < 2 or value.shape[1] < 2:
        raise StudyError(
            f"regret of {arm} needs 2 draws and 2 ratios in common; there are {draws.nunique()} and {value.shape[1]}"
        )
    rows = []
    for draw, seed in value.index:
        others = value[(draws == draw) & (value.index.get_level_values(1) != seed)]
        chosen = choose_ratio({ratio: chosen_by[draw, seed, ratio] for ratio in value.columns})
        fixed = value[draws != draw].groupby(level=0).mean().mean().idxmax()
        valued = others.mean() if len(others) else value.loc[(draw, seed)]
        keys = ours[ours["draw"].eq(draw) & ours["ratio"].isin([chosen, fixed])]["cell"]
        rows.append(
            {
                "arm": arm,
                "metric": metric,
                "draw": draw,
                "seed": seed,
                "chosen": chosen,
                "value": valued[chosen],
                "fixed": fixed,
                "fixed_value": valued[fixed],
                "regret": valued[fixed] - valued[chosen],
                "honest": apart or len(others) > 0,
                **{name: where[name] for name in TASK_COLUMNS},
                "cells": ";".join(k[:12] for k in keys),
            }
        )
    return pd.DataFrame(rows)


def regret_summary(table: pd.DataFrame) -> dict:
    """Mean regret with its interval over draws, the share of draws where validation chose the fixed ratio."""
    by_draw = table.groupby("draw")["regret"].mean().to_numpy()
    low, high = interval(over_draws(np.repeat(by_draw[:, None], REPLICATES, 1)), len(by_draw))
    return {
        "arm": table["arm"].iloc[0],
        "regret": by_draw.mean(),
        "low": low,
        "high": high,
        "n_draws": len(by_draw),
        "agrees": float((table["chosen"] == table["fixed"]).mean()),
        "honest": bool(table["honest"].all()),
    }
