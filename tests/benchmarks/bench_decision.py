"""Does a decision hold outside? Halves of ELPV's development groups, each as if a user had it.

    python tests/benchmarks/bench_decision.py --halves 5 --out results/decision

Halves are of whole groups, the same share of every stratum (cell type and share of defects). Of one
half RARE rare images are kept, with common ones at the prevalence of the whole, and decided on with
free ways alone. The other half says what every way is worth on groups that it never saw: all of its
images, weighted as if they had been thinned in the same way.
Writes OUT.csv (one row a half and way) and the tables of OUT.md.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from fsl_utils.data import domains, partitions
from fsl_utils.decision import candidates, intake, run
from fsl_utils.decision.candidates import at
from fsl_utils.decision.seen import Seen

RARE = 60
TOLERANCE = 0.01  # of PR-AUC


def halves(table: pd.DataFrame, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the user's images and of all images outside; whole groups, split within strata."""
    rng = partitions.generator("half", number)
    chosen = partitions.pick(table.groupby("group")["stratum"].first(), 0.5, rng)
    inside = table["group"].isin(chosen).to_numpy()
    return thinned(table, inside, rng), np.flatnonzero(~inside)


def thinned(table: pd.DataFrame, where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """RARE rare rows and common ones at the whole's prevalence, each spread over groups."""
    labels, groups = table["label"].to_numpy(), table["group"].to_numpy()
    numbers = {1: RARE, 0: round(RARE * (labels == 0).sum() / labels.sum())}
    kept = [
        partitions.spread(np.flatnonzero(where & (labels == label)), groups, rng)[:n]
        for label, n in numbers.items()
    ]
    return np.sort(np.concatenate(kept))


def shares(table: pd.DataFrame, rows: np.ndarray, number: int) -> np.ndarray:
    """The share of each image of `rows` that `thinned` would keep, by its group and class."""
    where = np.zeros(len(table), bool)
    where[rows] = True
    cell = table["group"] + table["label"].astype(str)
    kept = thinned(table, where, partitions.generator("outside", number))
    kept = cell.iloc[kept].value_counts()
    have = cell.iloc[rows].value_counts()
    return cell.iloc[rows].map(kept / have).fillna(0).to_numpy()


def one(whole, seen: Seen, number: int) -> list[dict]:
    """Every way inside and outside, in one half."""
    rows, outside = halves(whole.table, number)
    table = whole.table.iloc[rows].reset_index(drop=True)
    taken = intake.of_table("elpv", whole.rare_class, whole.common_class, table, [])
    decision = run.decide(taken, quick=True)
    answer, every = decision.answer, np.arange(len(rows))
    truth, found = seen.labels[outside], []
    even = shares(whole.table, outside, number)
    for row in answer.table:
        way = candidates.get(row["name"])
        scores = way.fit(decision.seen, every).score(at(seen.of(way.takes), outside))
        worth = average_precision_score(truth, scores, sample_weight=even)
        found.append(
            {
                "half": number,
                "way": way.name,
                "chosen": row["chosen"],
                "inside": row["value"],
                "low": row["low"],
                "high": row["high"],
                "outside": worth,
                "nested": answer.score["value"],
                "nested_low": answer.score["low"],
                "nested_high": answer.score["high"],
                "verdict": answer.verdict,
                "rare": taken.counts["rare"],
                "rare_groups": taken.counts["rare_groups"],
                "outside_rare": int(truth.sum()),
                "detectable": answer.detectable,
            }
        )
    return found


def tables(frame: pd.DataFrame) -> str:
    """The tables and counts of OUT.md."""
    lines = [
        "| half | verdict | chosen | nested PR-AUC | outside | best way outside | its PR-AUC |",
        "|---|---|---|---|---|---|---|",
    ]
    near = held = 0
    for number, part in frame.groupby("half"):
        chosen, best = part[part["chosen"]].iloc[0], part.loc[part["outside"].idxmax()]
        near += best["outside"] - chosen["outside"] <= TOLERANCE
        held += chosen["nested_low"] <= chosen["outside"] <= chosen["nested_high"]
        lines.append(
            f"| {number} | {chosen['verdict']} | `{chosen['way']}` | {chosen['nested']:.3f} "
            f"[{chosen['nested_low']:.3f}, {chosen['nested_high']:.3f}] | {chosen['outside']:.3f} "
            f"| `{best['way']}` | {best['outside']:.3f} |"
        )
    n = frame["half"].nunique()
    every = (frame["low"] <= frame["outside"]) & (frame["outside"] <= frame["high"])
    lines += [
        "",
        f"- The way that was chosen lies within {TOLERANCE} of the best outside in {near} of {n} "
        "halves.",
        f"- The interval of the nested score holds the chosen way's score outside in {held} of "
        f"{n}.",
        f"- The interval of a way holds its own score outside in {every.sum()} of {len(frame)}.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--halves", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/decision"))
    arguments = parser.parse_args()
    elpv = domains.load("elpv")
    table = elpv.table[elpv.table["partition"] == "development"].reset_index(drop=True)
    whole = domains.Domain("elpv", elpv.rare_class, elpv.common_class, "group", table)
    seen, rows = Seen(whole, 128), []
    for number in range(arguments.halves):
        rows += one(whole, seen, number)
        frame = pd.DataFrame(rows)
        frame.to_csv(arguments.out.with_suffix(".csv"), index=False, float_format="%.6g")
        print(tables(frame), flush=True)


if __name__ == "__main__":
    main()
