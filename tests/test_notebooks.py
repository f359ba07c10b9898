"""The notebooks as files, and run through papermill for the domains whose data are at hand."""

import ast
import re
from pathlib import Path

import nbformat
import papermill
import pytest

from fsl_utils import ROOT, params
from fsl_utils.data.datasets import sheet

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
START, *STEPS = NOTEBOOKS  # the first page has no parameters


def code(path: Path) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def texts(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [c.source for c in cells if c.cell_type == "markdown"]


def test_they_are_numbered():
    assert [int(path.name[:2]) for path in NOTEBOOKS] == [*range(len(NOTEBOOKS))]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_output_is_stored_and_links_lead_somewhere(path):
    assert not any(c.outputs or c.execution_count for c in code(path)), "stored output"
    first, *rest = texts(path)
    assert first.startswith("# ")
    links = re.findall(r"\]\(([^)\s#]+)", "\n".join([first, *rest]))
    assert [link for link in links if not (path.parent / link).exists()] == []
    if path == START:
        assert set(links) >= {each.name for each in STEPS} | {"../results/study1/findings.md"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_each_says_what_it_answers_and_ends_with_what_this_run_says(path):
    first, *_, last = texts(path)
    assert all(f"**{word}:**" in first for word in ("Answers", "Takes", "Needs"))
    assert "**What this does not show:**" in last and re.search(r"\*\*Next:\*\*.*\.ipynb\)", last)
    if path != START:  # a sentence made of its numbers
        assert re.search(r"\b(closings|headlines|answer)\.\w+", code(path)[-1].source)


def test_the_first_page_runs_and_shows_the_pipeline(tmp_path):
    cells = code(run("00_start", tmp_path))
    assert sum("image/png" in o.get("data", {}) for c in cells for o in c.outputs) == 1


@pytest.mark.parametrize("path", STEPS, ids=lambda p: p.stem)
def test_form(path):
    cells = code(path)
    tagged = [i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", [])]
    assert tagged == [0] and cells[0].source.startswith("# Parameters")
    assert "params.check(globals(), In)" in cells[1].source
    for node in ast.parse(cells[0].source).body:
        ast.literal_eval(node.value)  # literals alone
    assert not any(
        isinstance(node, (ast.FunctionDef, ast.ClassDef))
        for c in cells
        for node in ast.parse(c.source).body
    )


@pytest.mark.parametrize("path", STEPS, ids=lambda p: p.stem)
def test_defaults_and_comments_are_those_of_the_table(path):
    source = code(path)[0].source
    for node in ast.parse(source).body:
        name, given = node.targets[0].id, ast.literal_eval(node.value)
        assert params.value(name, given) == params.default(name), name
        last = source.splitlines()[node.end_lineno - 1]
        assert last.partition("  # ")[2] == params.comment(name)


def run(stem: str, tmp_path: Path, **given) -> Path:
    out = tmp_path / f"{stem}.ipynb"
    papermill.execute_notebook(
        ROOT / "notebooks" / f"{stem}.ipynb",
        out,
        given,
        kernel_name="python3",
        progress_bar=False,
        cwd=ROOT / "notebooks",
    )
    return out


def test_an_unknown_parameter_is_refused(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="unknown parameter 'n_reel'"):
        run("02_lora_finetuning", tmp_path, n_reel=3)


SMALL = {"n_real": 10, "adapter_steps": 2, "steps": 2, "n_images": 10, "filter_steps": 2}


def present(domain: str) -> bool:
    return domain == "elpv" or (sheet.data_root() / domain).is_dir()


@pytest.mark.parametrize(
    "domain", ["magnetic_tile", pytest.param("chestxray14", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "stem",
    [
        pytest.param("02_lora_finetuning", marks=pytest.mark.slow),
        pytest.param("03_generation", marks=pytest.mark.slow),
        "04_classifier_sweep",
        pytest.param("05_diversity_analysis", marks=pytest.mark.slow),
    ],
)
def test_runs_on(domain, stem, tmp_path):
    """ELPV's chain runs in test_grid; notebook 01 in its own test."""
    if not present(domain):
        pytest.skip(f"NOT RUN: no {domain} in {sheet.data_root()} (set FSL_DATA_DIR)")
    given = {k: v for k, v in SMALL.items() if k in _declared(stem)}
    if stem.startswith("04"):
        given |= {"arms": ["real", "lora"], "ratios": [1.0]}
        if domain == "chestxray14":  # the other classifier, and no features of thousands of images
            given |= {"classifier": "resnet18", "init": "scratch", "classifier_steps": 2}
    executed = nbformat.read(run(stem, tmp_path, domain=domain, **given), as_version=4)
    pictures = [
        o
        for c in executed.cells
        if c.cell_type == "code"
        for o in c.outputs
        if "image/png" in o.get("data", {})
    ]
    assert pictures, "a notebook without a figure"
    assert len({o["data"]["image/png"] for o in pictures}) == len(pictures), "a figure shown twice"


@pytest.mark.parametrize(
    "domain",
    ["elpv", *(pytest.param(d, marks=pytest.mark.slow) for d in ("magnetic_tile", "chestxray14"))],
)
def test_exploration_runs_on(domain, tmp_path):
    if not present(domain):
        pytest.skip(f"NOT RUN: no {domain} in {sheet.data_root()} (set FSL_DATA_DIR)")
    executed = nbformat.read(
        run("01_data_exploration", tmp_path, domain=domain, n_real=10), as_version=4
    )
    pictures = [
        o
        for c in executed.cells
        if c.cell_type == "code"
        for o in c.outputs
        if "image/png" in o.get("data", {})
    ]
    assert len(pictures) >= 3


def _declared(stem: str) -> set[str]:
    return {
        node.targets[0].id
        for node in ast.parse(code(ROOT / "notebooks" / f"{stem}.ipynb")[0].source).body
    }
