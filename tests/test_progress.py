import io
import os
import time

import dummies
import pytest

from fsl_utils import StudyError, manifests, steps, store
from fsl_utils.study import costs, engine, progress
from fsl_utils.study.runs import RunRequest


@pytest.fixture
def nodes(tmp_path, own_store):
    with dummies.taken(dummies.write(tmp_path / "notebooks")):
        yield dummies.nodes([0, 1])


def finish(node, seconds: float, made: bool = True):
    """A finished run of a node, as the engine would have left it, without running anything."""
    thing = store.make(
        node.stage.removesuffix("s"),
        {"of": node.title, "stage": node.stage},
        lambda folder: (folder / "x.txt").write_text("x" * 100),
    )
    things = [f"{thing.parent.name}/{thing.name}"]

    def build(folder):
        return {
            "things": things,
            "made": things if made else [],
            "made_bytes": 100,
            "node_threads": 2,
            "cpu_seconds": 1.0,
        }

    folder = RunRequest.of(node).make(build)
    record = store.manifest(folder) | {"seconds": seconds}
    del record["digest"]
    (folder / "manifest.json").write_text(manifests.sealed(record))
    return folder


def test_a_row_a_stage_says_where_the_grid_stands(nodes, own_store):
    adapter, pool = nodes[0], nodes[1]
    finish(adapter, 60.0)
    marker = own_store / "running" / RunRequest.of(pool).name
    failed = own_store / "failed" / f"{RunRequest.of(nodes[3]).name}.txt"
    for path in (marker, failed):
        path.parent.mkdir(parents=True)
        path.touch()
    [frame] = progress.watch(nodes, [progress.states(nodes)])
    assert frame.loc["adapter", ["done", "running", "failed", "left"]].tolist() == [1, 0, 1, 0]
    assert frame.loc["pool", ["done", "running", "failed", "left"]].tolist() == [0, 1, 0, 1]
    assert frame.loc["all", ["done", "running", "failed", "left", "of"]].tolist() == [1, 1, 1, 5, 8]
    assert (
        frame.loc["adapter", "an_hour"] == pytest.approx(60, rel=0.1)
        and frame.loc["all", "hours_left"] > 0
    )
    assert progress.lines(frame)[0].startswith(
        "adapter      1 of 2 done, 0 running, 1 failed, 0 left"
    )
    os.utime(
        marker, (time.time() - 600,) * 2
    )  # its worker is dead: no sign of life for ten minutes
    [frame] = progress.watch(nodes, [progress.states(nodes)])
    assert frame.loc["pool", ["running", "left"]].tolist() == [0, 2]


def test_a_failure_that_was_mended_is_no_longer_one(nodes, own_store):
    failed = own_store / "failed" / f"{RunRequest.of(nodes[0]).name}.txt"
    failed.parent.mkdir(parents=True)
    failed.touch()
    assert isinstance(progress.states(nodes)[nodes[0]], StudyError)
    finish(nodes[0], 1.0)
    assert progress.states(nodes)[nodes[0]].is_dir()


def test_a_log_is_plain_and_a_terminal_written_in_place(nodes):
    events = [{}, {nodes[0]: finish(nodes[0], 1.0)}]

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    log, terminal = io.StringIO(), Terminal()
    assert progress.show(nodes, events, log) is events[1]
    progress.show(nodes, events, terminal)
    assert (
        "\x1b" not in log.getvalue() and log.getvalue().count("\n") == 10
    )  # five lines at the start and at the end
    assert terminal.getvalue().count("\x1b[5F\x1b[J") == 1 and "1 of 2 done" in terminal.getvalue()


@pytest.mark.parametrize(
    "seconds, words",
    [(0, "0 s"), (89, "89 s"), (91, "2 min"), (3599, "1 h 00 min"), (7260, "2 h 01 min")],
)
def test_durations_in_words(seconds, words):
    assert progress.duration(seconds) == words


def test_a_plan_takes_the_mean_of_finished_runs(nodes, own_store):
    adapter, pool, cells = nodes[:3]
    assert costs.of(adapter, costs.measured()) == costs.SHIPPED["adapter mini at 64"]
    finish(adapter, 100.0)
    finish(nodes[3], 200.0)
    assert costs.of(adapter, costs.measured())[0] == pytest.approx(300)  # two threads
    finish(pool, 1.0, made=False)  # found everything in the store: no measurement
    assert costs.of(pool, costs.measured()) == costs.SHIPPED["pool mini at 64"]
    table = {
        "adapter mini at 64": (400.0, 1e6),
        "pool mini at 64": (0.0, 0.0),
        "cells probe at 64": (100.0, 0.0),
        "report mini at 64": (0.0, 0.0),
    }
    assert costs.of(cells, table)[0] == 100
    assert costs.wall(nodes, table, 2, 1) == 500  # 400 steps, then the cells: either chain alone
    assert costs.wall(nodes, table, 1, 1) == 1000 and costs.wall(nodes, table, 1, 2) == 500
    text = progress.plan(nodes, set(), 2, 1)
    assert (
        sum(line.startswith("to run") for line in text) == 8 and "8 notebooks, 0 done" in text[-1]
    )
    assert costs.unknown(nodes, {"adapter mini at 64": (1.0, 1.0)}) == [
        "cells probe at 64",
        "pool mini at 64",
        "report mini at 64",
    ]


def test_a_running_notebook_says_its_own_step_and_time_left_moves(nodes, own_store, monkeypatch):
    marker = own_store / "running" / RunRequest.of(nodes[0]).name
    marker.parent.mkdir(parents=True)
    marker.touch()
    monkeypatch.setattr(steps, "PATIENCE", 0)
    monkeypatch.setenv("FSL_STEPS", f"{marker}.steps")
    left = []
    for number in steps.bar(range(400), 400, "fine-tuning"):
        if number in (1, 101, 301):
            [frame] = progress.watch(nodes, [{}])
            left.append(frame.loc["adapter", "hours_left"])
            said = progress.lines(frame)[-1]
            assert said == f"  {nodes[0].title}: fine-tuning, {number:,} of 400"
    first = costs.SHIPPED["adapter mini at 64"][0]  # core-seconds of either adapter
    shares = (1, 0.75, 0.25)
    assert left == pytest.approx([left[0] * (1 + share) / 2 for share in shares], rel=0.01)
    assert left[0] == pytest.approx(2 * first / engine.share(nodes)[1] / 3600, rel=0.01)


def test_a_mark_from_tomorrow_is_no_sign_of_life(nodes, own_store):
    marker = own_store / "running" / RunRequest.of(nodes[0]).name
    marker.parent.mkdir(parents=True)
    marker.touch()
    assert set(progress.alive()) == {marker.name}
    os.utime(marker, (time.time() + 86400,) * 2)
    assert not progress.alive()
