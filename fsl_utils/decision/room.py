"""Is there anything to gain? What more real rare images would bring, and what could be seen."""

import math

import numpy as np
from scipy.stats import t

from fsl_utils.analysis import headroom
from fsl_utils.analysis.resampling import over_draws
from fsl_utils.data import partitions
from fsl_utils.decision import candidates, certainty
from fsl_utils.decision.candidates import Candidate
from fsl_utils.decision.evidence import Evidence

FURTHER = 20  # real rare images more
PAINTED = 4  # synthetic rare images for each real one
SHARES = (0.25, 0.5, 0.75)  # of the rare images of a training part, beside all of them
FEWEST = 2  # shots of a level


class Fewer(Candidate):
    """The plain candidate on the first `shots` rare images of its training part."""

    def scores(self, seen, rows, scored):
        rare = rows[seen.labels[rows] == 1]
        rng = partitions.generator("fewer", int(rows.sum()))
        rare = partitions.spread(rare, seen.groups, rng)[: self.settings["shots"]]
        kept = np.sort(np.concatenate([rare, rows[seen.labels[rows] == 0]]))
        return super().scores(seen, kept, scored)


def curve(labels: np.ndarray, fold: np.ndarray, plain: Candidate = candidates.REAL) -> list[Fewer]:
    """The plain candidate with fewer shots, to be gathered beside the others."""
    most = int(min(labels[each != k].sum() for each in fold for k in np.unique(each)))
    levels = sorted({max(FEWEST, round(share * most)) for share in SHARES} - {most})
    return [
        Fewer(
            f"{plain.name} {n} shots", plain.title, plain.kind, plain.takes, plain.make,
            plain.settings | {"shots": n}, nested=False,
        )
        for n in levels
        if n < most
    ]  # fmt: skip


def shots_of(found: Evidence, plain: str = "probe") -> dict[str, float]:
    """Candidates of the learning curve with the number of rare images that each is fitted on."""
    whole = np.mean([found.labels[each != k].sum() for each in found.fold for k in np.unique(each)])
    levels = {name: name.split()[1] for name in found.outer if name.endswith(" shots")}
    return {name: float(n) for name, n in levels.items()} | {plain: float(whole)}


def learning_curve(found: Evidence, plain: str = "probe") -> list[dict]:
    """The metric by number of real rare images: images, value, low, high."""
    return [
        {"images": images, **found.estimate(found.levels[name])}
        for name, images in shots_of(found, plain).items()
    ]


def gain(found: Evidence, further: int = FURTHER, plain: str = "probe") -> dict:
    """What `further` real rare images would bring beyond all that are there: value, low, high.

    By a power law through the learning curve, fitted in every resample; NaN with fewer than three
    numbers of images.
    """
    shots = shots_of(found, plain)
    have = int(found.labels.sum())
    out = {"further": further, "have": have, "value": math.nan, "low": math.nan, "high": math.nan}
    if len(shots) < 3:
        return out
    repeats = min(len(found.levels[name]) for name in shots)
    values = [found.levels[name][:repeats] for name in shots]
    rows = np.stack([_resampled(each) for each in values], axis=1)
    at = np.array([have, have + further], float)
    fitted = headroom.power_law(np.array(list(shots.values())), rows, at)
    more = fitted[:, 1] - fitted[:, 0]
    low, high = found.interval(more[1:])
    return out | {"value": float(more[0]), "low": low, "high": high}


def _resampled(values: np.ndarray) -> np.ndarray:
    return np.append(values[:, 0].mean(), over_draws(values[:, 1:]))


def detectable(found: Evidence, names: list[str], plain: str = "probe") -> float:
    """The smallest true difference that these groups show with 80 % power, as a typical way's.

    (t_.975 + t_.8) times the standard error of the paired difference from the plain candidate
    (Bloom, Evaluation Review 19(5), 1995); the median over `names`. NaN with one group.
    """
    errors = [found.estimate(found.difference(name, plain))["error"] for name in names]
    if found.rare_groups < 2 or not errors:
        return math.nan
    freedom = certainty.freedom(found.effective_groups)
    factor = t.ppf(0.975, freedom) + t.ppf(headroom.POWER, freedom)
    return float(factor * np.median(errors))
