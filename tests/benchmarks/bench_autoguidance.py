"""The same cells of two tables, the second's pools sampled otherwise: what does PR-AUC change by?

    python tests/benchmarks/bench_autoguidance.py BEFORE/tables AFTER/tables --out TABLE

A row a classifier, arm and ratio that has a pool in both, over the draws that both have, intervals
over draws alone; one family. The shots alone must score the same in both.
"""

import argparse
from pathlib import Path

import pandas as pd

from fsl_utils import StudyError
from fsl_utils.analysis import contrasts, searches
from fsl_utils.analysis.tables import read_results
from fsl_utils.figures import style

SAME = ["domain", "rare_class", "n_real", "classifier", "arm", "ratio", "synthetic_weight", "draw"]


def compared(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Columns of `searches.compared`, a row a way; its `measure` is the way, as 'probe lora 4x'.

    before, after: as `read_results` gives cells. Raises StudyError where cells without a pool
    differ.
    """
    pairs = before.merge(after, on=SAME, suffixes=("_before", "_after"), validate="one_to_one")
    plain = pairs[pairs["base_after"] == ""]
    if (plain["cell_before"] != plain["cell_after"]).any():
        raise StudyError("cells without a pool differ: these tables are not of the same task")
    pooled = pairs[pairs["base_after"] != ""]
    ways = pooled["classifier"] + " " + pooled["arm"] + pooled["ratio"].map(" {:g}x".format)
    long = pd.concat(
        pd.DataFrame({"try": when, "way": ways, "draw": pairs["draw"], "pr_auc": pooled[column]})
        for when, column in (("before", "pr_auc_before"), ("after", "pr_auc_after"))
    )
    wide = long.pivot(index=["try", "draw"], columns="way", values="pr_auc").reset_index()
    wide = wide.sort_values("try", ascending=False)  # `before` is what is subtracted
    changes = searches.compared(wide, tuple(ways.unique())).drop(columns=["try", "p_holm"])
    return contrasts.family(changes.drop(columns="verdict").to_dict("records"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    changes = compared(*(read_results(folder)[0] for folder in (given.before, given.after)))
    style.save_table(given.out, changes)
    print(changes.to_string(index=False))
