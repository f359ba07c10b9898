"""The first study again as a page. rows: of `analysis.reanalysis`."""

import pandas as pd

from fsl_utils.analysis.reanalysis import ENSEMBLES, FIRST, PUBLISHED, TASK
from fsl_utils.figures import headlines, style, table, words

INTRODUCTION = """The first study's draws, shots and test images once more. *Published*: its own
cells. *First probe*: the same probe on new pools. *Gone today*: the gain with the first probe minus
that with today's, paired on draws, pools and test images. The test images were known before: this
explores, and confirms nothing."""

MEMBERS = "Mean scores: " + "; ".join(
    f"*{name}* of {', '.join(words.arm(dict(arm=arm, ratio=ratio)) for arm, ratio in members)}"
    for name, members in ENSEMBLES.items()
)
NAMES = {FIRST: "first probe", "probe": "probe of today"}


def page(
    gains: pd.DataFrame, repairs: pd.DataFrame, draws: pd.DataFrame, ensembles: pd.DataFrame
) -> str:
    """The whole page in Markdown."""
    parts = [
        "# The first study, with a probe that holds",
        INTRODUCTION,
        gains.loc[gains["n_draws"].idxmax(), "caution"],
        "## What the first probe lacked: `real` with another classifier, on the same images",
        lacked(gains, repairs).markdown(),
        "## What each arm adds to `real`",
        "![every arm minus real, by classifier](gains.png)",
    ]
    for _, part in gains.groupby(TASK, sort=False):
        first = part.iloc[0]
        mine = repairs.merge(part[TASK].drop_duplicates())
        parts += [f"### {words.task(first)}", arms(part, mine).markdown()]
    if len(ensembles):
        parts += ["## Ensembles of three classifiers", MEMBERS, means(ensembles).markdown()]
    parts += ["## One draw against many", headlines.slopes(draws), "![draw by draw](draws.png)"]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def lacked(gains: pd.DataFrame, repairs: pd.DataFrame) -> table.Table:
    """`real` with each classifier of today minus `real` with the first probe."""
    levels = gains.drop_duplicates([*TASK, "classifier"]).set_index([*TASK, "classifier"])
    rows = repairs[repairs["arm"] == "real"]
    cells = pd.DataFrame(
        {
            "task": words.task(row),
            "classifier": NAMES.get(row["classifier"], row["classifier"]),
            "draws": f"{row['n_draws']}",
            "published": table.number(_level(levels, row, PUBLISHED), ""),
            "first probe": table.number(_level(levels, row, FIRST), ""),
            "with it": table.number(_level(levels, row, row["classifier"]), ""),
            "difference": table.interval(row),
        }
        for row in rows.to_dict("records")
    )
    return table.marked(cells, {"difference": rows})


def _level(levels: pd.DataFrame, row: dict, classifier: str) -> float:
    return levels.loc[(*(row[name] for name in TASK), classifier), "control_level"]


def arms(gains: pd.DataFrame, repairs: pd.DataFrame) -> table.Table:
    """Of one task each arm's gain by classifier, and what of the first probe's was its repair."""
    order = list(style.arms_of(gains))
    columns = {
        NAMES.get(name, name): part.set_index("arm")
        for name, part in sorted(gains.groupby("classifier"), key=lambda pair: _place(pair[0]))
    }
    lost = repairs[(repairs["classifier"] == "probe") & (repairs["arm"] != "real")]
    columns["of the first gain, gone today"] = lost.set_index("arm")
    known = gains.drop_duplicates("arm").set_index("arm", drop=False).loc[order].to_dict("records")
    cells, marks = {"arm": [_arm(row, gains["n_draws"].max()) for row in known]}, {}
    for title, part in columns.items():
        part = part.reindex(order)
        cells[title] = [
            table.interval(row) if pd.notna(row["difference"]) else ""
            for row in part.to_dict("records")
        ]
        marks[title] = part
    return table.marked(pd.DataFrame(cells), marks)


def means(rows: pd.DataFrame) -> table.Table:
    """What ensembles gain. rows: of `reanalysis.ensembles`."""
    cells = pd.DataFrame(
        {
            "task": words.task(row),
            "classifier": NAMES.get(row["classifier"], row["classifier"]),
            "mean score": row["arm"],
            "minus": row["control"],
            "difference": table.interval(row),
        }
        for row in rows.to_dict("records")
    )
    return table.marked(cells, {"difference": rows})


def _arm(row: dict, most: int) -> str:
    """An arm, with its draws where it lacks some."""
    lacking = f" ({row['n_draws']} draws)" if row["n_draws"] < most else ""
    return words.arm(row) + lacking


def _place(classifier: str) -> tuple:
    known = [PUBLISHED, FIRST]
    return known.index(classifier) if classifier in known else len(known), classifier
