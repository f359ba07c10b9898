"""A study's table in Markdown and in LaTeX."""

from pathlib import Path

import numpy as np
import pandas as pd

from fsl_utils import store
from fsl_utils.analysis import contrasts, resampling
from fsl_utils.figures import style


def render(summary: pd.DataFrame) -> tuple[str, str]:
    """A study's table in Markdown and in LaTeX (booktabs). summary: of `contrasts.study_table`.

    One row an arm; each value with its interval. Stars are Holm's p within the column: * < .05, ** < .01,
    *** < .001; a dagger marks an arm that beats each control. The foot says what to beware of.
    """
    quantities = list(summary["quantity"].unique())
    names = [style.METRIC_NAMES.get(q, q) for q in quantities]
    beating = set(summary.loc[summary["beats_controls"].fillna(False).astype(bool), "arm"])
    rows = []
    for (arm, ratio), part in summary.groupby(["arm", "ratio"], sort=False):
        part = part.set_index("quantity")
        rows.append(
            [(arm + (f" {ratio:g}x" if ratio else ""), arm in beating)]
            + [_value(part.loc[q]) if q in part.index else ("", "", "") for q in quantities]
        )
    beats = " Dagger: beats each of the controls." if beating else ""
    foot = (
        f"{'; '.join(style.headline(summary))}. In brackets: {resampling.LEVEL:.0%} interval over draws and test groups, not adjusted for the number of contrasts. Stars: interval without zero and p after Holm (same test images) within "
        f"the column, * < .05, ** < .01, *** < .001; without stars: not shown to differ, or not tested (under {resampling.MIN_DRAWS} draws).{beats}"
    )

    lines = [["arm", *names], ["---"] * (1 + len(names))]
    lines += [
        [
            label + " †" * best,
            *(f"{number}{stars} {bounds}".strip() for number, bounds, stars in values),
        ]
        for (label, best), *values in rows
    ]
    markdown = "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{foot}\n"
    markdown = markdown.replace("*", r"\*")

    def tex(text):
        return text.replace("_", r"\_")

    body = [
        [tex(label) + r"$^\dagger$" * best, *(_tex(*value) for value in values)]
        for (label, best), *values in rows
    ]
    latex = "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{'l' * (1 + len(names))}}}",
            r"\toprule",
            " & ".join(["arm", *map(tex, names)]) + r" \\",
            r"\midrule",
            *(" & ".join(line) + r" \\" for line in body),
            r"\bottomrule",
            r"\end{tabular}",
            f"% {foot}",
            "",
        ]
    )
    return markdown, latex


def _tex(number: str, bounds: str, stars: str) -> str:
    if not number:
        return ""
    return (
        f"${number}"
        + f"^{{{stars}}}" * bool(stars)
        + "$"
        + rf" {{\scriptsize ${bounds}$}}" * bool(bounds)
    )


def _value(row: pd.Series) -> tuple[str, str, str]:
    """Number, interval and stars of one entry. Differences carry their sign."""
    sign = "+" if row.name.startswith("vs ") else ""

    def number(value):
        return f"{value:{sign}.3f}".replace("0.", ".", 1)

    bounds = f"[{number(row['low'])}, {number(row['high'])}]" if np.isfinite(row["low"]) else ""
    shown = row["verdict"] in contrasts.SHOWN
    stars = "*" * (shown * sum(row["p_holm"] < level for level in (0.05, 0.01, 0.001)))
    return number(row["value"]), bounds, stars


def save(path: Path, summary: pd.DataFrame) -> list[Path]:
    """Write path.md, path.tex and path.csv of a study's table."""
    markdown, latex = render(summary)
    files = [path.with_name(f"{path.name}.{kind}") for kind in ("md", "tex")]
    for file, text in zip(files, (markdown, latex)):
        store.write_text(file, text)
    return [*files, style.save_rows(path, summary)]
