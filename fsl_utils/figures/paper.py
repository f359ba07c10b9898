"""The paper's table beside ours, and what of its pattern is threshold, leakage, or stays."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fsl_utils.analysis import claims, contrasts, paper
from fsl_utils.figures import results, style, table, words

SPLITS = {"group": style.BLUE, "image": style.RED}
_SAME = ["domain", "rare_class", "protocol", "classifier", "n_real", "backbone", "base"]


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
    lines = [
        {"study": f"paper: {name}"} | {key: table.number(v) for key, v in _change(part).items()}
        for name, part in theirs
    ]
    marks: list[dict] = [{} for _ in lines]
    for _, part in rows.groupby(_SAME, sort=False):
        first = part.iloc[0]
        line = {"study": _named(first), "draws": f"{first['n_draws']}"}
        records = {row["quantity"]: row for row in part.to_dict("records")}
        lines.append(line | {name: table.interval(row) for name, row in records.items()})
        marks.append({name: row["verdict"] in claims.SHOWN for name, row in records.items()})
    columns = ["study", "draws", *metrics]
    cells = pd.DataFrame(lines).reindex(columns=columns).fillna("")
    bold = pd.DataFrame(marks, cells.index).reindex(columns=columns)
    foot = f"lora at 4x minus real. {table.FOOT}"
    return table.Table(cells, bold.eq(True), foot)


def figure(rows: pd.DataFrame) -> Figure:
    """The same from 0x to 4x as a figure: a panel a metric, the paper's values as crosses, ours
    with their intervals, filled by the one rule. rows: `paper.parted`."""
    metrics = list(paper.PARTED.values())
    theirs = {
        f"paper: {name}": _change(part) for name, part in paper.reported().groupby("rare_class")
    }
    ours = {_named(part.iloc[0]): part for _, part in rows.groupby(_SAME, sort=False)}
    studies = [*theirs, *ours]
    shown, axes = style.small_multiples(
        metrics, 0.17 * len(studies) + 0.3, 4, sharex=True, sharey=True
    )
    for axis, metric in zip(axes, metrics):
        for study, changes in theirs.items():
            if metric in changes:
                axis.plot(changes[metric], studies.index(study), "x", color=style.BLACK)
        for study, part in ours.items():
            for row in part[part["quantity"] == metric].to_dict("records"):
                results.difference(axis, row, studies.index(study), SPLITS[row["protocol"]], "o")
        axis.axvline(0, color="0.3", linewidth=0.7)
        axis.set_yticks(range(len(studies)), studies)
        axis.set_ylim(len(studies) - 0.4, -0.6)
    shown.supxlabel(
        "lora at 4x minus real; cross: as the paper reports it; red: split by image\n"
        f"({words.FILLED})",
        fontsize=7,
    )
    return shown


def splits(rows: pd.DataFrame) -> Figure:
    """What each arm adds to `real`, a panel a task and classifier, a row an arm and ratio, blue by
    group, red by image. rows: of `paper.added`. Filled by the one rule."""
    parts = dict(list(rows.groupby([rows.apply(words.task, axis=1), "classifier", "n_draws"])))
    titles = [f"{task}\n{who}, {n} draw{'s' * (n > 1)} of five folds" for task, who, n in parts]
    arms = list(dict.fromkeys(words.arm(row) for row in rows.to_dict("records")))
    figure, axes = style.small_multiples(titles, 0.2 * len(arms) + 0.3, 2, sharex=True, sharey=True)
    for axis, part in zip(axes, parts.values()):
        for row in part.to_dict("records"):
            shift = 0.15 if row["protocol"] == "image" else -0.15
            at = arms.index(words.arm(row)) + shift
            results.difference(axis, row, at, SPLITS[row["protocol"]], "o")
        axis.axvline(0, color="0.3", linewidth=0.7)
        axis.set_yticks(range(len(arms)), arms)
        axis.set_ylim(len(arms) - 0.4, -0.6)
    handles = [plt.Line2D([], [], color=colour, marker="o") for colour in SPLITS.values()]
    style.legend(
        figure,
        handles,
        [f"split by {name}" for name in SPLITS],
        f"PR-AUC minus real\n({words.FILLED})",
    )
    return figure


def added(rows: pd.DataFrame) -> table.Table:
    """What each arm adds to `real`, a column a split. rows: of `paper.added`. Bold by the one
    rule."""
    lines, marks = [], []
    for (task, classifier), part in rows.groupby([rows.apply(words.task, axis=1), "classifier"]):
        named = {"task": task, "classifier": classifier}
        real = part.drop_duplicates("protocol").set_index("protocol")["control_level"]
        levels = {f"by {name}": table.number(level, "") for name, level in real.items()}
        lines.append(named | {"arm": "real"} | levels)
        marks.append({})
        for (arm, ratio), pair in part.groupby(["arm", "ratio"]):
            records = {f"by {row['protocol']}": row for row in pair.to_dict("records")}
            told = {split: table.interval(row) for split, row in records.items()}
            lines.append(named | {"arm": f"{arm} {ratio:g}x"} | told)
            marks.append({s: row["verdict"] in contrasts.SHOWN for s, row in records.items()})
    cells = pd.DataFrame(lines).fillna("")
    bold = pd.DataFrame(marks, cells.index).reindex(columns=cells.columns)
    foot = f"real: its PR-AUC; every other arm: minus real. {table.FOOT}"
    return table.Table(cells, bold.eq(True), foot)


def _named(row: pd.Series) -> str:
    """A study in words."""
    named = f"{words.task(row)}, {words.classifier(row)}, {row['n_real']} shots"
    return f"{named}, by {row['protocol']}"


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


def _change(part: pd.DataFrame) -> dict[str, float]:
    """What the paper reports of 4x minus 0x, by metric."""
    by_ratio = part.set_index("ratio")
    change = by_ratio.loc[4, list(paper.PAPER_VALUES)] - by_ratio.loc[0, list(paper.PAPER_VALUES)]
    return dict(zip(("F1 at .5", "PR-AUC", "recall at .5"), map(float, change)))


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
