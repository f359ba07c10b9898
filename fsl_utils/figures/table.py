"""Tables as a reader sees them, in Markdown, HTML and LaTeX: a number and its interval a cell.

Bold is what is shown, by the one rule of `contrasts.verdict`; nothing else is.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fsl_utils import store
from fsl_utils.analysis import contrasts, resampling
from fsl_utils.figures import style

FOOT = (
    f"In brackets: {resampling.LEVEL:.0%} interval over draws and test groups, each by itself. "
    "Bold: the interval leaves out zero and p after Holm is below .05."
)


@dataclass(frozen=True)
class Table:
    """cells: text, one column a heading. bold: the same shape, bool. foot: what to beware of."""

    cells: pd.DataFrame
    bold: pd.DataFrame
    foot: str = ""

    def markdown(self) -> str:
        """The table and its foot in Markdown; names are escaped."""
        lines = [list(map(escaped, self.cells)), ["---"] * self.cells.shape[1]]
        for texts, marks in zip(self.cells.to_numpy(), self.bold.to_numpy()):
            lines.append(
                [f"**{escaped(t)}**" if b and t else escaped(t) for t, b in zip(texts, marks)]
            )
        rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{rows}\n\n{escaped(self.foot)}\n" if self.foot else f"{rows}\n"

    def latex(self) -> str:
        """The table for LaTeX with booktabs, its foot as a comment; names are escaped."""
        body = (
            self._styler("latex")
            .format(lambda text: _minus(_tex(text)))
            .to_latex(hrules=True, convert_css=True)
        )
        foot = "".join(f"% {line}\n" for line in self.foot.splitlines())
        return "% needs \\usepackage{booktabs}\n" + body + foot

    def _repr_html_(self) -> str:
        styled = self._styler("html").format(_unbroken, escape="html")
        styled = styled.set_properties(**{"text-align": "left"})
        styled = styled.set_table_styles([{"selector": "th", "props": "text-align: left"}])
        foot = escaped(self.foot).replace("\\", "")
        return styled.to_html(table_attributes='style="font-size: 12px"') + f"<small>{foot}</small>"

    def _name(self) -> str:
        """A name of its own: on one page bold of a table would else mark cells of the others."""
        said = self.cells.to_csv() + self.bold.to_csv() + self.foot
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    def _styler(self, escape: str):
        weight = self.bold.replace({True: "font-weight: bold", False: ""})
        return (
            self.cells.style.hide(axis="index")
            .set_uuid(self._name())
            .format_index(escape=escape, axis=1)
            .apply(lambda _: weight, axis=None)
        )


def escaped(text: str) -> str:
    """A text in which Markdown and HTML see no markup of their own."""
    text = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|~$])|((?<!\w)_|_(?!\w))|(?<=\])(\()", r"\\\g<0>", text)
    return " ".join(text.split())


def _tex(text: str) -> str:
    return re.sub(
        r"([&%$#_{}~^\\])",
        lambda m: "\\" + m[0] if m[0] not in "~^\\" else f"\\char{ord(m[0])}{{}}",
        text,
    )


def _unbroken(text: str) -> str:
    """A text whose intervals and ratios stay on one line: '+.008 [-.025, +.053]', 'lora 4x'."""
    joined = r"(?<=\d) (?=\[[-+.\d])|(?<=\d,) (?=[-+.\d]+\])|(?<=\w) (?=[\d.]+x\b)"
    return re.sub(joined, "\u00a0", text)


def _minus(text: str) -> str:
    return re.sub(r"(?<![\w)])-(?=[.\d])", "$-$", text)


def save(path: Path, table: Table, rows: pd.DataFrame, latex: bool = False) -> list[Path]:
    """Write path.md, with `latex` path.tex, and path.csv: the tidy rows behind the table."""
    texts = {"md": table.markdown()} | ({"tex": table.latex()} if latex else {})
    files = [style.with_ending(path, kind) for kind in texts]
    for file, text in zip(files, texts.values()):
        store.write_text(file, text)
    return [*files, style.save_table(path, rows)]


def number(value: float, sign: str = "+") -> str:
    """'+.008', '.725' with sign '', '' where there is none."""
    return f"{value:{sign}.3f}".replace("0.", ".", 1) if np.isfinite(value) else ""


def images(row) -> str:
    """'35 [0, 160]' of `ratios.worth_in_images`; a sign where what was tried does not reach."""
    beyond = {">=": "≥ ", "<=": "≤ "}.get(row["beyond"], "")
    bounds = f" [{row['low']:.0f}, {row['high']:.0f}]" if np.isfinite(row["low"]) else ""
    return f"{beyond}{row['images']:.0f}{bounds}"


def interval(row, value: str = "difference", sign: str = "+") -> str:
    """'+.008 [-.025, +.053]'."""
    if not np.isfinite(row[value]):
        return ""
    bounds = f" [{number(row['low'], sign)}, {number(row['high'], sign)}]"
    return number(row[value], sign) + bounds * bool(np.isfinite(row["low"]))


def marked(cells: pd.DataFrame, shown: dict[str, pd.DataFrame]) -> Table:
    """A table of text, bold where the rows behind a column are shown (their `verdict`)."""
    bold = pd.DataFrame(False, cells.index, cells.columns)
    for title, rows in shown.items():
        bold[title] = rows["verdict"].isin(contrasts.SHOWN).to_numpy()
    return Table(cells, bold, FOOT)


def unmarked(cells: pd.DataFrame, foot: str = "") -> Table:
    """A table of text without bold."""
    return Table(cells, pd.DataFrame(False, cells.index, cells.columns), foot)


def headed(corner: str, cells: pd.DataFrame, bold: pd.DataFrame, foot: str) -> Table:
    """A table whose index is its first column, named `corner`."""
    cells = cells.fillna("")
    bold = bold.reindex_like(cells).fillna(False).astype(bool)
    cells.insert(0, corner, cells.index)
    bold.insert(0, corner, False)
    return Table(cells.reset_index(drop=True), bold.reset_index(drop=True), foot)
