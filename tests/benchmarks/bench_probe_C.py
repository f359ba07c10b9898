"""Would another C have made the probe better? `python tests/benchmarks/bench_probe_C.py GRID OUT`

For every draw of a grid file that scores `real` with the probe: PR-AUC with each fixed C, and with
the C that cross-validation on the shots chooses by log loss (as the probe does), by AUROC and by
average precision. Prints means over draws and writes a CSV: domain, rare_class, n_real, draw,
evaluated_on, rule, C, pr_auc. A fixed C on test images is hindsight: it says what a free change of
the baseline could have given, and chooses nothing.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from fsl_utils import store
from fsl_utils.classifier import classifiers, plan, probe
from fsl_utils.classifier.material import Material
from fsl_utils.classifier.training import TrainingSet, balance
from fsl_utils.data import partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.study import grid

FIXED = [*probe.SETTINGS["C"], 30.0, 100.0, 1000.0]
RANKINGS = {"AUROC": roc_auc_score, "average precision": average_precision_score}


def runs_of(path: Path) -> list[dict]:
    """The grid's runs of the probe with `real`, each draw once."""
    found = {}
    for run in grid.read(path)[1]:
        if run["classifier"] == "probe" and "real" in run["arms"]:
            key = tuple(run[name] for name in (*grid.TASK, "n_real", "draw", "classifier_size"))
            found.setdefault(key, run)
    return list(found.values())


def ranked(training: TrainingSet, metric) -> float:
    """The C of the probe's range with the best mean metric over held-out groups, as
    `probe.choose_C` holds them out; the smallest of several."""
    z, labels = probe.scaler(training.inputs)(training.inputs), training.labels
    counts = [len(np.unique(training.groups[labels == label])) for label in (0, 1)]
    folds = StratifiedGroupKFold(min(probe.SETTINGS["folds"], *counts))
    total = dict.fromkeys(probe.SETTINGS["C"], 0.0)
    for train, held in folds.split(z, labels, training.groups):
        if min(np.unique(labels[rows]).size for rows in (train, held)) == 2:
            weights = balance(labels[train], np.ones(len(train)))
            for C in total:
                model = probe.regression(z[train], labels[train], weights, C)
                total[C] += metric(labels[held], model.decision_function(z[held]))
    return max(total, key=total.__getitem__)


def scored(run: dict) -> list[dict]:
    """A row a fixed C, and one a rule."""
    domain, p = grid.task(run), SimpleNamespace(**run | {"arms": ["real"]})
    task = FewShotTask(domain, partitions.draw(domain.table, p.draw, p.n_real))
    (cell,), kind = plan.cells(task, p), classifiers.get("probe")
    material = Material(task, p, [cell], "cpu").through(kind.view(cell.size))
    training, rows = kind.training(cell, material), material.evaluated
    if p.evaluate_on != "validation":
        rows = rows[domain.table["partition"].to_numpy()[rows] == "test"]
    seen, labels = material.real()[rows], task.draw.labels[rows]
    level = {C: average_precision_score(labels, probe.fit(training, C).score(seen)) for C in FIXED}
    chosen = {"log loss": probe.fit(training).C}
    chosen |= {rule: ranked(training, metric) for rule, metric in RANKINGS.items()}
    known = {
        "domain": domain.name,
        "rare_class": domain.rare_class,
        "n_real": p.n_real,
        "draw": p.draw,
        "evaluated_on": p.evaluate_on,
    }
    rules = [("fixed", C) for C in FIXED] + list(chosen.items())
    return [known | {"rule": rule, "C": C, "pr_auc": level[C]} for rule, C in rules]


def main(path: Path, out: Path) -> None:
    table = pd.DataFrame([row for run in runs_of(path) for row in scored(run)])
    store.write_text(out, table.to_csv(index=False, lineterminator="\n"))
    by = ["domain", "n_real", "evaluated_on"]
    fixed = table["rule"] == "fixed"
    for part, column in ((table[fixed], "C"), (table[~fixed], "rule")):
        print(part.groupby([*by, column])["pr_auc"].mean().unstack(column).round(3).to_string())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
