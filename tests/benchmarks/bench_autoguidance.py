"""The same cells of several tables, the last's pools sampled otherwise: what changes PR-AUC?

    python tests/benchmarks/bench_autoguidance.py BEFORE/tables [...] AFTER/tables --out TABLE

A row a domain, classifier, arm and ratio that has a pool in both, over the draws that both have,
intervals over draws alone; one family a domain. The shots alone must score the same in both.
"""

import argparse
from pathlib import Path

import pandas as pd

from fsl_utils import StudyError
from fsl_utils.analysis import contrasts, searches
from fsl_utils.analysis.tables import read_results, read_several
from fsl_utils.figures import style

SAME = ["domain", "rare_class", "n_real", "classifier", "arm", "ratio", "synthetic_weight", "draw"]
WAY = ["classifier", "arm", "ratio"]


def compared(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Columns of `searches.compared`, and domain; its `measure` is the way, as 'probe lora 4x'.

    before, after: as `read_results` gives cells. Raises StudyError where cells without a pool
    differ.
    """
    pairs = before.merge(after, on=SAME, suffixes=("_before", "_after"), validate="one_to_one")
    plain = pairs["base_after"] == ""
    if (pairs["cell_before"] != pairs["cell_after"])[plain].any():
        raise StudyError("cells without a pool differ: these tables are not of the same task")
    pooled = pairs[~plain].groupby("domain")
    return pd.concat([_family(part).assign(domain=domain) for domain, part in pooled])


def _family(pairs: pd.DataFrame) -> pd.DataFrame:
    """The ways of one domain."""
    rows = []
    for (classifier, arm, ratio), part in pairs.groupby(WAY, sort=False):
        pair = part.set_index("draw")[["pr_auc_before", "pr_auc_after"]]
        measure = f"{classifier} {arm} {ratio:g}x"
        rows.append(searches.contrast(pair.sort_index()) | {"measure": measure})
    return contrasts.family(rows).drop(columns="try")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tables", nargs="+", type=Path, help="those without; the last: with")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    *without, with_it = given.tables
    changes = compared(read_several(without)[0], read_results(with_it)[0])
    style.save_table(given.out, changes)
    print(changes.to_string(index=False))
