"""Of what further real images bring, how much do ways without them reach?

Each role is played by the way that few validation images choose for it, in every draw and fold
anew: no test image chooses, nor does hindsight.
"""

import numpy as np
import pandas as pd

from fsl_utils.analysis import adaptive, contrasts, ways
from fsl_utils.analysis.adaptive import UNIT
from fsl_utils.analysis.resampling import Resampled, interval, resample
from fsl_utils.analysis.ways import CEILING, Way

# Role -> what it may take. Each may take any classifier, weight and ratio.
ROLES = {
    "shots": "the shots alone",
    "free": "the shots and what costs nothing",
    "synthetic": "the shots and synthetic images",
    "ceiling": "the shots and further real images",
}
SHOTS, FREE, SYNTHETIC, CEILING_ROLE = ROLES
PARTS = ["domain", "rare_class", "protocol", "n_real", "evaluated_on"]  # a task each
GOAL = 0.75  # of what further real images bring


def tasks(cells: pd.DataFrame) -> list[pd.DataFrame]:
    """The cells of each task, of all classifiers."""
    return [part for _, part in cells.groupby(PARTS)]


def chosen(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The cells of one task that ROLES are given, a row a role, draw, fold and seed.

    As `cells`, with the way's name in `way`, its ratio in `way_ratio` and the role as the arm. The
    best on the choosing images, by the rule of `ways.cheapest`. The ceiling takes the largest ratio
    alone. A role without a way that has all draws, folds and seeds is left out.
    """
    named = complete(ways.named(cells))
    seconds = named.groupby(["arm", "ratio"])["train_seconds"].mean()
    by_role = candidates(seconds.index)
    taken = []
    for unit, scored in adaptive.on_validation(named, scores).items():
        level = pd.Series({key: values[0] for key, values in scored.items()})
        here = named[(named[UNIT] == pd.Series(dict(zip(UNIT, unit)))).all(axis=1)]
        for role, keys in by_role.items():
            name, ratio = ways.cheapest(keys, level, seconds)
            row = here[(here["arm"] == name) & (here["ratio"] == ratio)]
            taken.append(row.assign(way=name, way_ratio=ratio, arm=role, ratio=0.0))
    return pd.concat(taken, ignore_index=True)


def candidates(keys) -> dict[str, list[ways.Key]]:
    """The ways that may play each role; a role that none may is left out."""
    free, synthetic = ways.roles(keys).values()
    further = [key for key in keys if Way.of(key[0]).arm == CEILING]
    most = max((ratio for _, ratio in further), default=0.0)
    may = {
        SHOTS: [key for key in free if Way.of(key[0]).arm == "real"],
        FREE: free,
        SYNTHETIC: synthetic,
        CEILING_ROLE: [key for key in further if key[1] == most],
    }
    return {role: sorted(keys_of_it) for role, keys_of_it in may.items() if keys_of_it}


def valued(taken: pd.DataFrame, scores: pd.DataFrame) -> Resampled:
    """The roles of one task as a study. taken: of `chosen`."""
    return resample(taken.drop(columns=["way", "way_ratio"]), scores)


def shares(study: Resampled, taken: pd.DataFrame) -> pd.DataFrame:
    """Every role but the shots minus the shots, and its share of the ceiling's gain.

    study: of `valued`, taken: of `chosen`. Columns as of `contrasts.contrast`, then level,
    control_level, ways (what was chosen, how often), share, share_low and share_high: not a number
    where the ceiling is not above the shots with its whole interval, for then there is no room to
    take a share of.
    """
    shots, ceiling = (SHOTS, 0.0), (CEILING_ROLE, 0.0)
    roles = [role for role in ROLES if role != SHOTS and (role, 0.0) in study.replicates]
    level = study.points.mean(axis=1)
    rows = [
        contrasts.contrast(study, (role, 0.0), shots)
        | {"level": level[role, 0.0], "control_level": level[shots], "ways": _told(taken, role)}
        for role in roles
    ]
    table = contrasts.family(rows)
    if CEILING_ROLE not in roles or not table.set_index("arm").loc[CEILING_ROLE, "low"] > 0:
        return table.assign(share=np.nan, share_low=np.nan, share_high=np.nan)
    found = [_share(study, (role, 0.0), shots, ceiling) for role in roles]
    return table.assign(**dict(zip(("share", "share_low", "share_high"), zip(*found))))


def rivals(study: Resampled) -> dict:
    """The synthetic role minus the free one: a row of `contrasts.contrast`; {} where one lacks."""
    pair = (SYNTHETIC, 0.0), (FREE, 0.0)
    return contrasts.contrast(study, *pair) if set(pair) <= study.replicates.keys() else {}


def hindsight(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The way of each role that scores best where it is valued, of one task: nobody can choose so.

    Columns arm (the role), way, way_ratio, level and the task's.
    """
    study = resample(complete(ways.named(cells)), scores, replicates=1)
    level = study.points.mean(axis=1)
    best = {role: level[keys].idxmax() for role, keys in candidates(level.index).items()}
    where = {name: cells[name].iloc[0] for name in PARTS}
    return pd.DataFrame(
        {"arm": role, "way": key[0], "way_ratio": key[1], "level": level[key], **where}
        for role, key in best.items()
    )


def complete(named: pd.DataFrame) -> pd.DataFrame:
    """Of cells by way those of ways that have all draws, folds and seeds."""
    count = named.groupby(["arm", "ratio"])["cell"].transform("size")
    return named[count == len(named[UNIT].drop_duplicates())]


def _share(study: Resampled, *keys: ways.Key) -> tuple[float, float, float]:
    """A role's part of the ceiling's gain over the shots, with its interval.

    keys: of the role, the shots and the ceiling. The ratio is taken in every resample anew.
    """
    draws, _ = study.shared(*keys)
    role, shots, ceiling = (study.mean_and_resamples(key, draws) for key in keys)
    share = (role - shots) / (ceiling - shots)
    return float(share[0]), *interval(share[1:], study.units(len(draws)))


def _told(taken: pd.DataFrame, role: str) -> str:
    """'probe lora 4x 3, whitened real 2': the ways that a role was given, and how often."""
    ours = taken[taken["arm"] == role]
    return adaptive.counted([told_of(*key) for key in zip(ours["way"], ours["way_ratio"])])


def told_of(name: str, ratio: float) -> str:
    """'probe lora at weight 0.2 4x'."""
    way = Way.of(name)
    weight = f" at weight {way.weight:g}" if way.weight else ""
    return f"{way.classifier} {adaptive.named(way.arm + weight, ratio)}"
