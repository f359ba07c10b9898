"""The pages: their lengths, their links, and each number of a result against its CSV."""

import json
import re
from functools import cache
from urllib.parse import unquote

import pandas as pd
import pytest
from quoted import BOLD, DRAWS, EVERY_C, HINDSIGHT, NUMBERS, POOLS

from fsl_utils import ROOT

PAGES = {  # a page: lines and words at most
    "README.md": (100, 1000),
    "results/study1/findings.md": (200, 1200),
    "results/study2/findings.md": (200, 1200),
    "results/study2/protocol.md": (200, 1200),
    "results/README.md": (100, 1200),
    "notebooks/README.md": (150, 1600),
    "fsl_utils/README.md": (80, 1000),
    "fsl_utils/generator/README.md": (120, 1200),
    "fsl_utils/data/README.md": (100, 1200),
}
LINKED = (*PAGES, "notebooks/grids/README.md", "fsl_utils/generator/weights/README.md")
RECORDS = ("results/experiments.md", "results/mini.md", "results/study1/protocol.md", "SECURITY.md")

NUMBER = re.compile(r"(?<![\w.])[+-]?\d*\.\d+")


def text(page: str) -> str:
    return (ROOT / page).read_text()


@cache
def table(csv: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / csv, low_memory=False)


def same(written: str, value: float) -> bool:
    """Whether a number is a value rounded to its digits."""
    return abs(float(written) - value) <= 0.5001 * 10 ** -len(written.split(".")[1])


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_short(page):
    lines, words = PAGES[page]
    assert len(text(page).splitlines()) <= lines and len(text(page).split()) <= words


@pytest.mark.parametrize("page", [*LINKED, *RECORDS])
def test_prose_is_wrapped_at_100_columns(page):
    code = ("|", "!", "    ")  # tables, figures and commands are not wrapped
    assert not [
        line for line in text(page).splitlines() if len(line) > 100 and not line.startswith(code)
    ]


def anchors(page: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*LINKED, *RECORDS])
def test_links_and_figures_stand_in_the_repository(page):
    links = re.findall(r"\]\(([^)\s]+)\)", text(page))
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.is_relative_to(ROOT) and target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(str(target.relative_to(ROOT))), f"{page}: {link}"


@pytest.mark.parametrize(
    "copy", sorted((ROOT / "results/notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_links_of_executed_copies_lead_somewhere(copy):
    cells = json.loads(copy.read_text())["cells"]
    told = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", told)]
    local = [unquote(link) for link in links if link and "://" not in link]
    assert local and not [link for link in local if not (copy.parent / link).exists()]


@pytest.mark.parametrize("page, snippet, csv, rows, columns", NUMBERS)
def test_a_number_is_that_of_its_csv(page, snippet, csv, rows, columns):
    assert snippet in " ".join(text(page).split())
    chosen = table(csv)
    for row in rows:
        chosen = chosen.query(row)
    values = chosen[columns.split()]
    ten = rows == (DRAWS,) or csv in (POOLS, HINDSIGHT, EVERY_C)  # a row a draw
    assert len(values) == (10 if ten else 1)
    written = NUMBER.findall(snippet)[-values.shape[1] :]
    assert len(written) == values.shape[1]
    sign = -1 if re.search(r"\b(fell|lost|loses?)\b", snippet) else 1
    for number, value in zip(written, values.mean()):
        assert same(number, sign * value), f"{snippet}: {value}"


def test_bold_entries_that_remain():
    bold = table(BOLD)
    assert (len(bold), bold["remains"].sum()) == (23, 5)
    assert re.search(r"\b23 entries\b.*\b5\b", text("results/README.md"), re.DOTALL)
    kept = bold[bold["remains"] & (bold["difference"] > 0)]
    assert set(kept["arm"]) == {"synth_both", "real_more"}


@pytest.mark.parametrize(
    "page", ["README.md", "results/study1/findings.md", "results/study2/findings.md"]
)
def test_no_number_of_a_result_is_left_out(page):
    """Beside the list above only levels of p and F1 stand; of the second study also its weight and
    its limit of harm."""
    prose = re.sub(r"\]\([^)]*\)", "", " ".join(text(page).split()))
    for where, snippet, *_ in NUMBERS:
        if where == page:
            prose = prose.replace(snippet, "")
    second = page == "results/study2/findings.md"
    known = {".05", ".5"} | ({".2", "-.02"} if second else set())
    assert set(re.findall(r"(?<![\w.])[+-]?\.\d+", prose)) <= known


def test_tables_have_as_many_cells_as_the_page_says():
    rows = re.findall(
        r"^\| `(\w+)/` \|.*?([\d,]+) (?:of [\d,]+ )?cells", text("results/README.md"), re.M
    )
    told = {place: int(cells.replace(",", "")) for place, cells in rows}
    assert len(told) > 6
    assert told == {place: len(table(f"results/{place}/tables/cells.csv")) for place in told}
