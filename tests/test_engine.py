"""The engine on notebooks that do next to nothing (see dummies.py), each in a real kernel."""

import ast
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import dummies
import nbformat
import pytest
from distributed import Client
from engines import client, execute, notebooks, run, tidy  # noqa: F401

from fsl_utils import ROOT, StudyError, store
from fsl_utils.study import engine, grid, kernels, progress, publish, worker
from fsl_utils.study.runs import RunRequest


def test_a_failure_stops_its_descendants_alone_and_a_second_run_does_the_rest(
    notebooks, own_store, client
):
    nodes = dummies.nodes([0, 1])
    (own_store / "fail-adapter-1").touch()
    ended = run(nodes, client)
    good = [node for node in nodes if node.values["draw"] == 0]
    assert (
        all(isinstance(ended[node], Path) == (node in good) for node in nodes) and len(ended) == 8
    )
    [(node, error)] = [(node, error) for node in nodes if (error := progress.failure(node, ended))]
    assert (
        node.stage == "adapter"
        and node.values["draw"] == 1
        and isinstance(error, StudyError)
        and "this draw was told to fail" in str(error)
    )
    kept = str(error).split("[notebook: ")[1].rstrip("]").split(", traceback: ")
    assert "StudyError" in Path(kept[1]).read_text() and nbformat.read(kept[0], 4).cells
    assert tidy(own_store) and "FSL_RECORD" not in os.environ
    [said] = [error for node in nodes if (error := progress.failure(node, progress.states(nodes)))]
    assert kept[1] in str(said)

    record = store.manifest(ended[good[2]])
    assert (
        good[2].stage == "cells"
        and record["made"][0].startswith("cell/")
        and len(record["things"]) == 2
        and record["cpu_seconds"] > 0
    )
    executed = nbformat.read(ended[good[2]] / "04_classifier_sweep.ipynb", 4)
    nbformat.validate(executed)
    shown = ast.literal_eval(executed.cells[-1].outputs[0].data["text/plain"])
    assert shown == ("1", str(notebooks))  # its own threads and folder, not this process's
    assert Path.cwd() != notebooks

    (own_store / "fail-adapter-1").unlink()
    before = {path: path.stat().st_mtime_ns for path in own_store.glob("*/*/manifest.json")}
    again = run(nodes, client)
    assert all(isinstance(again[node], Path) for node in nodes) and not list(
        (own_store / "failed").iterdir()
    )
    assert all(
        path.stat().st_mtime_ns == then for path, then in before.items()
    )  # nothing was done twice


def test_what_the_file_lists_first_is_done_first(notebooks, monkeypatch):
    """Reports come last, though each is ready long before the last adapter; a worker is at most
    one adapter ahead."""
    nodes, log = dummies.nodes(range(6)), notebooks / "begun"

    def noted(request, *_):
        with open(log, "a") as file:
            file.write(f"{request.notebook}\n")
        time.sleep(0.05)

    monkeypatch.setattr(worker, "execute", noted)
    with (
        dask.config.set(engine.SETTINGS),
        Client(
            processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
        ) as client,
    ):
        run(nodes, client)
    stage = {notebook: stage for stage, notebook in grid.STAGES.items()}
    begun = [stage[line] for line in log.read_text().split()]
    assert len(begun) == len(nodes) == 24 and begun[-6:] == ["report"] * 6
    assert all(begun[:i].count("adapter") <= begun[:i].count("cells") + 3 for i in range(18))


def test_a_cell_that_hangs_is_stopped(notebooks, own_store):
    (own_store / "hang-adapter-0").touch()
    with pytest.raises(StudyError, match=r"not done after 2 s.*--timeout"):
        execute(dummies.nodes([0])[0], timeout=2)
    assert tidy(own_store)


def test_a_kernel_that_dies_is_started_again_and_given_up_in_words(
    notebooks, own_store, monkeypatch
):
    monkeypatch.setattr(kernels, "DEATHS", 2)
    first, second = (dummies.nodes([draw])[0] for draw in (0, 1))
    (own_store / "die_once-adapter-0").touch()
    assert store.damage(Path(execute(first))) is None
    (own_store / "die-adapter-1").touch()
    with pytest.raises(StudyError, match=r"its kernel died 2 times.*memory"):
        execute(second)
    assert tidy(own_store)


def test_a_full_disk_in_a_notebook_is_explained(notebooks, own_store):
    (own_store / "full-adapter-0").touch()
    with pytest.raises(StudyError, match=r"disk full.*FSL_STORE"):
        execute(dummies.nodes([0])[0])
    assert tidy(own_store) and not list(own_store.glob("run/*"))


def test_a_full_disk_under_the_executed_copy_is_explained(notebooks, own_store, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernels.papermill, "execute_notebook", full)
    with pytest.raises(StudyError, match=r"disk full.*FSL_STORE"):
        execute(dummies.nodes([0])[0])
    assert tidy(own_store)


def test_braces_in_paths_are_no_places_for_parameters(tmp_path, monkeypatch):
    monkeypatch.setenv("FSL_STORE", str(tmp_path / "a {draw} store"))
    with dummies.taken(dummies.write(tmp_path / "{none} notebooks")):
        assert store.damage(Path(execute(dummies.nodes([0])[0]))) is None
    assert sorted(os.listdir(tmp_path)) == ["a {draw} store", "{none} notebooks"]


def test_links_in_a_shared_store_overwrite_nothing(notebooks, own_store, tmp_path):
    node = dummies.nodes([0])[0]
    theirs = tmp_path / "theirs.txt"
    theirs.write_text("theirs")
    name = RunRequest.of(node).name
    for link in (f"running/{name}", f"failed/{name}.txt", f"failed/{name}.ipynb"):
        (own_store / link).parent.mkdir(exist_ok=True)
        (own_store / link).symlink_to(theirs)
    (own_store / "fail-adapter-0").touch()
    with pytest.raises(StudyError, match="told to fail"):
        execute(node)
    assert theirs.read_text() == "theirs" and tidy(own_store)
    assert "StudyError" in (own_store / "failed" / f"{name}.txt").read_text()


def test_a_worker_with_another_store_is_refused(notebooks):
    with pytest.raises(StudyError, match=r"start it with FSL_STORE=/elsewhere"):
        execute(dummies.nodes([0])[0], root="/elsewhere")


def test_a_grid_runs_what_it_began_with(notebooks, client):
    """Notebooks that are opened, run, saved, edited or broken meanwhile change nothing of it."""
    nodes = dummies.nodes([0])
    states = engine.run(nodes, client, threads=1)
    next(states)
    for path in notebooks.iterdir():
        path.write_text("{}")
    *_, ended = states
    assert all(isinstance(ended[node], Path) for node in nodes)


def test_two_runs_of_one_node_leave_one_whole_result(notebooks, own_store):
    node, results = dummies.nodes([0])[0], []
    threads = [threading.Thread(target=lambda: results.append(execute(node))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(results) == 2 and len(set(results)) == 1 and store.damage(Path(results[0])) is None
    assert len(list(own_store.glob("run/*"))) == len(
        list(own_store.glob("adapter/*"))
    ) == 1 and tidy(own_store)


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_a_node_that_kills_workers_given_up(
    notebooks, own_store
):
    nodes = dummies.nodes([0, 1])
    (own_store / "kill-adapter-1").touch()
    (own_store / "hang-adapter-0").touch()
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        engine.cluster(2) as client,
    ):
        states = engine.run(nodes, client, threads=1)
        while not any("02_lora" in name for name in progress.alive()):
            next(states)
        (own_store / "hang-adapter-0").unlink()
        *_, ended = states
    assert all(isinstance(ended[node], Path) for node in nodes if node.values["draw"] == 0)
    [error] = [error for node in nodes if (error := progress.failure(node, ended))]
    assert "its worker died 2 times" in str(error) and "--workers" in str(error)


def test_two_drivers_on_one_grid(notebooks, own_store):
    command = [sys.executable, str(ROOT / "tests" / "dummies.py"), str(notebooks), "1", "threads"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    own = os.environ | {"PYTHONPATH": str(ROOT)}
    drivers = [subprocess.Popen(command, env=own, **pipes) for _ in range(2)]
    said = [driver.communicate(timeout=600)[1] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], said
    assert len(json.loads(dummies.table(own_store))) == 3  # files of the one cell
    assert len(list(own_store.glob("run/*"))) == 4 and tidy(own_store)


DRAWING = """
import os
from pathlib import Path
told = Path(tables, "die_once"), Path(tables, "die")
if told[0].exists(): told[0].unlink(); os._exit(9)
if told[1].exists(): os._exit(9)
Path(figures, "drawn.csv").write_text("a\\n1\\n")
"""


@pytest.fixture
def drawing(notebooks, tmp_path):
    """A folder of results whose figures a stand-in of notebook 06 draws."""
    dummies.write_one(notebooks / "06_paper_figures.ipynb", 'tables = ""\nfigures = ""', DRAWING)
    for name in ("tables", "figures"):
        (tmp_path / "out" / name).mkdir(parents=True)
    return tmp_path / "out"


def test_a_kernel_that_dies_while_it_draws_is_started_again(drawing):
    (drawing / "tables" / "die_once").touch()
    publish.figures(drawing)
    assert (drawing / "figures" / "drawn.csv").is_file()


def test_a_kernel_that_never_draws_is_given_up_in_words(drawing, monkeypatch):
    monkeypatch.setattr(kernels, "DEATHS", 2)
    (drawing / "tables" / "die").touch()
    with pytest.raises(StudyError, match=r"06_paper_figures failed: its kernel died 2 times"):
        publish.figures(drawing)
