"""What a grid says at its end: where the time went, the table, the answer, what to do next."""

from pathlib import Path

import pandas as pd

from fsl_utils.analysis import contrasts, ratios, resampling
from fsl_utils.analysis.tables import read_results, split_studies
from fsl_utils.study.progress import duration


def times(cost: pd.DataFrame, total: float) -> list[str]:
    """A line a stage of `publish.cost`, and one for all. `total`: seconds of the whole command."""
    lines = []
    for row in cost.itertuples():
        hits = f", {row.hits} of {row.things} results were in the store" if row.things else ""
        lines.append(
            f"{row.Index:8} {row.now} notebooks run, {row.before} were done; "
            f"{duration(row.seconds)}, {duration(row.cpu_seconds)} of processor time{hits}"
        )
    peak = cost["peak_memory"].max() if len(cost) else 0
    memory = f"; at most {peak / 2**30:.1f} GiB a notebook" if peak else ""
    return [*lines, f"time     {duration(total)} in all{memory}"]


def results(folder: Path, cells: pd.DataFrame) -> list[str]:
    """The table of arms by ratio."""
    published, scores = read_results(folder / "tables")
    table = ratios.ratio_table(published, scores)
    interval = [f"{r.pr_auc:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in table.itertuples()]
    shown = pd.DataFrame(
        {
            **{name: table[name] for name in ("domain", "classifier") if name in table},
            "arm": table["arm"],
            "ratio": table["ratio"].map("{:g}x".format),
            "PR-AUC [95 % interval]": interval,
            "recall": table["recall"].round(3),
            "F1": table["f1"].round(3),
            "draws": table["n_draws"],
        }
    )
    where, share = cells["evaluated_on"].iloc[0], cells["prevalence"].mean()
    head = f"On real {where} images (prevalence {share:.2f}); recall and F1 at .5:"
    unchecked = published.attrs.get("not_checkable", 0)
    note = [f"{unchecked} rows are not checkable against their keys"] * (unchecked > 0)
    return [head, "", *shown.to_string(index=False).splitlines(), *note, ""]


def answer(folder: Path) -> list[str]:
    """One sentence a study: what synthetic images changed against repeating the shots."""
    cells, scores = read_results(folder / "tables")
    lines = []
    for part in split_studies(cells):
        study = resampling.resample(part, scores)
        table = contrasts.against(study, "duplicate")
        arms = [arm for arm in ("lora_filtered", "lora") if len(table) and arm in set(table["arm"])]
        if not arms:
            continue
        row = table[table["arm"] == arms[0]].iloc[0]
        low, high = row["low"], row["high"]
        change = "raise" if low > 0 else "lower" if high < 0 else "are not shown to change"
        draws = "1 draw" if row["n_draws"] == 1 else f"{row['n_draws']} draws"
        tested = "" if pd.isna(row["p_holm"]) else f", p = {row['p_holm']:.3f} after Holm"
        lines.append(
            f"{study.setting['domain']} {study.setting['rare_class']}, "
            f"{study.setting['classifier']}: synthetic images ({row['arm']}, {row['ratio']:g}x) "
            f"{change} PR-AUC against the shots repeated: "
            f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}], {draws}{tested}."
        )
    return lines


def following(cells: pd.DataFrame, file: Path) -> list[str]:
    """The next command, as one line or two."""
    if cells["draw"].nunique() >= resampling.MIN_DRAWS:
        return ["Next: step through the figures: jupyter lab notebooks/06_paper_figures.ipynb"]
    return [
        f"Fewer than {resampling.MIN_DRAWS} draws illustrate and test nothing; "
        "the study's answer is in results/study1/findings.md.",
        f"Next: more draws in a copy of {file}, and what they cost: fsl grid COPY.yaml --dry-run",
    ]
