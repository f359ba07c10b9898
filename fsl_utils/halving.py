"""Which recipe, and how many images: successive halving, then the one-standard-error rule.

Pure statistics: a score is a vector, as observed and then under resampled groups, and who computes
it is not known here. The budget is the ratio, images added per shot: it is what costs, and since
the beginning of a pool is a pool, each rung keeps what the one before it has made.
"""

from collections.abc import Callable, Sequence

import numpy as np

# What `adaptive` tries: one class, or both, with the kinds of pool that each takes images of.
RECIPES = {"lora": ("rare",), "synth_both": ("rare", "common")}
RATIOS = (0.5, 1.0, 2.0, 4.0, 10.0, 20.0)
REPLICATES = 1000  # resamplings of the groups
Key = tuple[str, float]  # a recipe and its ratio
Scores = dict[Key, np.ndarray]  # [1 + B] each: as observed, then under the same B resamplings


def search(
    real: np.ndarray,
    recipes: Sequence[str],
    ratios: Sequence[float],
    score: Callable[[str, float], np.ndarray],
) -> Scores:
    """Score recipes at growing ratios, the better half of them at each next one.

    Successive halving (Jamieson and Talwalkar, AISTATS 2016) whose resource is the ratio. It stops
    at the first ratio at which no recipe is better than all before it, `real` among them: a set
    that does not help is not made larger. real [1 + B]: the score at 0x, key ("real", 0). score:
    (recipe, ratio) -> [1 + B]. Returns what was scored, in that order.
    """
    scored: Scores = {("real", 0.0): real}
    alive = list(recipes)
    for ratio in sorted(ratios):
        best = max(values[0] for values in scored.values())
        rung = {(name, float(ratio)): score(name, ratio) for name in alive}
        scored |= rung
        if max(values[0] for values in rung.values()) <= best:
            break
        alive.sort(key=lambda name: -rung[name, float(ratio)][0])
        alive = alive[: -(-len(alive) // 2)]
    return scored


def behind(scored: Scores, among: Scores | None = None) -> dict[Key, tuple[float, float]]:
    """How far each lies behind the best of `among` (all), and the standard error of that.

    The difference is paired: both are scored on the same groups in every resampling.
    """
    best = max((among or scored).values(), key=lambda values: values[0])
    apart = {key: best - values for key, values in scored.items()}
    return {key: (float(d[0]), float(d[1:].std(ddof=1))) for key, d in apart.items()}


def choose(scored: Scores) -> Key:
    """The smallest ratio within one standard error of the best; of equals the one named first.

    The rule of Breiman et al. 1984 (section 3.4.3), on paired differences. 0x is a ratio as the
    others: it stays unless the best is more than one standard error above it.
    """
    within = [key for key, (apart, error) in behind(scored).items() if apart <= error]
    return min(within, key=lambda key: key[1])
