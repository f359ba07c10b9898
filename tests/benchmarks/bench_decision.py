"""Does a decision hold outside? Halves of a domain's development groups, as if a user had one.

    python tests/benchmarks/bench_decision.py --halves 5 --out results/decision

Halves are of whole groups, the same share of every stratum. Of one half at most RARE rare images
are kept, with common ones at the prevalence of the whole, and decided on with free ways alone. The
other half says what every way is worth on groups that it never saw: all of its images, weighted as
if they had been thinned in the same way.
Writes OUT.csv (one row a half and way) after every half, the first half of each domain first, and
goes on from it; prints the tables of OUT.md. Test partitions stay shut.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from fsl_utils import metrics, store
from fsl_utils.data import domains, partitions
from fsl_utils.data.domains import Domain
from fsl_utils.decision import candidates, intake, run
from fsl_utils.decision.candidates import at
from fsl_utils.decision.seen import Seen

DOMAINS = "elpv,magnetic_tile,chestxray14,pv_cracks"
RARE = 60
TOLERANCE = 0.01  # of PR-AUC
REPLICATES = 500  # of the groups outside


def development(name: str) -> Domain:
    """The development images of a domain, as all that there is."""
    whole = domains.load(name)
    table = whole.table[whole.table["partition"] == "development"].reset_index(drop=True)
    return Domain(name, whole.rare_class, whole.common_class, "group", table)


def halves(table: pd.DataFrame, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the user's images and of all images outside; whole groups, split within strata."""
    rng = partitions.generator("half", number)
    chosen = partitions.pick(table.groupby("group")["stratum"].first(), 0.5, rng)
    inside = table["group"].isin(chosen).to_numpy()
    return thinned(table, inside, rng), np.flatnonzero(~inside)


def thinned(table: pd.DataFrame, where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """RARE rare rows, or all where there are fewer, and common ones at the whole's prevalence,
    each spread over groups."""
    labels, groups = table["label"].to_numpy(), table["group"].to_numpy()
    rare = min(RARE, int(labels[where].sum()))
    numbers = {1: rare, 0: round(rare * (labels == 0).sum() / labels.sum())}
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


def one(whole: Domain, seen: Seen, number: int) -> list[dict]:
    """Every way inside and outside, in one half."""
    rows, outside = halves(whole.table, number)
    table = whole.table.iloc[rows].reset_index(drop=True)
    taken = intake.of_table(whole.name, whole.rare_class, whole.common_class, table, [])
    decision = run.decide(taken, quick=True)
    answer, every = decision.answer, np.arange(len(rows))
    ways = [candidates.get(row["name"]) for row in answer.table]
    scores = [way.fit(decision.seen, every).score(at(seen.of(way.takes), outside)) for way in ways]
    worth = worths(whole.table, outside, scores, number)
    shared = {
        "domain": whole.name,
        "half": number,
        "nested": answer.score["value"],
        "nested_low": answer.score["low"],
        "nested_high": answer.score["high"],
        "verdict": answer.verdict,
        "images": taken.counts["images"],
        "rare": taken.counts["rare"],
        "rare_groups": taken.counts["rare_groups"],
        "effective_groups": decision.evidence.effective_groups,
        "outside_rare": int(seen.labels[outside].sum()),
        "outside_groups": whole.table.iloc[outside].query("label == 1")["group"].nunique(),
        "detectable": answer.detectable,
        "no_skill": answer.no_skill,
    } | by_chance(worth, [row["chosen"] for row in answer.table].index(True))
    return [
        shared
        | {
            "way": row["name"],
            "chosen": row["chosen"],
            "inside": row["value"],
            "low": row["low"],
            "high": row["high"],
            "outside": value,
        }
        for row, value in zip(answer.table, worth[:, 0])
    ]


def worths(table: pd.DataFrame, outside: np.ndarray, scores: list, number: int) -> np.ndarray:
    """PR-AUC outside of each way's scores, as observed and under resampled groups, [W, 1 + B]."""
    table, even = table.iloc[outside], shares(table, outside, number)
    groups = np.unique(table["group"], return_inverse=True)[1]
    weights = even[:, None] * metrics.group_weights(groups.max() + 1, REPLICATES)[groups]
    labels, each = table["label"].to_numpy(), np.arange(len(table))
    return np.stack([metrics.weighted("pr_auc", labels, row, each, weights) for row in scores])


def by_chance(worth: np.ndarray, chosen: int) -> dict[str, float]:
    """How far the yardstick alone would put the chosen way below the best, were all ways equal.

    worth: of `worths`. chance_regret: mean over replicates of what it loses to the best by the
    groups outside that there happen to be; chance_near: how often at most TOLERANCE.
    """
    noise = worth[:, 1:] - worth[:, :1]
    regret = noise.max(axis=0) - noise[chosen]
    return {"chance_regret": regret.mean(), "chance_near": (regret <= TOLERANCE).mean()}


def tables(frame: pd.DataFrame) -> str:
    """The tables and counts of OUT.md."""
    lines = [
        "| domain | half | verdict | chosen | nested PR-AUC | outside | best outside | its own |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (domain, number), part in frame.groupby(["domain", "half"], sort=False):
        row, best = part[part["chosen"]].iloc[0], part.loc[part["outside"].idxmax()]
        lines.append(
            f"| {domain} | {number} | {row['verdict']} | `{row['way']}` | {row['nested']:.3f} "
            f"[{row['nested_low']:.3f}, {row['nested_high']:.3f}] | {row['outside']:.3f} "
            f"| `{best['way']}` | {best['outside']:.3f} |"
        )
    return "\n".join([*lines, "", *summary(frame)])


def summary(frame: pd.DataFrame) -> list[str]:
    """A row a domain: how often near the best, what is lost to it, how often an interval holds."""
    best = frame.groupby(["domain", "half"])["outside"].transform("max")
    frame = frame.assign(
        regret=best - frame["outside"],
        held=frame["outside"].between(frame["nested_low"], frame["nested_high"]),
        way_held=frame["outside"].between(frame["low"], frame["high"]),
    )
    lines = [
        "| domain | halves | near the best | by chance | regret: mean, worst | by chance "
        "| regret of always `probe` | nested interval holds | ways' intervals hold |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    parts = [*frame.groupby("domain", sort=False), ("all", frame)]
    for domain, part in parts:
        taken, n = part[part["chosen"]], int(part["chosen"].sum())
        probe = part.loc[part["way"] == "probe", "regret"]
        lines.append(
            f"| {domain} | {n} | {(taken['regret'] <= TOLERANCE).sum()} "
            f"| {taken['chance_near'].sum():.1f} "
            f"| {taken['regret'].mean():.3f}, {taken['regret'].max():.3f} "
            f"| {taken['chance_regret'].mean():.3f} | {probe.mean():.3f}, {probe.max():.3f} "
            f"| {taken['held'].sum()} | {part['way_held'].sum()} of {len(part)} |"
        )
    mean = frame.groupby("way")["regret"].agg(["mean", "max"]).sort_values("mean")
    lines += ["", "Regret of always taking one way: "]
    lines += [
        f"- `{way}`: {row['mean']:.3f}, worst {row['max']:.3f}" for way, row in mean.iterrows()
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--domains", default=DOMAINS, help=f"default: {DOMAINS}")
    parser.add_argument("--halves", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/decision"))
    arguments = parser.parse_args()
    path = arguments.out.with_suffix(".csv")
    frame = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["domain", "half"])
    done = set(zip(frame["domain"], frame["half"]))
    seen = {name: Seen(development(name), 128) for name in arguments.domains.split(",")}
    for number in range(arguments.halves):
        for name, images in seen.items():
            if (name, number) in done:
                continue
            rows = pd.DataFrame(one(images.domain, images, number))
            frame = pd.concat([frame, rows]) if len(frame) else rows
            store.write_text(path, frame.to_csv(index=False, float_format="%.6g"))
            print(tables(frame), flush=True)


if __name__ == "__main__":
    main()
