"""Where a grid stands: one row a stage, for a terminal, a log or a notebook, and from the store alone for another terminal."""

import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator

import pandas as pd

from fsl_utils import StudyError, store
from fsl_utils.study import costs, engine, grid, worker

RECENT = 3600  # seconds over which a rate is taken
QUIET = 60  # seconds between two reports in a log


def states(nodes: list[grid.Node]) -> dict:
    """What became of each node by the store alone: folder of the finished run, or an exception for one that failed."""
    ended = grid.finished(nodes)
    for node in nodes:
        trace = store.root() / "failed" / f"{grid.name(grid.request(node))}.txt"
        if node not in ended and trace.is_file():
            ended[node] = StudyError(f"failed: see {trace}")
    return ended


def watch(nodes: list[grid.Node], events: Iterable[dict]) -> Iterator[pd.DataFrame]:
    """For each event (what became of each node so far, see `engine.run`) a table with one row a stage and one for all:
    done, running, failed, left, an_hour (finished in the last hour), hours_left (at the pace of now). NaN where not known."""
    names, times, threads = (
        {node: grid.name(grid.request(node)) for node in nodes},
        {},
        engine.share(nodes)[1],
    )
    table = costs.measured()
    guess = {node: costs.of(node, table)[0] / threads for node in nodes}  # seconds
    for ended in events:
        fresh = alive()
        for node, result in ended.items():
            if node not in times and not isinstance(result, BaseException):
                times[node] = _times(result)
        running = {node for node in nodes if node not in ended and names[node] in fresh}
        rows = [
            _row(stage, [n for n in nodes if n.stage == stage], ended, running, times, guess)
            for stage in grid.STAGES
        ]
        frame = pd.DataFrame([row for row in rows if row["of"]]).set_index("stage")
        total = frame[["done", "running", "failed", "left", "of"]].sum()
        frame.loc["all"] = total.to_dict() | {
            "an_hour": frame["an_hour"].sum(),
            "hours_left": frame["hours_left"].sum(),
        }
        yield frame.astype({name: int for name in total.index})


def alive() -> set[str]:
    """Names of the nodes that give signs of life, whichever driver they belong to."""
    folder, fresh = store.root() / "running", set()
    for entry in os.scandir(folder) if folder.is_dir() else ():
        try:
            if entry.stat().st_mtime > time.time() - worker.STALE:
                fresh.add(entry.name)
        except FileNotFoundError:
            pass  # it has just ended
    return fresh


def _times(folder) -> tuple[float, float]:
    return (folder / "manifest.json").stat().st_mtime, store.manifest(folder)["seconds"]


def _row(stage: str, nodes: list, ended: dict, running: set, times: dict, guess: dict) -> dict:
    done = [node for node in nodes if node in times]
    failed = [node for node in nodes if failure(node, ended)]
    open_ = [node for node in nodes if node not in ended]
    recent = [node for node in done if times[node][0] > time.time() - RECENT]
    spent, guessed = sum(times[node][1] for node in recent), sum(guess[node] for node in recent)
    span = time.time() - min(
        (times[node][0] - times[node][1] for node in recent), default=time.time()
    )
    # A notebook of ResNets takes longer than one of probes: what was spent corrects the guesses, not the mean.
    work = (
        sum(guess[node] for node in open_) * (spent / guessed)
        if guessed
        else sum(guess[node] or spent / max(1, len(recent)) for node in open_)
    )
    return {
        "stage": stage,
        "done": len(done),
        "running": sum(node in running for node in nodes),
        "failed": len(failed),
        "left": len(nodes) - len(done) - len(failed) - sum(node in running for node in nodes),
        "of": len(nodes),
        "an_hour": len(recent) / span * 3600 if recent else float("nan"),
        "hours_left": work / max(1, len(running)) / 3600,
    }


def failure(node: grid.Node, ended: dict) -> BaseException | None:
    """The error of a node that failed itself; None too for one that could not begin since another failed."""
    broken = isinstance(ended.get(node), BaseException) and not any(
        isinstance(ended.get(needed), BaseException) for needed in node.needs
    )
    return ended[node] if broken else None


def lines(frame: pd.DataFrame) -> list[str]:
    """The table as text, one line a stage."""

    def say(row):
        text = f"{row.Index:8} {row.done:5} of {row.of} done, {row.running} running, {row.failed} failed, {row.left} left"
        if row.hours_left:
            text += (
                f", {row.an_hour:.0f} an hour" if row.an_hour == row.an_hour else ""
            ) + f", about {duration(row.hours_left * 3600)} left"
        return text

    return [say(row) for row in frame.itertuples()]


def duration(seconds: float) -> str:
    """'40 s', '12 min', '3 h 20 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def show(nodes: list[grid.Node], events: Iterable[dict], file=None) -> dict:
    """Print where `events` (see `watch`) stand: in place on a terminal, as plain lines in a log. Returns the last event.

    In a notebook: `for frame in progress.watch(nodes, engine.run(...)): clear_output(wait=True); display(frame)`.
    """
    file = file or sys.stdout
    shown, last, event = [], -QUIET, {}

    def keep():
        nonlocal event
        for event in events:
            yield event

    def say(text):
        if not file.isatty():
            text = [f"{time.strftime('%H:%M:%S')} {line}" for line in text]
        elif shown:
            text = [
                f"\x1b[{len(shown)}F\x1b[J{text[0]}",
                *text[1:],
            ]  # up to the first line, clear what follows
        print(*text, sep="\n", file=file, flush=True)

    text = []
    for frame in watch(nodes, keep()):
        text = lines(frame)
        if text != shown and (file.isatty() or time.monotonic() - last >= QUIET):
            say(text)
            shown, last = text, time.monotonic()
    if text != shown:
        say(text)
    return event


def plan(nodes: list[grid.Node], done: set, workers: int, threads: int) -> list[str]:
    """What would run and what it will cost, as lines of text."""
    table, todo = costs.measured(), [node for node in nodes if node not in done]
    text = [
        f"{'done  ' if node in done else 'to run'}  {node.stage:8} {node.title}" for node in nodes
    ]
    for stage in grid.STAGES:
        part = [node for node in todo if node.stage == stage]
        if part:
            text.append(
                f"{stage:8} {len(part)} to run, about {duration(sum(costs.of(node, table)[0] for node in part))} of processor time"
            )
    size = sum(costs.of(node, table)[1] for node in todo)
    wall, free = (
        costs.wall(todo, table, workers, threads),
        shutil.disk_usage(_there(store.root())).free,
    )
    text.append(
        f"{len(nodes)} notebooks, {len(nodes) - len(todo)} done; the rest takes about {duration(wall)} with {workers} at a time and {threads} threads each, "
        f"and {size / 1e9:.1f} GB of disk in {store.root()} ({free / 1e9:.0f} GB are free)"
    )
    if kinds := costs.unknown(todo, table):
        text.append(f"not counted, since never measured in this store: {', '.join(kinds)}")
    return text


def _there(path):
    return path if path.exists() else _there(path.parent)
