"""A study's table: its numbers, intervals and marks, in Markdown and LaTeX."""

import re

import simulate

from fsl_utils.analysis import contrasts
from fsl_utils.figures import table


def test_table_holds_the_numbers_intervals_and_marks(whole, tmp_path):
    summary = contrasts.study_table(*whole)
    markdown, latex = (file.read_text() for file in table.save(tmp_path / "table", summary)[:2])
    row = summary[
        (summary["arm"] == "lora_filtered") & (summary["quantity"] == "vs duplicate")
    ].iloc[0]
    line = next(line for line in markdown.splitlines() if line.startswith("| lora_filtered 4x"))
    stars = r"\*" * sum(row["p_holm"] < level for level in (0.05, 0.01, 0.001))
    number = f"{row['value']:+.3f}{stars} [{row['low']:+.3f}, {row['high']:+.3f}]".replace(
        "0.", "."
    )
    assert number in line
    assert line.count("|") == markdown.splitlines()[0].count("|")
    body = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")]
    assert r"lora\_filtered 4x" in body and not re.search(r"(?<!\\)_", body)
    assert body.count(r"\\") == summary[["arm", "ratio"]].drop_duplicates().shape[0]
    assert latex.count("{") == latex.count("}")


def test_table_marks_an_arm_that_beats_each_control_and_only_that():
    arms_ = {
        ("real", 0.0): 0.0,
        ("duplicate", 4.0): 0.0,
        ("lora", 4.0): 0.1,
        ("lora_filtered", 4.0): 3.0,
    }
    markdown, latex = table.render(contrasts.study_table(*simulate.study(arms=arms_, draws=10)))
    assert (
        "lora_filtered 4x †" in markdown and "lora 4x †" not in markdown and r"$^\dagger$" in latex
    )
