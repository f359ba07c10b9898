"""Where a grid stands: one row a stage, for a terminal, a log, a notebook; from the store alone
for another terminal."""

import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fsl_utils import StudyError, store
from fsl_utils.study import costs, engine, grid, markers
from fsl_utils.study.runs import RunRequest, finished

RECENT = 3600  # seconds over which a rate is taken
QUIET = 60  # seconds between two reports in a log
SHOWN = 8  # running notebooks whose step is named


class Step(NamedTuple):
    """Where a running notebook is; total 0 where it did not say."""

    number: int = 0
    total: int = 0
    what: str = ""

    @property
    def left(self) -> float:
        """Share of its time that is to come, by its step alone."""
        return 1 - self.number / self.total if self.total else 1.0


def states(nodes: list[grid.Node]) -> dict:
    """What became of each node by the store alone: folder of the finished run, or an exception for
    one that failed."""
    ended: dict[grid.Node, Path | BaseException] = {**finished(nodes)}
    for node in nodes:
        trace = store.root() / "failed" / f"{RunRequest.of(node).name}.txt"
        if node not in ended and trace.is_file():
            ended[node] = StudyError(f"failed: see {trace}")
    return ended


def watch(nodes: list[grid.Node], events: Iterable[dict]) -> Iterator[pd.DataFrame]:
    """For each event (what became of each node so far, see `engine.run`) a table with one row a
    stage and one for all: done, running, failed, left, an_hour (finished in the last hour),
    hours_left (at the pace of now), NaN where not known. Its attribute `running` has the `Step` of
    each running node.
    """
    names = {node: RunRequest.of(node).name for node in nodes}
    threads, table = engine.share(nodes)[1], costs.measured()
    guess = {node: costs.of(node, table)[0] / threads for node in nodes}  # seconds
    times: dict[grid.Node, tuple[float, float]] = {}
    for ended in events:
        fresh = alive()
        for node, result in ended.items():
            if node not in times and not isinstance(result, BaseException):
                times[node] = _times(result)
        running = {
            node: fresh[names[node]] for node in nodes if node not in ended and names[node] in fresh
        }
        rows = [
            _row(stage, [n for n in nodes if n.stage == stage], ended, running, times, guess)
            for stage in grid.STAGES
        ]
        frame = pd.DataFrame([row for row in rows if row["of"]]).set_index("stage")
        total = frame[["done", "running", "failed", "left", "of"]].sum()
        hours = frame[["an_hour", "hours_left"]].sum()
        frame.loc["all"] = total.to_dict() | hours.to_dict()
        frame = frame.astype(dict.fromkeys(total.index, int))
        frame.attrs["running"] = {node.title: step for node, step in running.items()}
        yield frame


def alive() -> dict[str, Step]:
    """Names of the nodes that give signs of life, whichever driver they belong to, and where each
    is. A mark from the future, as a machine with a wrong clock leaves it, is none."""
    folder, fresh = store.root() / "running", {}
    if not folder.is_dir():
        return fresh
    now = store.clock() or time.time()
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):  # it has just ended
            if abs(now - entry.stat(follow_symlinks=False).st_mtime) < markers.STALE:
                fresh[entry.name] = _step(Path(f"{entry.path}.steps"))
    return fresh


def _step(path: Path) -> Step:
    with suppress(OSError, ValueError):
        with store.files.plain(path) as file:
            number, total, what = file.read(200).decode().split(maxsplit=2)
        return Step(min(int(number), int(total)), int(total), what.strip())
    return Step()


def _times(folder: Path) -> tuple[float, float]:
    return (folder / "manifest.json").stat().st_mtime, store.manifest(folder)["seconds"]


def _row(stage: str, nodes: list, ended: dict, running: dict, times: dict, guess: dict) -> dict:
    done = [node for node in nodes if node in times]
    failed = [node for node in nodes if failure(node, ended)]
    begun = [node for node in nodes if node in running]
    recent = [node for node in done if times[node][0] > time.time() - RECENT]
    spent, guessed = sum(times[node][1] for node in recent), sum(guess[node] for node in recent)
    begin = min((times[node][0] - times[node][1] for node in recent), default=time.time())
    # What was spent corrects the guesses, not the mean: some notebooks take longer than others.
    pace, mean = (spent / guessed if guessed else 1.0), spent / max(1, len(recent))
    work = sum(
        (guess[node] * pace or mean) * (running[node].left if node in running else 1.0)
        for node in nodes
        if node not in ended
    )
    return {
        "stage": stage,
        "done": len(done),
        "running": len(begun),
        "failed": len(failed),
        "left": len(nodes) - len(done) - len(failed) - len(begun),
        "of": len(nodes),
        "an_hour": len(recent) / (time.time() - begin) * 3600 if recent else float("nan"),
        "hours_left": work / max(1, len(running)) / 3600,
    }


def failure(node: grid.Node, ended: dict) -> BaseException | None:
    """The error of a node that failed itself; None too where what it needs failed."""
    broken = isinstance(ended.get(node), BaseException) and not any(
        isinstance(ended.get(needed), BaseException) for needed in node.needs
    )
    return ended[node] if broken else None


def lines(frame: pd.DataFrame) -> list[str]:
    """The table as text, one line a stage, then one for each running notebook's own step."""
    text = []
    for row in frame.itertuples():
        line = (
            f"{row.Index:8} {row.done:5} of {row.of} done, {row.running} running, "
            f"{row.failed} failed, {row.left} left"
        )
        if row.hours_left:
            rate = f", {row.an_hour:.0f} an hour" if row.an_hour > 0 else ""
            line += f"{rate}, about {duration(row.hours_left * 3600)} left"
        text.append(line)
    steps = [
        f"  {title}: {step.what}, {step.number:,} of {step.total:,}"
        for title, step in frame.attrs["running"].items()
        if step.total
    ]
    return text + steps[:SHOWN]


def duration(seconds: float) -> str:
    """'40 s', '12 min', '3 h 20 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def show(nodes: list[grid.Node], events: Iterable[dict], file=None) -> dict:
    """Print where `events` (see `watch`) stand: in place on a terminal, as plain lines in a log.

    Returns the last event. In a notebook:
    `for frame in progress.watch(nodes, engine.run(...)): clear_output(wait=True); display(frame)`.
    """
    file = file or sys.stdout
    seen, shown, last = [{}], [], -float("inf")

    def say(text: list[str]) -> None:
        if not file.isatty():
            text = [f"{time.strftime('%H:%M:%S')} {line}" for line in text]
        elif shown:  # up to the first line, clear what follows
            text = [f"\x1b[{len(shown)}F\x1b[J{text[0]}", *text[1:]]
        print(*text, sep="\n", file=file, flush=True)

    def kept() -> Iterator[dict]:
        for event in events:
            seen[0] = event
            yield event

    text = []
    for frame in watch(nodes, kept()):
        text = lines(frame)
        if text != shown and (file.isatty() or time.monotonic() - last >= QUIET):
            say(text)
            shown, last = text, time.monotonic()
    if text != shown:
        say(text)
    return seen[0]


def plan(nodes: list[grid.Node], done: set, workers: int, threads: int) -> list[str]:
    """What would run and what it will cost, as lines of text."""
    table, todo = costs.measured(), [node for node in nodes if node not in done]
    text = [
        f"{'done  ' if node in done else 'to run'}  {node.stage:8} {node.title}" for node in nodes
    ]
    for stage in grid.STAGES:
        if part := [costs.of(node, table)[0] for node in todo if node.stage == stage]:
            spent = duration(sum(part))
            text.append(f"{stage:8} {len(part)} to run, about {spent} of processor time")
    size = sum(costs.of(node, table)[1] for node in todo)
    time_left = duration(costs.wall(todo, table, workers, threads))
    free = shutil.disk_usage(_there(store.root())).free
    text.append(
        f"{len(nodes)} notebooks, {len(nodes) - len(todo)} done; the rest takes about {time_left} "
        f"with {workers} at a time and {threads} threads each, and {size / 1e9:.1f} GB of disk in "
        f"{store.root()} ({free / 1e9:.0f} GB are free)"
    )
    if kinds := costs.unknown(todo, table):
        text.append(f"not counted, since never measured in this store: {', '.join(kinds)}")
    return text


def _there(path: Path) -> Path:
    return path if path.exists() else _there(path.parent)
