"""Would another C have made the probe better? `python tests/benchmarks/bench_probe_C.py GRID [OUT]`

The probe chooses C by cross-validation on the shots. For every draw of a grid file that scores
`real` with the probe this scores it with each fixed C too, and writes a CSV: domain, rare_class,
n_real, draw, evaluated_on, C (0: chosen), pr_auc. Fixed C on test images is hindsight: it says what
a free change of the baseline could have given, and chooses nothing.
"""

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from fsl_utils import store
from fsl_utils.classifier import cells, probe
from fsl_utils.data import partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.study import grid

FIXED = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0]
CHOSEN = probe.SETTINGS["C"]


def runs_of(path: Path) -> list[dict]:
    """The grid's runs of the probe with `real`, each draw once."""
    found = {}
    for run in grid.read(path)[1]:
        if run["classifier"] == "probe" and "real" in run["arms"]:
            key = tuple(run[name] for name in (*grid.TASK, "n_real", "draw", "classifier_size"))
            found.setdefault(key, run)
    return list(found.values())


def scored(run: dict) -> list[dict]:
    """A row a C."""
    domain = grid.task(run)
    task = FewShotTask(domain, partitions.draw(domain.table, run["draw"], run["n_real"]))
    rows = []
    for C in (0.0, *FIXED):
        probe.SETTINGS["C"] = [C] if C else CHOSEN
        probe._chosen.clear()
        (row,) = cells.run(task, SimpleNamespace(**run | {"arms": ["real"]}))
        rows.append({name: row[name] for name in KEPT} | {"C": C, "pr_auc": row["pr_auc"]})
    return rows


KEPT = ("domain", "rare_class", "n_real", "draw", "evaluated_on")


def main(path: Path, out: Path) -> None:
    table = pd.DataFrame([row for run in runs_of(path) for row in scored(run)])
    store.write_text(out, table.to_csv(index=False, lineterminator="\n"))
    means = table.groupby(["domain", "n_real", "evaluated_on", "C"])["pr_auc"].mean()
    print(means.unstack("C").round(3).to_string())


if __name__ == "__main__":
    default = Path(tempfile.gettempdir()) / "probe_C.csv"
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else default)
