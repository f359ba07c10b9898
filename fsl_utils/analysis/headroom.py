"""Headroom, before anything is generated: is there anything to gain, and could it be shown?

All of it from real images alone: cells of `real` at several numbers of shots and of `real_more`.
"""

import math

import numpy as np
import pandas as pd
from scipy.stats import t

from fsl_utils import StudyError
from fsl_utils.analysis import curves
from fsl_utils.analysis.resampling import (
    MIN_DRAWS,
    Resampled,
    interval,
    resample,
)
from fsl_utils.analysis.tables import TASK_COLUMNS

POWER = 0.80
EXPONENTS = np.geomspace(0.05, 3, 40)


def over_images(cells: pd.DataFrame, scores: pd.DataFrame, metric: str = "pr_auc") -> Resampled:
    """`real` and `real_more` of one task over the number of real rare images.

    cells: of any numbers of shots, else of one setting. A number of images is an (`real`, images)
    of the result; where both arms have it, `real` counts. Raises StudyError where neither was
    run.
    """
    ours = cells[cells["arm"].isin(["real", "real_more"])]
    if ours.empty:
        raise StudyError("headroom needs cells of `real` or `real_more`: run them first")
    images = (ours["n_real"] * (1 + ours["ratio"])).round()
    ours = ours.assign(ratio=images, n_real=ours["n_real"].min()).sort_values("arm", kind="stable")
    ours = ours.drop_duplicates(["ratio", "draw", "fold", "seed"]).assign(arm="real")
    return resample(ours, scores, metric)


def learning_curves(
    cells: pd.DataFrame, scores: pd.DataFrame, metric: str = "pr_auc"
) -> pd.DataFrame:
    """The metric over the number of real rare `images`, one row a task and number."""
    parts = [curves.levels(over_images(task, scores, metric)) for task in _tasks(cells)]
    return pd.concat(parts, ignore_index=True).rename(columns={"ratio": "images"})


def _tasks(cells: pd.DataFrame) -> list[pd.DataFrame]:
    """The cells of real images, apart by everything but the number of shots."""
    real = cells[cells["arm"].isin(["real", "real_more"])]
    by = [name for name in TASK_COLUMNS if name != "n_real"]
    return [task for _, task in real.groupby(by)]


def detectable(
    study: Resampled, arm: tuple[str, float], control: tuple[str, float], draws: int | None = None
) -> float:
    """The smallest true difference that so many draws, on these groups, show with 80 % power.

    Two-sided at .05: (t_.975 + t_.8) x standard error (Bloom, Evaluation Review 19(5), 1995). The
    squared error is s^2 / draws + v: s is the spread of the paired difference over draws, v the
    variance of its mean over draws under resampled groups, which more draws do not make smaller.
    Degrees of freedom by Satterthwaite (Biometrics Bulletin 2(6), 1946). draws: those that both
    have, if None. NaN for fewer than 2 draws or groups with rare images.
    """
    of_draws, of_groups, both = _variances(study, arm, control)
    groups, draws = study.rare_groups, draws or both
    if min(both, draws, groups) < 2:
        return math.nan
    squared = of_draws / draws + of_groups
    if squared == 0:
        return 0.0
    freedom = squared**2 / ((of_draws / draws) ** 2 / (draws - 1) + of_groups**2 / (groups - 1))
    return float((t.ppf(0.975, freedom) + t.ppf(POWER, freedom)) * math.sqrt(squared))


def _variances(study: Resampled, arm: tuple, control: tuple) -> tuple[float, float, int]:
    """Variance of a paired difference over draws, and of its mean over groups; draws of both."""
    both, _ = study.shared(arm, control)
    if arm == control or len(both) < 2:
        return math.nan, math.nan, 0
    difference = (study.points.loc[arm] - study.points.loc[control]).iloc[both]
    replicates = study.replicates[arm][both] - study.replicates[control][both]
    return difference.var(ddof=1), replicates.mean(0).var(), len(both)


def draws_needed(
    study: Resampled, arm: tuple[str, float], control: tuple[str, float], effect: float = 0.05
) -> float:
    """Draws that show a difference of `effect` (see `detectable`), MIN_DRAWS at least.

    study: a pilot on validation. Infinite where 1,000 draws on these groups do not show it.
    """
    if math.isnan(detectable(study, arm, control)):
        raise StudyError("the pilot needs 2 draws and 2 groups with rare images to know a spread")

    if detectable(study, arm, control, 1000) > effect:
        return math.inf
    enough = (n for n in range(MIN_DRAWS, 1001) if detectable(study, arm, control, n) <= effect)
    return next(enough)


def power_law(images: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The power law a - b n^-c fitted to each row of values [B, K] over images [K].

    Returns its values [B, len(at)]. Least squares with b >= 0, a <= 1 and c among EXPONENTS; such
    are learning curves (Cortes et al., NIPS 1993; Viering and Loog, TPAMI 2023).
    """
    mean = values.mean(1)
    best = np.full(len(values), np.inf)
    fitted = np.empty((len(values), len(at)))
    for c in EXPONENTS:
        x, x_at = ((n / images[0]) ** -c for n in (images, at))
        deviation = x - x.mean()
        b = (values @ -deviation / (deviation @ deviation)).clip(min=0)
        above = mean + b * x.mean() > 1
        b = np.where(above, (1 - values) @ x / (x @ x), b)
        a = np.where(above, 1, mean + b * x.mean())
        error = ((values - a[:, None] + np.outer(b, x)) ** 2).sum(1)
        better = error < best
        best = np.where(better, error, best)
        fitted = np.where(better[:, None], a[:, None] - np.outer(b, x_at), fitted)
    return fitted


def room(
    cells: pd.DataFrame, scores: pd.DataFrame, further: int = 160, metric: str = "pr_auc"
) -> pd.DataFrame:
    """What `further` real rare images would bring and what could be shown.

    One row a task and number of `shots`. Columns level, difference, low, high, `measured` (else by
    `power_law` over all numbers of images, three at least, fitted in every resample), `detectable`
    (by the spread of that difference) and verdict:

    - room: the difference is above zero and no smaller than what can be shown.
    - no room: even its upper end is smaller, so that a null says nothing about generators.
    - cannot tell: neither.
    - not known: too few draws or numbers of images.
    """
    rows = []
    for task in _tasks(cells):
        study = over_images(task, scores, metric)
        shots = np.sort(task.loc[task["arm"] == "real", "n_real"].unique())
        curve = _extrapolated(study, np.append(shots, shots + further))
        rows += [_room(study, n, further, curve) for n in shots]
    return pd.DataFrame(rows)


def _extrapolated(study: Resampled, at: np.ndarray) -> dict[int, np.ndarray]:
    """The power law over all levels: number of images -> the observed value, then its resamples.

    Not a number where there are fewer than three levels, or no draw has all of them.
    """
    levels = list(study.points.index)
    draws, _ = study.shared(*levels)
    if len(levels) < 3 or not len(draws):
        return dict.fromkeys(at.tolist(), np.full(2, np.nan))
    values = np.stack([study.mean_and_resamples(level, draws) for level in levels], axis=1)
    fitted = power_law(np.array([images for _, images in levels]), values, at)
    return dict(zip(at.tolist(), fitted.T))


def _room(study: Resampled, shots: int, further: int, curve: dict[int, np.ndarray]) -> dict:
    """The row of `room` of one task and number of shots; curve: of `_extrapolated`."""
    key, target = ("real", float(shots)), ("real", float(shots + further))
    measured = target in study.replicates and bool(len(study.shared(key, target)[0]))
    largest = target if measured else max(study.points.index)
    row = study.shared(key, largest)[1]
    if measured:
        draws, _ = study.shared(key, target)
        gain = study.mean_and_resamples(target, draws) - study.mean_and_resamples(key, draws)
    else:
        gain = curve[shots + further] - curve[shots]
    low, high = interval(gain[1:], study.units(row["n_draws"]))
    row |= {
        "shots": int(shots),
        "level": study.points.loc[key].mean(),
        "further": further,
        **{"difference": gain[0], "low": low, "high": high, "measured": measured},
        "detectable": detectable(study, largest, key),
    }
    return row | {"verdict": _verdict(row)}


def _verdict(row: dict) -> str:
    if not np.isfinite([row["difference"], row["low"], row["detectable"]]).all():
        return "not known"
    if row["low"] > 0 and row["difference"] >= row["detectable"]:
        return "room"
    return "no room" if row["high"] < row["detectable"] else "cannot tell"


_SENTENCES = {
    "room": "there is room, and an arm that did as much would be seen",
    "no room": "too little to gain, so that a null would say nothing about generators",
    "cannot tell": "it cannot be told whether there is room",
    "not known": "it takes two draws, and `real_more` or three numbers of shots, to say more",
}


def in_words(row: pd.Series) -> str:
    """One row of `room` as a sentence: is there anything to gain?"""
    said = (
        f"{row['domain']}: {row['rare_class']}, {row['classifier']}, {row['shots']} shots: "
        f"{row['metric']} {row['level']:.3f} (without skill {row['no_skill']:.3f})"
    )
    if row["verdict"] != "not known":
        said += (
            f"; {row['further']} further real images {row['difference']:+.3f} "
            f"[{row['low']:+.3f}, {row['high']:+.3f}]{', extrapolated' * (not row['measured'])}; "
            f"{row['n_draws']} draws and {row['n_rare_groups']} groups show {row['detectable']:.3f}"
        )
    return f"{said}: {_SENTENCES[row['verdict']]}."
