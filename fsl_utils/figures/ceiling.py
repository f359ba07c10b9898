"""What of the ceiling is reached, as a page. rows: of `analysis.ceiling`, of all tasks."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fsl_utils.analysis.ceiling import CEILING_ROLE, FREE, GOAL, ROLES, SYNTHETIC, told_of
from fsl_utils.figures import result_tables, results, style, table, words

INTRODUCTION = """Each role takes any classifier, arm, weight and ratio that it may. In every draw
and fold a few validation images choose, and other images score: neither hindsight nor a test image
chooses. Share: of what the ceiling gains over the shots alone; none where the ceiling's whole
interval is not above zero."""
LOOKS = dict(zip(ROLES, [(style.BLACK, "o"), (style.BLUE, "s"), (style.RED, "^"), ("0.45", "D")]))


def page(
    shares: pd.DataFrame, rivals: pd.DataFrame, best: pd.DataFrame, worth: pd.DataFrame
) -> str:
    """The whole page in Markdown."""
    parts = [
        "# How much of the ceiling is reached",
        f"**{headline(shares, rivals, worth['most'].max())}**",
        "; ".join(f"*{role}*: {meaning}" for role, meaning in ROLES.items()) + ".",
        INTRODUCTION,
        shares["caution"].iloc[0],
        "![every role minus the shots alone](shares.png)",
        reached(shares).markdown(),
        "## What validation chose",
        choices(shares).markdown(),
        "## Synthetic minus free",
        beside(rivals).markdown(),
        "## The best of each in hindsight, which flatters: nobody can choose so",
        hindsight(best).markdown(),
        "## Every arm, by classifier: exploration",
        "![every arm minus real](gains.png)",
        "## What an arm is worth in further real images",
        result_tables.worth(worth).markdown(),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def headline(shares: pd.DataFrame, rivals: pd.DataFrame, further: float) -> str:
    """In how many tasks there is room, how many reach GOAL, and how many beat what is free.

    further: real images of the ceiling beside the shots.
    """
    synthetic = shares[shares["arm"] == SYNTHETIC]
    room, reach = synthetic["share"].notna().sum(), (synthetic["share"] >= GOAL).sum()
    above = (rivals["low"] > 0).sum()
    return (
        f"Of {len(synthetic)} tasks {further:.0f} further real images help in {room}, by their "
        f"whole interval. Synthetic images reach {GOAL:.0%} of that in {reach}, and stand above "
        f"what is free in {above}, by its whole interval."
    )


def reached(shares: pd.DataFrame) -> table.Table:
    """A row a task, a column a role: minus the shots, then the share. Bold where shown."""
    lines, marks = [], []
    for _, part in shares.groupby(_task(shares), sort=False):
        first, by_role = part.iloc[0], {row["arm"]: row for row in part.to_dict("records")}
        told = {role: f"{table.interval(row)}{_share(row)}" for role, row in by_role.items()}
        shots = table.number(first["control_level"], "")
        lines.append({"task": words.task(first), "shots alone": shots} | told)
        marks.append({role: row["verdict"] in ("better", "worse") for role, row in by_role.items()})
    cells = pd.DataFrame(lines).fillna("")
    bold = pd.DataFrame(marks, cells.index).reindex(columns=cells.columns).eq(True)
    foot = f"PR-AUC minus that of the shots alone; after it the share. {table.FOOT}"
    return table.Table(cells, bold, foot)


def _task(rows: pd.DataFrame) -> list[pd.Series]:
    return [rows.apply(words.task, axis=1), rows["n_real"]]


def _share(row: dict) -> str:
    """'; 38% [-10%, 90%]'."""
    if row["arm"] == CEILING_ROLE or not np.isfinite(row["share"]):
        return ""
    return f"; {row['share']:.0%} [{row['share_low']:.0%}, {row['share_high']:.0%}]"


def choices(shares: pd.DataFrame) -> table.Table:
    """Which ways each role was given, and how often."""
    cells = pd.DataFrame(
        {"task": words.task(row), "role": row["arm"], "ways": row["ways"]}
        for row in shares.to_dict("records")
    )
    return table.unmarked(cells)


def hindsight(best: pd.DataFrame) -> table.Table:
    """The best way of each role. best: of `ceiling.hindsight`, of all tasks."""
    cells = pd.DataFrame(
        {
            "task": words.task(row),
            "role": row["arm"],
            "way": told_of(row["way"], row["way_ratio"]),
            "PR-AUC": table.number(row["level"], ""),
        }
        for row in best.to_dict("records")
    )
    return table.unmarked(cells)


def beside(rivals: pd.DataFrame) -> table.Table:
    """The synthetic role minus the free one, a row a task."""
    cells = pd.DataFrame(
        {
            "task": words.task(row),
            f"{SYNTHETIC} minus {FREE}": table.interval(row),
            "draws": f"{row['n_draws']}",
            "verdict": row["verdict"],
        }
        for row in rivals.to_dict("records")
    )
    return table.marked(cells, {f"{SYNTHETIC} minus {FREE}": rivals})


def figure(shares: pd.DataFrame) -> Figure:
    """Every role minus the shots alone, a panel a task."""
    roles = [role for role in ROLES if role in set(shares["arm"])]
    parts = [part for _, part in shares.groupby(_task(shares), sort=False)]
    titles = [
        f"{words.task(part.iloc[0])}\nshots alone {table.number(part['control_level'].iloc[0], '')}"
        for part in parts
    ]
    shown, axes = style.small_multiples(titles, 0.25 * len(roles) + 0.3, sharey=True)
    for axis, part in zip(axes, parts):
        for row in part.to_dict("records"):
            results.difference(axis, row, roles.index(row["arm"]), *LOOKS[row["arm"]])
        axis.axvline(0, color="0.3", linewidth=0.7)
        axis.set_yticks(range(len(roles)), [ROLES[role].split(" and ")[-1] for role in roles])
        axis.set_ylim(-0.6, len(roles) - 0.4)
        axis.locator_params(axis="x", nbins=4)
    shown.supxlabel(f"PR-AUC minus that of the shots alone\n({words.FILLED})", fontsize=7)
    style.head(shown, words.studies(shares, together=("classifier", "init"))[0])
    return shown
