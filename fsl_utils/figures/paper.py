"""The paper's table beside ours, and what of its pattern is threshold, leakage, or stays."""

import numpy as np
import pandas as pd

from fsl_utils.analysis import paper
from fsl_utils.figures import table, words

_SHOWN = ("holds", "does not")


def beside(rows: pd.DataFrame) -> table.Table:
    """A row a setting, a column a ratio: F1 at .5 / PR-AUC / recall at .5. rows: `paper.table`."""
    lines = []
    for _, part in rows.groupby(paper.ROW, sort=False, dropna=False):
        first = part.iloc[0]
        line = {"task": words.task(first), "split by": first["protocol"], "classifier": _who(first)}
        absent = "not at hand" if first["source"] == paper.PAPER else "not run"
        for ratio in paper.RATIOS:
            line[f"{ratio:g}x"] = _at(part, "lora" if ratio else "real", ratio) or absent
        alone = part[part["arm"] == "synth_only"]
        most = alone["ratio"].max()
        text = _at(part, "synth_only", most)
        lines.append(line | {"synthetic alone": f"{text} ({most:g}x)" if text else absent})
    foot = (
        "F1 at .5 / PR-AUC / recall at .5, mean over draws. The paper's (arXiv 2605.11898) are "
        "second hand; it has other shots and images, and FLUX.2 in place of mini: compare the "
        "pattern along a row, not rows. Prevalence differs too, and with it the level of PR-AUC."
    )
    return table.unmarked(pd.DataFrame(lines), foot)


def pattern(rows: pd.DataFrame) -> table.Table:
    """From 0x to 4x, a row a study, the paper's two first, a column a metric. rows: `paper.parted`.

    Bold by the one rule.
    """
    metrics = list(paper.PARTED.values())
    theirs = paper.reported().groupby("rare_class", sort=False)
    lines = [{"study": f"paper: {name}", **_reported(part)} for name, part in theirs]
    marks: list[dict] = [{} for _ in lines]
    same = ["domain", "rare_class", "protocol", "classifier", "n_real", "backbone", "base"]
    for _, part in rows.groupby(same, sort=False):
        first = part.iloc[0]
        named = f"{words.task(first)}, {words.classifier(first)}, {first['n_real']} shots"
        line = {"study": f"{named}, by {first['protocol']}", "draws": f"{first['n_draws']}"}
        records = {row["quantity"]: row for row in part.to_dict("records")}
        lines.append(line | {name: table.interval(row) for name, row in records.items()})
        marks.append({name: row["verdict"] in _SHOWN for name, row in records.items()})
    columns = ["study", "draws", *metrics]
    cells = pd.DataFrame(lines).reindex(columns=columns).fillna("")
    bold = pd.DataFrame(marks, cells.index).reindex(columns=columns)
    foot = f"lora at 4x minus real. {table.FOOT}"
    return table.Table(cells, bold.eq(True), foot)


def headline(rows: pd.DataFrame) -> str:
    """Where F1 at .5 rises most, what PR-AUC does there, and whether PR-AUC rises anywhere."""
    by_study = rows.set_index(["domain", "rare_class", "protocol", "classifier"])
    f1, pr_auc = (by_study[by_study["quantity"] == name] for name in ("F1 at .5", "PR-AUC"))
    most = f1["difference"].idxmax()
    shown = (pr_auc["verdict"] == "holds").sum()
    return (
        f"From 0x to 4x F1 at .5 rises in {(f1['difference'] > 0).sum()} of {len(f1)} studies, "
        f"most on {most[0]}: {most[1]} ({most[3]}, by {most[2]}), by "
        f"{table.number(f1.loc[most, 'difference'])}, where PR-AUC changes by "
        f"{table.number(pr_auc.loc[most, 'difference'])}. A rise of PR-AUC is shown in {shown} of "
        f"{len(pr_auc)}."
    )


def _reported(part: pd.DataFrame) -> dict[str, str]:
    """What the paper reports of 4x minus 0x, by metric."""
    by_ratio = part.set_index("ratio")
    change = by_ratio.loc[4, list(paper.PAPER_VALUES)] - by_ratio.loc[0, list(paper.PAPER_VALUES)]
    named = zip(("F1 at .5", "PR-AUC", "recall at .5"), change)
    return {name: table.number(float(value)) for name, value in named}


def _who(row: pd.Series) -> str:
    """The classifier of a row, and what else tells it apart."""
    if row["source"] == paper.PAPER:
        return f"paper: {row['classifier']}, ImageNet, five folds"
    if pd.isna(row["init"]):
        return row["classifier"]
    made = [row["backbone"], row["mode"]]
    told = [words.classifier(row), f"{row['n_real']:g} shots", *made, f"on {row['evaluated_on']}"]
    return ", ".join(filter(None, told))


def _at(part: pd.DataFrame, arm: str, ratio: float) -> str:
    row = part[(part["arm"] == arm) & (part["ratio"] == ratio)]
    if row.empty:
        return ""
    values = row.iloc[0][list(paper.PAPER_VALUES)].astype(float)
    return " / ".join(table.number(value, "") if np.isfinite(value) else "-" for value in values)
