"""Would choosing the ratio on validation pay? The rule of `halving`, replayed on finished cells.

Every rule chooses for each draw by itself, on its few `choosing` images, and is valued on images
that did not choose. What it takes are cells that exist, so a rule is an arm like any other.
"""

import math
from collections.abc import Iterable

import pandas as pd

from fsl_utils import halving, metrics
from fsl_utils.analysis import contrasts
from fsl_utils.analysis.resampling import REAL, Resampled, resample
from fsl_utils.analysis.tables import Images, setting
from fsl_utils.halving import RECIPES, REPLICATES, Key, Scores

FIXED = 4.0  # the ratio that is taken where nothing chooses
FREE = "augment"
RULES = {
    "adaptive": "halving, then the smallest ratio within one standard error",
    "whole sweep": "every ratio, then the smallest within one standard error",
    "best on validation": "every ratio, then the best",
    "fixed 4x": "the first recipe at 4x",
    "random": "a ratio at random, 0x among them",
    "ensemble": "mean score of real and of each recipe at 4x",
    "free ensemble": "mean score of real and of augment at 4x and 10x",
    "other draws": "the best of the other draws, by their test scores",
    "hindsight": "the one best over all draws, by test scores",
}
MEANS = ("ensemble", "free ensemble")  # of scores
UNIT = ["draw", "fold", "seed"]  # a choice each
LEAST = 4  # ratios, 0x among them, below which there is nothing to halve


def candidates(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of a study that `adaptive` chooses among: `real` and RECIPES at their ratios.

    A recipe that lacks a ratio of another is left out, and so is a draw, fold and seed that lacks
    a cell. Empty where there are fewer than LEAST ratios.
    """
    ratios = {name: set(cells.loc[cells["arm"] == name, "ratio"]) for name in RECIPES}
    full = [name for name in RECIPES if ratios[name] == set.union(*ratios.values())]
    ours = cells[cells["arm"].isin(["real", *full])]
    keys = ours.groupby(["arm", "ratio"]).ngroups
    ours = ours[ours.groupby(UNIT)["cell"].transform("size") == keys]
    enough = (ours["arm"] == "real").any() and ours["ratio"].nunique() >= LEAST
    return ours if enough else ours[:0]


def on_validation(
    cells: pd.DataFrame, scores: pd.DataFrame, metric: str = "pr_auc"
) -> dict[tuple, Scores]:
    """The metric on the choosing images: (draw, fold, seed) -> (arm, ratio) -> [1 + REPLICATES].

    cells: of `candidates`. Where no image is marked as choosing, all of validation chooses.
    """
    images = Images(scores[scores["cell"].isin(cells["cell"])])
    weights = metrics.group_weights(images.n_groups, REPLICATES)
    found: dict[tuple, Scores] = {}
    for row in cells.itertuples():
        at = images.of(row.cell, ("choosing",))
        at = at if len(at) else images.of(row.cell, ("validation",))
        parts = images.labels[at], images.scores[at], images.groups[at]
        values = metrics.weighted(metric, *parts, weights, row.threshold)
        found.setdefault((row.draw, row.fold, row.seed), {})[row.arm, row.ratio] = values
    return found


def searched(scored: Scores) -> Scores:
    """Of all that is scored in a draw what the search would have tried, in its order."""
    recipes = [name for name in RECIPES if any(arm == name for arm, _ in scored)]
    ratios = {ratio for _, ratio in scored if ratio > 0}
    return halving.search(scored[REAL], recipes, sorted(ratios), lambda *key: scored[key])


def of_draw(cells: pd.DataFrame, scores: pd.DataFrame, metric: str = "pr_auc") -> pd.DataFrame:
    """What `adaptive` makes of one study's first draw, a row an (arm, ratio); empty where too few.

    Columns value (on the choosing images), behind the best that was tried and the standard error
    of that, `tried`, `chosen`; beside them a study's setting and what the draw was judged on.
    """
    ours = candidates(cells)
    if ours.empty:
        return pd.DataFrame()
    ours = ours[ours["draw"] == ours["draw"].min()].drop_duplicates(["arm", "ratio"])
    scored = on_validation(ours, scores, metric)
    if len(scored) > 1:  # folds and seeds of one draw choose each by itself
        return pd.DataFrame()
    values = next(iter(scored.values()))
    tried = searched(values)
    apart, chosen = halving.behind(values, tried), halving.choose(tried)
    judged = _judged(ours, scores)
    rows = [
        {"arm": arm, "ratio": ratio, "value": values[arm, ratio][0]}
        | {"behind": apart[arm, ratio][0], "error": apart[arm, ratio][1]}
        | {"tried": (arm, ratio) in tried, "chosen": (arm, ratio) == chosen, "metric": metric}
        for arm, ratio in values
    ]
    return pd.DataFrame(rows).assign(**setting(ours) | judged)


def _judged(ours: pd.DataFrame, scores: pd.DataFrame) -> dict:
    """Rare images and groups that choose."""
    one = scores[scores["cell"] == ours["cell"].iloc[0]]
    marked = one[one["partition"] == "choosing"]
    one = marked if len(marked) else one[one["partition"] == "validation"]
    return {
        "n_rare": int(one["label"].sum()),
        "n_groups": one["group"].nunique(),
        "n_draws": 1,
        "evaluated_on": "validation",
        "caution": "",
    }


def replay(cells: pd.DataFrame, scores: pd.DataFrame, metric: str = "pr_auc") -> pd.DataFrame:
    """Every rule of RULES against `real`, and the two ensembles: one row each, one family of tests.

    cells: of one study; empty with too few ratios or draws, or where no image is marked to choose.
    Columns of `contrasts.contrast`, p_holm and verdict; `worst`: the least difference of a draw;
    `short`: how far below hindsight; mean over draws of `cells_trained` and of `images_sampled` per
    shot, and both as a share of the whole sweep; `chosen`: how often which. Images that chose do
    not count.
    """
    ours = candidates(cells)
    marked = (scores.loc[scores["cell"].isin(ours["cell"]), "partition"] == "choosing").any()
    if not marked or ours["draw"].nunique() < 2:
        return pd.DataFrame()
    free = _free(cells, ours)
    both = pd.concat([ours, free])
    valued = scores[(scores["partition"] != "choosing") & scores["cell"].isin(both["cell"])]
    values = resample(ours, valued, metric, replicates=1).points
    choices: dict[str, dict] = {}  # rule -> (draw, fold, seed) -> what it takes, what it tried
    for unit, scored in on_validation(ours, scores, metric).items():
        fixed = _fixed(ours), [REAL, *zip(free["arm"], free["ratio"])][:3]
        for rule, choice in _choices(scored, values, unit[0], *fixed).items():
            choices.setdefault(rule, {})[unit] = choice
    if free.empty:
        del choices["free ensemble"]
    taken = {rule: _as_arm(both, rule, chosen) for rule, chosen in choices.items()}
    for rule in set(MEANS) & set(taken):
        taken[rule], mean = averaged(taken[rule], valued)
        valued = pd.concat([valued, mean])
    study = resample(pd.concat([ours[ours["arm"] == "real"], *taken.values()]), valued, metric)
    return _table(study, choices)


def _choices(scored: Scores, values: pd.DataFrame, draw: int, fixed: list[Key], free: list[Key]):
    """What each rule takes in a draw, and what it had to try: (keys, a list of sets of keys).

    Of several keys the mean counts, of several sets the mean cost. values: on test, a column a
    draw.
    """
    tried, everything = searched(scored), list(scored)
    best = max(scored, key=lambda key: scored[key][0])
    others, hindsight = values.drop(columns=draw).mean(axis=1), values.mean(axis=1)
    return {
        "adaptive": ([halving.choose(tried)], [tried]),
        "whole sweep": ([halving.choose(scored)], [everything]),
        "best on validation": ([best], [everything]),
        "fixed 4x": (fixed[1:2], [fixed[1:2]]),
        "random": (everything, [[key] for key in everything]),
        "ensemble": (fixed, [fixed]),
        "free ensemble": (free, [free]),
        "other draws": ([others.idxmax()], [[others.idxmax()]]),
        "hindsight": ([hindsight.idxmax()], [[hindsight.idxmax()]]),
    }


def _table(study: Resampled, choices: dict) -> pd.DataFrame:
    """See `replay`."""
    rows = [contrasts.contrast(study, (rule, 0.0), REAL) for rule in choices]
    rows[-1]["p"] = math.nan  # hindsight was chosen by what it is valued on
    best = rows[-1]["difference"]
    whole = _cost(choices["whole sweep"])
    for row in rows:
        chosen = choices[row["arm"]]
        apart = study.points.loc[(row["arm"], 0.0)] - study.points.loc[REAL]
        cost = _cost(chosen)
        row |= {
            "worst": apart.min(),
            "short": best - row["difference"],
            "cells_trained": cost[0],
            "images_sampled": cost[1],
            "share_of_cells": cost[0] / whole[0],
            "share_of_images": cost[1] / whole[1],
            "chosen": _counted(chosen),
        }
    if "free ensemble" in choices:
        rows.append(contrasts.contrast(study, ("ensemble", 0.0), ("free ensemble", 0.0)))
    return contrasts.family(rows)


def _as_arm(cells: pd.DataFrame, rule: str, choices: dict) -> pd.DataFrame:
    """The cells that a rule takes, under its name."""
    units = zip(*(cells[name] for name in UNIT))
    keys = zip(cells["arm"], cells["ratio"])
    took = cells[[key in choices[unit][0] for unit, key in zip(units, keys)]]
    return took.assign(arm=rule, ratio=0.0)


def averaged(taken: pd.DataFrame, valued: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One cell a draw, fold and seed, whose scores are the mean of those taken; and its scores."""
    named = taken.assign(mean=taken[["arm", *UNIT]].astype(str).agg(" ".join, axis=1))
    scores = valued.merge(named[["cell", "mean"]], on="cell")
    same = ["mean", "image", "group", "partition", "label"]
    scores = scores.groupby(same, observed=True)["score"].mean().reset_index()
    cells = named.drop_duplicates("mean")
    return cells.assign(cell=cells["mean"]), scores.rename(columns={"mean": "cell"})


def _fixed(ours: pd.DataFrame) -> list[Key]:
    """`real` and each recipe at FIXED, or at the ratio nearest to it."""
    ratios = ours.loc[ours["ratio"] > 0, "ratio"].unique()
    nearest = float(min(ratios, key=lambda ratio: (abs(ratio - FIXED), ratio)))
    return [REAL, *((name, nearest) for name in RECIPES if (ours["arm"] == name).any())]


def _free(cells: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """The cells of FREE at its two ratios from FIXED on, of the draws of `ours`; or none."""
    free = cells[(cells["arm"] == FREE) & (cells["ratio"] >= FIXED)]
    free = free[free["ratio"].isin(sorted(free["ratio"].unique())[:2])]
    shared = free.merge(ours[UNIT].drop_duplicates(), on=UNIT)
    return shared if len(shared) == 2 * len(ours[UNIT].drop_duplicates()) else free[:0]


def _cost(choices: dict) -> tuple[float, float]:
    """Classifiers trained, and images sampled per shot, mean over draws."""
    sets = [keys for _, tried in choices.values() for keys in tried]
    return sum(map(len, sets)) / len(sets), sum(map(images, sets)) / len(sets)


def images(keys: Iterable[Key]) -> float:
    """Images per shot that are sampled for these (arm, ratio), the pools being shared."""
    most: dict[str, float] = {}
    for arm, ratio in keys:
        for kind in RECIPES.get(arm, ()):
            most[kind] = max(most.get(kind, 0.0), ratio)
    return sum(most.values())


def _counted(choices: dict) -> str:
    """'real 5, lora 1x 3': what a rule took, the most frequent first; '' where it takes several."""
    if any(len(keys) > 1 for keys, _ in choices.values()):
        return ""
    return counted([named(*keys[0]) for keys, _ in choices.values()])


def counted(names: list[str]) -> str:
    """'real 5, lora 1x 3': the most frequent first, of as frequent ones by name."""
    counts = pd.Series(names).value_counts()
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in most)


def named(arm: str, ratio: float) -> str:
    """'lora 4x', or 'real'."""
    return f"{arm} {ratio:g}x" if ratio else arm
