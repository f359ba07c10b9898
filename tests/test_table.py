"""Tables: their numbers, intervals and bold in Markdown, HTML and LaTeX; names bring no markup."""

import re

import numpy as np
import pandas as pd
import pytest
import simulate

from fsl_utils.analysis import claims, contrasts, curves, resampling
from fsl_utils.figures import headlines, result_tables, table

NASTY = "<img src=x onerror=alert(1)> | *b* `c` $x$ [a](javascript:b) _i_"


@pytest.fixture(scope="module")
def study(whole):
    return resampling.resample(*whole)


def test_a_number_with_its_interval_is_one_cell():
    row = {"difference": 0.0084, "low": -0.0251, "high": 1.0}
    assert table.interval(row) == "+.008 [-.025, +1.000]"
    assert table.interval({**row, "low": np.nan}) == "+.008"
    assert table.interval({**row, "difference": np.nan}) == ""
    assert table.number(0.7251, "") == ".725"
    page = table.unmarked(pd.DataFrame({"x": [table.interval(row), "a [b, c]"]}))._repr_html_()
    assert "+.008\u00a0[-.025,\u00a0+1.000]" in page and "a [b, c]" in page


def test_bold_of_one_table_marks_no_cell_of_another_on_the_page():
    cells = pd.DataFrame({"a": ["1"]})
    bold, plain = table.Table(cells, pd.DataFrame({"a": [True]})), table.unmarked(cells)
    marked = re.findall(r"#(\w+)[^{]*{\s*font-weight: bold", bold._repr_html_())
    assert marked and f'id="{marked[0]}"' in bold._repr_html_()
    assert not any(f'id="{name}"' in plain._repr_html_() for name in marked)
    assert bold._repr_html_() == bold._repr_html_()


def test_arms_holds_the_intervals_and_bold_is_what_is_shown(study, tmp_path):
    rows = contrasts.against(study, "duplicate")
    made = result_tables.arms(rows, curves.levels(study))
    shown = set(rows.loc[rows["verdict"].isin(contrasts.SHOWN), "arm"])
    assert shown and shown != set(rows["arm"])
    markdown = made.markdown()
    for row in rows.to_dict("records"):
        text = table.interval(row)
        assert (f"**{text}**" if row["arm"] in shown else f"| {text} |") in markdown
    level = study.points.loc[("duplicate", 4.0)].mean()
    assert f"({table.number(level, '')})" in markdown.splitlines()[0]
    files = table.save(tmp_path / "arms", made, rows, latex=True)
    assert [file.name for file in files] == ["arms.md", "arms.tex", "arms.csv"]
    latex = files[1].read_text()
    assert latex.count(r"\bfseries") == len(shown) and r"\toprule" in latex
    assert latex.count("{") == latex.count("}") and r"lora\_filtered 4x" in latex


def test_the_primary_contrast_has_its_verdict_first(study, few):
    rows = contrasts.primary([study, resampling.resample(*few)])
    made = result_tables.primary(rows)
    assert made.cells.columns[0] == "verdict"
    assert list(made.cells["verdict"]) == list(rows["verdict"])
    assert list(made.bold["verdict"]) == list(rows["verdict"].isin(contrasts.SHOWN))
    assert headlines.primary(rows).startswith("`lora_filtered` at 4x")


def test_a_study_table_names_the_arms_that_beat_each_control():
    gains = {("real", 0.0): 0.0, ("duplicate", 4.0): 0.0, ("lora", 4.0): 0.1}
    cells, scores = simulate.study(arms=gains | {("lora_filtered", 4.0): 3.0}, draws=10)
    made = result_tables.study(contrasts.study_table(cells, scores))
    assert made.foot.endswith("Better than each of the controls: lora_filtered.")
    assert list(made.cells["arm"]) == [
        *("duplicate 4x", "real", "lora 4x", "lora_filtered 4x", "no skill")
    ]


def test_claims_stand_a_row_each(whole):
    rows = claims.paper_claims(*whole)
    made = result_tables.claims(rows)
    assert list(made.cells["claim"]) == list(rows["claim"].unique())
    assert (made.bold.iloc[:, 1] == rows["verdict"].isin(["holds", "does not"]).to_numpy()).all()


def test_a_name_brings_no_markup_of_its_own():
    made = table.unmarked(pd.DataFrame({NASTY: [NASTY]}), NASTY)
    for text in (made.markdown(), made._repr_html_()):
        assert "<img" not in text
    line = made.markdown().splitlines()[0]
    assert r"\*b\*" in line and r"\`c\`" in line and r"\$x\$" in line and r"\_i\_" in line
    assert line.replace(r"\|", "").count("|") == 2 and "](" not in line
    latex = "\n".join(line for line in made.latex().splitlines() if not line.startswith("%"))
    assert r"\$x\$" in latex and "$x$" not in latex


def test_headlines_count_what_is_shown(study):
    rows = contrasts.against(study, "duplicate")
    shown = rows["verdict"].isin(contrasts.SHOWN).sum()
    assert headlines.shown(rows).endswith(f"Not shown: the other {len(rows) - shown}.")
    none = rows.assign(verdict="cannot tell")
    assert headlines.shown(none) == f"None of {len(rows)} differences is shown."
    assert "illustration" in headlines.shown(rows.assign(verdict="not tested"))
