"""Ways of training on the same images, as a page. rows: of `analysis.recipes` and `contrasts`."""

import pandas as pd

from fsl_utils.analysis import contrasts
from fsl_utils.figures import table, words

INTRODUCTION = """One network, `finetuned`, and one pool a draw: only the loss or the schedule
differs. An arm stands beside the recipe it starts from, and beside a rival that lacks its idea."""


def page(gains: pd.DataFrame, verdicts: pd.DataFrame) -> str:
    """The whole page in Markdown."""
    parts = [
        "# How a network takes synthetic images",
        f"**{headline(verdicts)}**",
        INTRODUCTION,
        gains.loc[gains["n_draws"].idxmax(), "caution"],
        "## Each beside its rival",
        pairs(verdicts).markdown(),
        "## Each minus `real`",
        "![every arm minus real](gains.png)",
        _beside(gains, [words.arm(row) for row in gains.to_dict("records")], "arm").markdown(),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def headline(verdicts: pd.DataFrame) -> str:
    """How many of the pairs are shown, and which."""
    shown = verdicts[verdicts["verdict"].isin(contrasts.SHOWN)]
    named = [f"{_pair(row)} on {row['domain']}" for row in shown.to_dict("records")]
    which = f": {'; '.join(named)}" if named else ""
    return f"{len(shown)} of {len(verdicts)} differences are shown{which}."


def pairs(verdicts: pd.DataFrame) -> table.Table:
    """Every pair, a column a task."""
    return _beside(verdicts, [_pair(row) for row in verdicts.to_dict("records")], "difference")


def _pair(row: dict) -> str:
    return f"{words.arm(row)} minus {words.control(row)}"


def _beside(rows: pd.DataFrame, names: list[str], corner: str) -> table.Table:
    """A row a name, a column a task; bold where shown."""
    placed = rows.assign(
        name=names,
        task=[f"{words.task(row)}, {row['n_real']} shots" for row in rows.to_dict("records")],
        text=[table.interval(row) for row in rows.to_dict("records")],
        bold=rows["verdict"].isin(contrasts.SHOWN),
    )
    order = {"index": placed["name"].unique(), "columns": placed["task"].unique()}
    cells, bold = (
        placed.pivot(index="name", columns="task", values=what).reindex(**order)
        for what in ("text", "bold")
    )
    return table.headed(corner, cells, bold, table.FOOT)
