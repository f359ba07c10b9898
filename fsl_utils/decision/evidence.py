"""Nested cross-validation by groups over all of the data: what is chosen is not what is scored.

Each candidate is fitted without each fold, and without each pair of folds. Without fold k it scores
k. Without j and k it scores j for the choice that is then scored on k.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from fsl_utils import StudyError, metrics, store
from fsl_utils.analysis.resampling import REPLICATES, group_weights, interval, over_draws
from fsl_utils.decision import folds
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
        low, high = interval(resampled, self.rare_groups)
        return {
            "value": float(values[:, 0].mean()),
            "low": low,
            "high": high,
            "error": float(resampled.std()),
        }

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
    """The one-standard-error rule: the first candidate, in the order given, that lies within one
    standard error of the paired difference from the best. values: name -> [R, 1 + B]."""
    best = max(values, key=lambda name: values[name][:, 0].mean())
    for name, value in values.items():
        both = min(len(value), len(values[best]))
        behind = values[best][:both] - value[:both]
        error = over_draws(behind[:, 1:]).std() if both > 1 else behind[0, 1:].std()
        if behind[:, 0].mean() <= error:
            return name
    return best


def procedure(evidence: Evidence) -> tuple[np.ndarray, list[list[str]]]:
    """Scores [R, N] of the whole procedure: in each fold of the candidate that the other folds
    choose; and the names of those chosen, [R][K].

    Different candidates have different scales: each is brought to a probability by a logistic fit
    on the scores of the other folds.
    """
    repeats, n = evidence.fold.shape
    scores, chosen = np.empty((repeats, n)), []
    weights = evidence.weights[:, : 1 + CHOOSING]
    for repeat in range(repeats):
        names = []
        for k in range(int(evidence.fold[repeat].max()) + 1):
            out = evidence.fold[repeat] == k
            values = {}
            for name, inner in evidence.inner.items():
                label, group = evidence.labels[~out], evidence.groups[~out]
                value = metrics.weighted(METRIC, label, inner[repeat, k][~out], group, weights)
                values[name] = value[None]
            name = simplest(values)
            known = evidence.inner[name][repeat, k][~out]
            scores[repeat, out] = calibrated(
                known, evidence.labels[~out], evidence.outer[name][repeat, out]
            )
            names.append(name)
        chosen.append(names)
    return scores, chosen


def calibrated(known: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """`scores` [M] in 0..1 as probabilities, by a logistic fit of `labels` on `known` scores [N]
    (Platt 1999). The order stays."""
    model = LogisticRegression().fit(_logit(known), labels)
    if not model.coef_[0, 0] > 0:  # known scores that point the wrong way are no scale
        return scores
    return model.predict_proba(_logit(scores))[:, 1]


def _logit(scores: np.ndarray) -> np.ndarray:
    return logit(np.clip(scores, 1e-9, 1 - 1e-9))[:, None]
