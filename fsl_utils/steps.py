"""A long step of a notebook: one bar with number, rate and time left, also for whoever runs it."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from IPython.core.getipython import get_ipython
from IPython.display import display
from tqdm import tqdm

from fsl_utils import StudyError
from fsl_utils.files import write_text

PATIENCE = 1.0  # seconds before a bar is shown, and between two looks at it

Step = TypeVar("Step")


def bar(
    steps: Iterable[Step],
    total: int,
    what: str,
    unit: str = "step",
    size: Callable[[Step], int] = lambda step: 1,
) -> Iterator[Step]:
    """`steps` with a bar: text in place, which a saved notebook keeps; none for what is there at
    once. FSL_STEPS names a file that says the same to the grid that runs the notebook.

    A step counts as `size` says, or says itself with its `number` where a resumed run stands.
    """
    begin = last = time.monotonic()
    number, first = 0, 0
    shown: Any = None  # the notebook's handle of it
    for i, step in enumerate(steps):
        yield step
        said = getattr(step, "number", None)  # of a table that would be a column
        number = said if isinstance(said, int) else number + size(step)
        first = number if i == 0 else first
        now = time.monotonic()
        if now - last < PATIENCE and not (number >= total and shown):
            continue
        last = now
        meter = tqdm.format_meter(
            number, total, now - begin, prefix=what, unit=unit, ncols=80, initial=first
        )
        if get_ipython() is None:
            end = "\n" if number >= total else ""
            print(f"\r{meter}", end=end, file=sys.stderr, flush=True)
            shown = True
        elif shown:
            shown.update({"text/plain": meter}, raw=True)
        else:
            shown = display({"text/plain": meter}, raw=True, display_id=True)
        if path := os.environ.get("FSL_STEPS"):
            with suppress(OSError, StudyError):  # work matters more than the word of it
                write_text(Path(path), f"{number} {total} {what}\n")
