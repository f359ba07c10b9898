"""Signs of life: a file in the store's running/ that a running node keeps fresh.

It locks nothing: a dead worker's only grows old.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fsl_utils import StudyError, store

BEAT = 10  # seconds between two signs of life of a running node
STALE = 6 * BEAT  # without one for so long it counts as dead


@contextmanager
def kept_fresh(marker: Path) -> Iterator[None]:
    """Keep `marker` fresh while the node runs; it and the steps beside it go at the end."""
    done = threading.Event()

    def beat():
        while True:
            with suppress(OSError, StudyError):
                store.write_text(marker, f"{socket.gethostname()} {os.getpid()}\n")
            if done.wait(BEAT):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        marker.unlink(missing_ok=True)
        Path(f"{marker}.steps").unlink(missing_ok=True)
