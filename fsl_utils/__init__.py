"""Does few-shot synthetic data help a rare class? The package behind the notebooks."""

import logging
from pathlib import Path

logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(
    logging.ERROR
)  # on a CPU it warns of a kernel that nothing here uses

__version__ = "0.1.0"

ROOT = Path(__file__).resolve().parents[1]  # the clone: notebooks/, results/, store/


class StudyError(Exception):
    """Something the user can mend. The message is one line: what, which value, how to mend it."""

    def _render_traceback_(self) -> list[str]:  # in a notebook too it is one line
        return [f"StudyError: {self}"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. The message is one line: what is kept and how to go on."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]
