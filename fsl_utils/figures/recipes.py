"""Ways to use the same pools, as a page. rows: of `analysis.recipes` and `contrasts`."""

import pandas as pd

from fsl_utils.analysis import contrasts
from fsl_utils.figures import table, words

INTRODUCTION = """One pool a draw and class: only what is kept of it, the loss or the schedule
differs. An arm stands beside the recipe it starts from, and beside a rival that lacks its idea."""


def page(gains: pd.DataFrame, verdicts: pd.DataFrame) -> str:
    """The whole page in Markdown."""
    parts = [
        "# Ways to use the same synthetic images",
        f"**{headline(verdicts)}**",
        INTRODUCTION,
        gains.loc[gains["n_draws"].idxmax(), "caution"],
        "## Each beside its rival",
        rivals(verdicts).markdown(),
        "## Each minus `real`",
        "![every arm minus real](gains.png)",
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def headline(verdicts: pd.DataFrame) -> str:
    """How many of the pairs are shown, and which."""
    shown = verdicts[verdicts["verdict"].isin(contrasts.SHOWN)]
    named = [
        f"{words.arm(row)} minus {words.control(row)} with {words.classifier(row)} "
        f"on {words.task(row)} ({table.number(row['difference'])})"
        for row in shown.to_dict("records")
    ]
    which = f": {'; '.join(named)}" if named else ""
    return f"{len(shown)} of {len(verdicts)} differences are shown{which}."


def rivals(verdicts: pd.DataFrame) -> table.Table:
    """A row a pair, task and classifier; bold where shown."""
    cells = pd.DataFrame(
        {
            "arm": words.arm(row),
            "minus": words.control(row),
            "task": words.task(row),
            "shots": f"{row['n_real']:g}",
            "classifier": words.classifier(row),
            "difference": table.interval(row),
        }
        for row in verdicts.to_dict("records")
    )
    return table.marked(cells, {"difference": verdicts})
