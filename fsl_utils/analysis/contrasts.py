"""What the cells say: tidy tables for figures, one row a point or contrast, each naming the cells behind it.

Everything here works from the two files of `results` alone.
"""

import math

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from fsl_utils import StudyError, metrics
from fsl_utils.analysis.resampling import (
    CONTROLS,
    LEVEL,
    MIN_DRAWS,
    REPLICATES,
    Resampled,
    holm,
    interval,
    over_draws,
    resample,
    sign_flip,
)
from fsl_utils.analysis.results import POOL, SCORED_ON, TASK, Images, setting, studies
from fsl_utils.data.datasets import sheets

MIN_GROUPS = 10  # groups with rare images, below which an interval over groups says little
PRIMARY = (
    "lora_filtered",
    4.0,
)  # against `real` and against `duplicate` at the same ratio; named before any run


def cautions(study: Resampled, draws: int | None = None) -> str:
    """What a reader must know before believing a number of this study; '' where there is nothing."""
    draws = study.points.shape[1] if draws is None else draws
    said = []
    if draws < MIN_DRAWS:
        said.append(f"illustration: {draws} draw{'s' * (draws != 1)}")
    if draws == 1:
        said.append("interval from test groups alone")
    if study.rare_groups < MIN_GROUPS:
        said.append(f"only {study.rare_groups} groups with rare images")
    if study.setting["evaluated_on"] == "validation":
        said.append("preliminary: on validation")
    if study.setting["protocol"] == "image":
        said.append("split by image: leaks by design")
    return "; ".join(said)


def _row(study: Resampled, *keys: tuple[str, float]) -> tuple[np.ndarray, dict]:
    """The draws (as positions) that all these (arm, ratio) share, and the columns common to all tables."""
    shared = study.points.loc[list(keys)].notna().all().to_numpy()
    draws = study.points.columns[shared]
    names = [cell[:12] for key in keys for draw in draws for cell in study.cells[key][draw]]
    columns = {
        "n_draws": len(draws),
        "n_seeds": study.seeds,
        "metric": study.metric,
        **{name: study.setting[name] for name in [*TASK, *POOL]},
        "caution": cautions(study, len(draws)),
        "cells": ";".join(names),
    }
    return np.flatnonzero(shared), columns


def _interval(study: Resampled, values: np.ndarray) -> tuple[float, float]:
    """Interval of the mean over draws of values [D, B]; with one draw, from its groups alone."""
    draws = len(values)
    return (
        interval(over_draws(values), draws if draws > 1 else study.rare_groups)
        if draws
        else (math.nan, math.nan)
    )


def curve(study: Resampled) -> pd.DataFrame:
    """Every arm and ratio: mean over draws, with its interval (low, high)."""
    rows = []
    for arm, ratio in study.replicates:
        draws, columns = _row(study, (arm, ratio))
        low, high = _interval(study, study.replicates[arm, ratio][draws])
        mean = study.points.loc[(arm, ratio)].iloc[draws].mean()
        rows.append({"arm": arm, "ratio": ratio, "mean": mean, "low": low, "high": high, **columns})
    return pd.DataFrame(rows)


def combination(study: Resampled, weights: dict[tuple[str, float], float]) -> dict:
    """A weighted sum of (arm, ratio) over the draws that have all of them: difference, low, high, p (NaN below MIN_DRAWS draws)."""
    draws, columns = _row(study, *weights)
    difference = sum(weight * study.points.loc[key] for key, weight in weights.items()).iloc[draws]
    low, high = _interval(
        study, sum(weight * study.replicates[key][draws] for key, weight in weights.items())
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


def forest(study: Resampled, ratio: float = PRIMARY[1]) -> pd.DataFrame:
    """Every arm against every control at `ratio`, Holm within each control; `beats_controls`: better than each of them."""
    families = [family for control in CONTROLS if len(family := against(study, control, ratio))]
    if not families:
        return pd.DataFrame()
    frame = pd.concat(families, ignore_index=True)
    better = (frame["p_holm"] < 1 - LEVEL) & (frame["difference"] > 0)
    return frame.assign(beats_controls=better.groupby(frame["arm"]).transform("all"))


FAMILY = ["protocol", "classifier", "init", "evaluated_on"]


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
        known = sheets.SHEETS[where["domain"]].rare if where["domain"] in sheets.SHEETS else ()
        if known and where["rare_class"] != known[0]:
            continue
        row = {
            **{name: where[name] for name in [*TASK, *POOL]},
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


def slopes(study: Resampled, arm: tuple[str, float], control: tuple[str, float]) -> pd.DataFrame:
    """The value of every draw under a control and under an arm: columns pair, draw, arm, ratio, value."""
    draws, columns = _row(study, control, arm)
    pair = " to ".join(f"{name} {ratio:g}x" if ratio else name for name, ratio in (control, arm))
    return pd.DataFrame(
        [
            {
                "pair": pair,
                "draw": int(draw),
                "arm": key[0],
                "ratio": key[1],
                "value": study.points.loc[key, draw],
                **columns,
                "cells": ";".join(cell[:12] for cell in study.cells[key][draw]),
            }
            for key in (control, arm)
            for draw in study.points.columns[draws]
        ]
    )


def exchange_rate(study: Resampled, arm: str) -> pd.DataFrame:
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
        draws, columns = _row(study, key, *tried)
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


def pr_curves(
    cells: pd.DataFrame, scores: pd.DataFrame, keys: list[tuple[str, float]], replicates: int = 300
) -> pd.DataFrame:
    """Precision over recall, mean over draws with a pointwise band: columns arm, ratio, recall, precision, low, high.

    At each recall stands the precision at the highest threshold that reaches it, not interpolated.
    """
    study = resample(cells, scores, replicates=1)  # for its draws, cells and cautions
    images = Images(scores[scores["cell"].isin(cells["cell"])])
    weights = np.random.default_rng(0).exponential(size=(images.n_groups, replicates))
    weights = np.hstack([np.ones((images.n_groups, 1)), weights])
    grid = np.linspace(0.02, 1, 50)
    tables = []
    for key in keys:
        draws, columns = _row(study, key)
        values = np.empty((len(draws), len(grid), replicates + 1))
        for i, draw in enumerate(study.points.columns[draws]):
            names = study.cells[key][draw]
            values[i] = np.mean(
                [
                    _precision_at(
                        grid, *images.evaluated(cell, study.setting["evaluated_on"]), weights
                    )
                    for cell in names
                ],
                axis=0,
            )
        bounds = [_interval(study, values[:, g, 1:]) for g in range(len(grid))]
        tables.append(
            pd.DataFrame(
                {
                    "arm": key[0],
                    "ratio": key[1],
                    "recall": grid,
                    "precision": values[:, :, 0].mean(0),
                    "low": [b[0] for b in bounds],
                    "high": [b[1] for b in bounds],
                    **columns,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _precision_at(grid: np.ndarray, labels, scores, groups, weights) -> np.ndarray:
    """Precision [len(grid), B] where recall first reaches each value of `grid`."""
    _, hits, false, _, _ = metrics.steps(labels, scores, groups, weights)
    recall = hits / hits[-1]
    step = np.stack([(recall < value - 1e-9).sum(0) for value in grid]).clip(max=len(recall) - 1)
    return np.take_along_axis(hits / (hits + false), step, 0)


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
                **{name: where[name] for name in TASK},
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


def pool_gains(
    cells: pd.DataFrame, pools: pd.DataFrame, metric: str = "pr_auc", control: str = "duplicate"
) -> pd.DataFrame:
    """Gain of every pool's classifier over the control of the same task, draw, seed and ratio, beside the pool's qualities.

    pools: one row a pool, with a column `pool` and numbers. One row a (pool, arm, ratio), seeds averaged.
    """
    if "pool" not in pools or pools["pool"].duplicated().any():
        raise StudyError(
            "pools.csv: it needs a column `pool` with each pool once; make the pool reports again"
        )
    on = [*TASK, "draw", "seed", "ratio"]
    base = cells.loc[cells["arm"] == control, [*on, metric, "cell"]]
    joined = (
        cells[cells["pool"] != ""]
        .merge(base, on=on, suffixes=("", "_control"))
        .merge(pools, on="pool", suffixes=("", "_pool"))
    )
    joined["gain"] = joined[metric] - joined[f"{metric}_control"]
    joined["cells"] = joined["cell"].str[:12] + ";" + joined["cell_control"].str[:12]
    qualities = [c for c in pools.select_dtypes("number") if c not in cells]
    same = [*TASK, *POOL, "pool", "arm", "ratio", "draw"]
    return joined.groupby(same, as_index=False).agg(
        {"gain": "mean", **{q: "first" for q in qualities}, "cells": ";".join}
    )


def correlation(gains: pd.DataFrame, quality: str) -> dict:
    """Spearman's correlation of a pool quality with the gain; the interval resamples draws, whose pools share shots."""
    gains = gains.dropna(subset=[quality, "gain"])
    parts = [part[[quality, "gain"]].to_numpy() for _, part in gains.groupby(["domain", "draw"])]
    if len(gains) < 4 or gains[quality].nunique() < 2:
        return {
            "rho": math.nan,
            "low": math.nan,
            "high": math.nan,
            "n_pools": len(gains),
            "n_draws": len(parts),
        }
    picks = np.random.default_rng(3).integers(len(parts), size=(REPLICATES, len(parts)))
    resampled = (
        [np.concatenate([parts[i] for i in pick]) for pick in picks] if len(parts) > 1 else []
    )
    rhos = np.array(
        [spearmanr(*both.T).statistic for both in resampled if np.ptp(both, axis=0).all()]
    )
    low, high = interval(rhos, len(parts)) if len(rhos) else (math.nan, math.nan)
    return {
        "rho": spearmanr(gains[quality], gains["gain"]).statistic,
        "low": low,
        "high": high,
        "n_pools": len(gains),
        "n_draws": len(parts),
    }


def ratio_table(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Arm by ratio at a glance: PR-AUC with its interval, recall and F1 at .5, draws, and what to beware of.

    Columns that differ between studies stand in front; each study has its own rows.
    """
    tables = []
    for one in studies(cells):
        table = curve(resample(one, scores)).rename(columns={"mean": "pr_auc"})
        plain = (
            one.groupby(["arm", "ratio", "draw"])[["recall", "f1"]]
            .mean()
            .groupby(["arm", "ratio"])
            .mean()
            .reset_index()
        )
        tables.append(table.merge(plain, on=["arm", "ratio"]))
    table = pd.concat(tables, ignore_index=True)
    differ = [name for name in [*TASK, *POOL] if table[name].nunique() > 1]
    return table[
        [*differ, "arm", "ratio", "pr_auc", "low", "high", "recall", "f1", "n_draws", "caution"]
    ]


SUMMARISED = ("pr_auc", "auroc", "f1_at_threshold", "recall_at_threshold")


def summary(cells: pd.DataFrame, scores: pd.DataFrame, ratio: float = PRIMARY[1]) -> pd.DataFrame:
    """What a paper's table shows of one study, at one ratio: columns arm, ratio, quantity, value, low, high, p_holm, beats_controls.

    Quantities are the metrics SUMMARISED and the PR-AUC differences 'vs duplicate' and 'vs real'.
    Metrics that the study lacks are left out.
    """
    have = [metric for metric in SUMMARISED if cells[metric].notna().any()]
    made = {metric: resample(cells, scores, metric) for metric in have}
    keys = [made["pr_auc"].at(arm, ratio) for arm in made["pr_auc"].arms]
    parts = []
    for metric, study in made.items():
        table = curve(study).set_index(["arm", "ratio"])
        parts.append(
            table.loc[[key for key in keys if key in table.index]]
            .reset_index()
            .rename(columns={"mean": "value"})
            .assign(quantity=metric)
        )
    compared = forest(made["pr_auc"], ratio)
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
        *TASK,
        *POOL,
        "caution",
        "cells",
    ]
    return table.reindex(columns=columns)


def worst(scores: pd.DataFrame, cell: str, count: int = 8) -> pd.DataFrame:
    """The `count` images a cell is most wrong about: common ones scored high, rare ones scored low."""
    ours = scores[scores["cell"] == cell]
    error = (ours["score"] - ours["label"]).abs()
    return ours.assign(error=error, cells=cell[:12]).nlargest(count, "error")
