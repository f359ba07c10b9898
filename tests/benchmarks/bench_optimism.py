"""Is a cross-validated score too good or too bad? Halves of development groups, each in both roles.

    python tests/benchmarks/bench_optimism.py --halves 40

Each half, thinned as in `bench_decision`, is scored by cross-validation within it, and by the other
half when trained on all of it. A ridge regression on the probe's features stands for the ways: it
takes milliseconds, so that many halves can be looked at.
Prints a table row a domain.
"""

import argparse

import numpy as np
from bench_decision import DOMAINS, development, halves, thinned
from sklearn.metrics import average_precision_score

from fsl_utils.data import partitions
from fsl_utils.decision import folds
from fsl_utils.decision.seen import Seen

RIDGE = 0.01  # of the mean squared length of a feature vector, times the number of images
REPEATS = 2


def kernel(features: np.ndarray) -> np.ndarray:
    """Inner products of standardised features and a constant, [N, N]."""
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    return scaled @ scaled.T / scaled.shape[1] + 1.0


def fitted(products: np.ndarray, labels: np.ndarray, known: np.ndarray, scored: np.ndarray):
    """Scores of images `scored` by a ridge regression on images `known`, classes balanced."""
    y = labels[known]
    weights = np.where(y == 1, 0.5 / (y == 1).sum(), 0.5 / (y == 0).sum()) * len(y)
    inside = products[np.ix_(known, known)] + RIDGE * len(y) * np.diag(1 / weights)
    return products[np.ix_(scored, known)] @ np.linalg.solve(inside, np.where(y == 1, 1.0, -1.0))


def cross_validated(products: np.ndarray, seen: Seen, rows: np.ndarray) -> float:
    """PR-AUC of pooled out-of-fold scores, mean over repeats."""
    labels, values = seen.labels[rows], []
    for fold in folds.assign(labels, seen.groups[rows], REPEATS):
        scores = np.empty(len(rows))
        for k in np.unique(fold):
            scores[fold == k] = fitted(products, seen.labels, rows[fold != k], rows[fold == k])
        values.append(average_precision_score(labels, scores))
    return float(np.mean(values))


def compared(name: str, count: int) -> np.ndarray:
    """Cross-validated within a half, and outside it, [2 * count, 2]."""
    whole, found = development(name), []
    seen = Seen(whole, 128)
    products = kernel(seen.of("pooled").astype(float))
    for number in range(count):
        one, outside = halves(whole.table, number)
        where = np.isin(np.arange(len(whole.table)), outside)
        other = thinned(whole.table, where, partitions.generator("other", number))
        for known, scored in ((one, other), (other, one)):
            scores = fitted(products, seen.labels, known, scored)
            worth = average_precision_score(seen.labels[scored], scores)
            found.append((cross_validated(products, seen, known), worth))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--domains", default=DOMAINS, help=f"default: {DOMAINS}")
    parser.add_argument("--halves", type=int, default=40)
    arguments = parser.parse_args()
    print("| domain | cross-validated (sd) | outside (sd) | outside minus inside (sd) | r |")
    print("|---|---|---|---|---|")
    for name in arguments.domains.split(","):
        inside, outside = compared(name, arguments.halves).T
        cells = [f"{x.mean():.3f} ({x.std():.3f})" for x in (inside, outside, outside - inside)]
        r = np.corrcoef(inside, outside)[0, 1]
        print(f"| {name} | {' | '.join(cells)} | {r:+.2f} |", flush=True)


if __name__ == "__main__":
    main()
