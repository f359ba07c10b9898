"""Nested cross-validation by groups over all of the data: what is chosen is not what is scored.

Each candidate is fitted without each fold, and without each pair of folds. Without fold k it scores
k. Without j and k it scores j for the choice that is then scored on k.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fsl_utils import StudyError, metrics, store
from fsl_utils.analysis.resampling import REPLICATES, group_weights, over_draws
from fsl_utils.decision import certainty, folds
from fsl_utils.decision.candidates import Candidate

CHOOSING = 200  # replicates of the groups behind an inner choice
GUESSES = 20
METRIC = "pr_auc"


@dataclass
class Evidence:
    """Out-of-fold scores. labels, groups: int [N]; fold: int [R, N].

    outer: name -> [R, N], the score of every image, fitted without its fold; NaN in repeats that a
    candidate has not. inner: name -> [R, K, N], fitted without its fold and fold k; NaN in k.
    left_out: name -> why a candidate could not be fitted.
    """

    labels: np.ndarray
    groups: np.ndarray
    fold: np.ndarray
    outer: dict[str, np.ndarray]
    inner: dict[str, np.ndarray]
    left_out: dict[str, str]

    @cached_property
    def weights(self) -> np.ndarray:
        """Weights [G, 1 + B] of the Bayesian bootstrap over groups."""
        return group_weights(int(self.groups.max()) + 1, REPLICATES)

    @property
    def rare_groups(self) -> int:
        """Groups with rare images."""
        return len(np.unique(self.groups[self.labels == 1]))

    @cached_property
    def effective_groups(self) -> float:
        """How many equal groups would tell as much (see `certainty.effective`)."""
        return certainty.effective(self.labels, self.groups)

    @property
    def folds(self) -> int:
        """Outer folds."""
        return int(self.fold.max()) + 1

    def values(self, scores: np.ndarray, metric: str = METRIC) -> np.ndarray:
        """A metric of scores [R, N], as observed and under resampled groups: [R, 1 + B]."""
        known = scores[np.isfinite(scores).all(axis=1)]
        each = [
            metrics.weighted(metric, self.labels, row, self.groups, self.weights) for row in known
        ]
        return np.stack(each)

    @cached_property
    def levels(self) -> dict[str, np.ndarray]:
        """The metric of every candidate, [R, 1 + B]."""
        return {name: self.values(scores) for name, scores in self.outer.items()}

    @cached_property
    def guessing(self) -> np.ndarray:
        """The metric of random scores, [1, 1 + B]: a little above the share of rare images where
        these are few."""
        random = np.random.default_rng(0).random((GUESSES, len(self.labels)))
        return self.values(random).mean(axis=0, keepdims=True)

    def estimate(self, values: np.ndarray) -> dict[str, float]:
        """Mean over repeats of values [R, 1 + B], its interval over groups and repeats, and the
        standard error behind it."""
        resampled = over_draws(values[:, 1:])
        low, high = self.interval(resampled)
        error = resampled.std() * certainty.inflation(self.effective_groups, self.folds)
        return {
            "value": float(values[:, 0].mean()),
            "low": low,
            "high": high,
            "error": float(error),
        }

    def interval(self, resampled: np.ndarray) -> tuple[float, float]:
        """The interval behind resampled values [B]; NaN with fewer than two groups."""
        if self.rare_groups < 2:
            return math.nan, math.nan
        return certainty.interval(resampled, self.effective_groups, self.folds)

    def difference(self, one: str, other: str) -> np.ndarray:
        """The paired difference of two candidates in the repeats that both have, [r, 1 + B]."""
        both = min(len(self.levels[one]), len(self.levels[other]))
        return self.levels[one][:both] - self.levels[other][:both]


def gather(seen, candidates: Iterable[Candidate], fold: np.ndarray) -> Iterator[Evidence]:
    """Fit what the store does not hold; yields the evidence so far after every fit.

    seen: labels, groups, key and `of(takes)` (see `seen.Seen`). fold: of `folds.assign`. A
    candidate that cannot be fitted is left out with its reason.
    """
    repeats, n = fold.shape
    count = int(fold.max()) + 1
    evidence = Evidence(seen.labels, seen.groups, fold, {}, {}, {})
    for candidate in candidates:
        outer = np.full((repeats, n), np.nan)
        inner = np.full((repeats, count, n), np.nan)
        try:
            for repeat, held in _turns(candidate, repeats, count):
                out = np.isin(fold[repeat], held)
                scores = _scores(seen, candidate, np.flatnonzero(~out), np.flatnonzero(out))
                if len(held) == 1:
                    outer[repeat, out] = scores
                else:
                    _place(inner[repeat], fold[repeat], held, out, scores)
                yield evidence
        except StudyError as error:
            evidence.left_out[candidate.name] = str(error)
            continue
        evidence.outer[candidate.name] = outer
        if candidate.nested:
            evidence.inner[candidate.name] = inner
    yield evidence


def turns(candidates: Iterable[Candidate], repeats: int, count: int) -> int:
    """How many fits `gather` makes at most."""
    return sum(len(_turns(candidate, repeats, count)) for candidate in candidates)


def _turns(candidate: Candidate, repeats: int, count: int) -> list[tuple[int, tuple[int, ...]]]:
    held = [each for each in folds.held(count) if candidate.nested or len(each) == 1]
    return [
        (repeat, each) for repeat in range(repeats if candidate.repeated else 1) for each in held
    ]


def _place(inner: np.ndarray, fold: np.ndarray, held, out: np.ndarray, scores: np.ndarray) -> None:
    """Scores of two folds that were held out together: each counts where the other is scored."""
    whole = np.full(inner.shape[1], np.nan)
    whole[out] = scores
    for one, other in (held, held[::-1]):
        inner[one, fold == other] = whole[fold == other]


def _scores(seen, candidate: Candidate, rows: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Scores of images `scored` by the candidate fitted on `rows`, from the store or made now."""
    parts = hashlib.sha256(np.concatenate([rows, [-1], scored]).astype(np.int64).tobytes())
    params = {**seen.key, **candidate.params(), "rows": parts.hexdigest()}

    def build(folder):
        scores = candidate.scores(seen, rows, scored)
        if not np.isfinite(scores).all():
            raise StudyError(f"{candidate.name}: some scores are not finite")
        np.savez(folder / "scores.npz", scores=scores)

    with np.load(store.make("evidence", params, build) / "scores.npz", allow_pickle=False) as file:
        return file["scores"]


def simplest(values: dict[str, np.ndarray]) -> str:
    """The one-standard-error rule (Breiman et al. 1984): the first candidate, in the order given,
    that lies within one standard error of the best one's value. values: name -> [R, 1 + B].

    The error is that of the best value itself, not of the paired difference: with ten groups the
    latter is a small number that is hardly known.
    """
    best = max(values, key=lambda name: values[name][:, 0].mean())
    spread = values[best][:, 1:]
    error = over_draws(spread).std() if len(spread) > 1 else spread.std()
    enough = values[best][:, 0].mean() - error
    return next(name for name, value in values.items() if value[:, 0].mean() >= enough)


def procedure(evidence: Evidence, plain: str) -> tuple[np.ndarray, list[list[str]]]:
    """The metric [R, 1 + B] of the whole procedure, in each fold with the way that the other folds
    choose; and the names of those chosen, [R][K].

    Scores of different ways cannot be ranked together, and the metric of a fold alone is too good
    where rare images are few. So it is the level of the plain way, which nobody chose, and the mean
    over folds of what the chosen ways add to it there.
    """
    repeats, folds = len(evidence.fold), evidence.folds
    values, chosen = evidence.levels[plain].copy(), []
    for repeat in range(repeats):
        names = [_choice(evidence, repeat, k) for k in range(folds)]
        for k, name in enumerate(names):
            if name != plain:
                one, other = (_in_fold(evidence, each, repeat, k) for each in (name, plain))
                values[repeat] += (one - other) / folds
        chosen.append(names)
    return values.clip(0, 1), chosen


def _choice(evidence: Evidence, repeat: int, k: int) -> str:
    """The way that the folds other than k choose."""
    known, weights = evidence.fold[repeat] != k, evidence.weights[:, : 1 + CHOOSING]
    labels, groups = evidence.labels[known], evidence.groups[known]
    return simplest(
        {
            name: metrics.weighted(METRIC, labels, inner[repeat, k][known], groups, weights)[None]
            for name, inner in evidence.inner.items()
        }
    )


def _in_fold(evidence: Evidence, name: str, repeat: int, k: int) -> np.ndarray:
    """The metric of a way in one fold alone, [1 + B]."""
    out = evidence.fold[repeat] == k
    scores = evidence.outer[name][repeat, out]
    labels, groups = evidence.labels[out], evidence.groups[out]
    return metrics.weighted(METRIC, labels, scores, groups, evidence.weights)
