"""What another run is, and what a harmed result of one becomes."""

import dummies
import nbformat
import pytest
from engines import client, notebooks, run  # noqa: F401

from fsl_utils.generator import settings
from fsl_utils.study import grid
from fsl_utils.study import notebooks as nbs
from fsl_utils.study.runs import RunRequest, finished


def test_what_jupyter_saves_changes_no_run(notebooks):
    [*_, node] = dummies.nodes([0])
    path, before = nbs.source(grid.STAGES[node.stage]), RunRequest.of(node)
    book = nbformat.read(path, 4)
    output = nbformat.v4.new_output("stream", text="seen")
    for cell in book.cells:
        cell |= {"id": f"x{cell['id']}", "execution_count": 7, "outputs": [output]}
    book.cells[0].source = book.cells[0].source.replace("draw = 0", "draw = 5")
    book.cells.append(nbformat.v4.new_markdown_cell("a note"))
    book.metadata["language_info"] = {"name": "python", "version": "3.12"}
    nbformat.write(book, path)
    assert RunRequest.of(node) == before
    book.cells[1].source += "\n"
    nbformat.write(book, path)
    assert RunRequest.of(node).key != before.key


def test_other_settings_of_fine_tuning_are_another_run(notebooks, monkeypatch):
    node = dummies.nodes([0])[0]
    before = RunRequest.of(node).key
    monkeypatch.setitem(settings.BACKBONES, "mini", (settings.FineTuning, {"rank": 8}))
    assert RunRequest.of(node).key != before


def test_results_that_were_harmed_are_made_again(notebooks, own_store, client):
    nodes = dummies.nodes([0])[:3]
    ended = run(nodes, client)
    whole = dummies.table(own_store)
    cell = next(own_store.glob("cell/*"))
    for harm in (
        lambda: (cell / "0.txt").write_text("x" * 64),
        lambda: (cell / "1.txt").write_text(""),
        (cell / "manifest.json").unlink,
        (ended[nodes[2]] / "04_classifier_sweep.ipynb").unlink,
        next(own_store.glob("adapter/*/2.txt")).unlink,
    ):
        harm()
        with pytest.warns(UserWarning, match=r"damaged"):
            assert len(finished(nodes)) in (
                1,
                2,
            )  # what made it, and for the adapter also the pool that used it
            ended = run(nodes, client)
        assert len(finished(nodes)) == 3 and dummies.table(own_store) == whole
