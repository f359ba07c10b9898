"""Tries of a search beside its first one, over the draws that both have."""

import math

import pandas as pd

from fsl_utils.analysis import contrasts
from fsl_utils.analysis.resampling import MIN_DRAWS, interval, over_draws, sign_flip

# Of a pool, as its report names them: is it varied, is it rare, is it near, is it a copy?
MEASURES = (
    "distance_synthetic_synthetic",
    "called_rare",
    "kid",
    "auroc_synthetic",
    "copy_rate",
)


def compared(table: pd.DataFrame, measures: tuple[str, ...] = MEASURES) -> pd.DataFrame:
    """Every try minus the first, one family a `measure`; none where there is one try alone.

    table: columns draw, try and measures, as of `study.search`. Columns try, measure, first (its
    mean), difference, low, high (over draws), n_draws, p (NaN below MIN_DRAWS draws), p_holm and
    verdict: more, less, or none.
    """
    families = []
    for measure in measures:
        values = table.pivot(index="draw", columns="try", values=measure)
        first, *others = table["try"].unique()
        rows = [contrast(values[[first, name]].dropna()) for name in others]
        families.append(contrasts.family([row | {"measure": measure} for row in rows if row]))
    changes = pd.concat(families, ignore_index=True)
    return changes.replace({"verdict": {"better": "more", "worse": "less"}})


def beside(table: pd.DataFrame, measures: tuple[str, ...], rival: str, name: str) -> pd.DataFrame:
    """`compared`, and below it, a family of its own, the try `name` minus the try `rival`.

    What is subtracted stands in `minus`. `rival` comes before `name` in the table.
    """
    pair = table[table["try"].isin([rival, name])]
    parts = [compared(part, measures).assign(minus=part["try"].iloc[0]) for part in (table, pair)]
    return pd.concat(parts, ignore_index=True)


def contrast(pair: pd.DataFrame) -> dict:
    """One try minus the first; {} where they share no draw. pair: a column each, first first."""
    first, name = pair.columns
    difference = (pair[name] - pair[first]).to_numpy()
    if not len(difference):
        return {}
    low, high = interval(over_draws(difference[:, None]), len(difference))
    p = sign_flip(difference) if len(difference) >= MIN_DRAWS else math.nan
    means = {"try": name, "first": pair[first].mean(), "difference": difference.mean()}
    return means | {"low": low, "high": high, "n_draws": len(difference), "p": p}
