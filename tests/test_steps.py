"""The bar of a long step, outside and inside a notebook."""

from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient

from fsl_utils import steps


@pytest.fixture(autouse=True)
def patience(monkeypatch, tmp_path):
    monkeypatch.setattr(steps, "PATIENCE", 0)
    monkeypatch.setenv("FSL_STEPS", str(tmp_path / "steps"))
    return tmp_path / "steps"


def test_steps_pass_through_and_are_counted(patience, capsys):
    chunks = ["ab", "cd", "e"]
    said = []
    for chunk in steps.bar(chunks, 5, "sampling", "image", len):
        said.append((chunk, patience.exists() and patience.read_text()))
    assert [chunk for chunk, _ in said] == chunks
    assert said[2][1] == "4 5 sampling\n" and patience.read_text() == "5 5 sampling\n"
    out = capsys.readouterr().err
    assert "5/5" in out and "image/s" in out and out.endswith("\n")


def test_a_resumed_run_says_from_where(patience):
    rest = [SimpleNamespace(number=number) for number in range(201, 401)]
    seen = [patience.read_text() for _ in steps.bar(rest, 400, "fine-tuning") if patience.exists()]
    assert seen[0] == "201 400 fine-tuning\n" and len(seen) == 199


def test_what_is_there_at_once_shows_no_bar(monkeypatch, patience, capsys):
    monkeypatch.setattr(steps, "PATIENCE", 1)
    assert list(steps.bar(range(1000), 1000, "from the store")) == list(range(1000))
    assert not patience.exists() and capsys.readouterr() == ("", "")


def test_a_saved_notebook_keeps_one_line_of_text():
    code = """
from fsl_utils import steps
steps.PATIENCE = 0
for step in steps.bar(range(100), 100, "painting"):
    pass
"""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(book, kernel_name="python3", timeout=60).execute()
    [output] = book.cells[0].outputs
    assert output.output_type == "display_data" and "100/100" in output.data["text/plain"]
