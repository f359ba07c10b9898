"""One node on a worker: its notebook through papermill, in a kernel of its own."""

import os
import resource
import shutil
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import papermill
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError

from fsl_utils import StudyError, store
from fsl_utils.study import grid

BEAT = 10  # seconds between two signs of life of a running node
STALE = 6 * BEAT  # without one for so long it counts as dead
DEATHS = 4  # of its kernel, and a node counts as failed (as with Dask's workers)

# Else every kernel warns that it talks to its driver on this machine unencrypted.
QUIET = ["--IPKernelApp.log_level=ERROR"]


def execute(
    request: dict, source: str, root: str, threads: int, timeout: float | None, needs: list
) -> str:
    """One node, called on a worker: run its notebook unless that is done; returns its folder.

    The executed copy and the list of what it made and used are kept. Raises StudyError with the
    notebook's own last line where it fails; then the failed copy and the traceback are kept in the
    store's failed/.
    """
    host, name = socket.gethostname(), grid.name(request)
    if str(store.root()) != root:
        raise StudyError(
            f"the worker on {host} has its store at {store.root()}: "
            f"start it with FSL_STORE={root}, on a shared file system"
        )
    if store.sha256(Path(source)) != request["source"]:
        raise StudyError(
            f"{source} on {host} is not the notebook that this grid began with: "
            "run the same command again"
        )

    def build(folder: Path) -> dict:
        record = folder.with_name(f"{folder.name}.record")
        record.touch()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        target = folder / f"{request['notebook']}.ipynb"
        try:
            kernel = _kernel(Path(source).parent, record, threads)
            _run(source, target, request["parameters"], kernel, timeout)
            lines = [line.split() for line in record.read_text().splitlines()]
        except (papermill.PapermillExecutionError, CellTimeoutError, RuntimeError) as error:
            raise _failure(error, name, target, timeout) from None
        finally:
            record.unlink()
        return _facts(lines, before, target) | {"node_threads": threads, "host": host}

    with _alive(store.opened() / "running" / name):
        folder = store.make("run", request, build)
    for kept in (store.root() / "failed").glob(f"{name}.*"):
        kept.unlink(missing_ok=True)
    return str(folder)


def _run(source: str, target: Path, parameters: dict, kernel: type, timeout: float | None) -> None:
    """The notebook, again where its kernel dies or does not start: what it finished it finds."""
    for death in range(1, DEATHS + 1):
        try:
            papermill.execute_notebook(
                literal(source),
                literal(target),
                parameters,
                kernel_name="python3",
                progress_bar=False,
                start_timeout=600,
                execution_timeout=timeout,
                extra_arguments=QUIET,
                kernel_manager_class=kernel,
            )
            return
        except RuntimeError:  # nbclient's, of a kernel that dies or does not start
            if death == DEATHS:
                raise


def literal(path: str | Path) -> str:
    """A path for papermill, which takes braces for places where parameters go."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _facts(lines: list[list[str]], before: resource.struct_rusage, target: Path) -> dict:
    """What a run made and used (lines of FSL_RECORD) and what it cost since `before`."""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    made = sorted({thing for what, thing in lines if what == "made"})
    size = sum(sum(store.manifest(store.root() / thing)["bytes"].values()) for thing in made)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "things": sorted({thing for _, thing in lines}),
        "made": made,
        "made_bytes": size + target.stat().st_size,
        "cpu_seconds": round(seconds, 2),
        # of this worker's largest kernel so far; Linux counts in KiB
        "peak_memory": after.ru_maxrss * 1024,
    }


def _kernel(folder: Path, record: Path, threads: int) -> type:
    """A kernel manager whose kernels start in `folder` with an environment of their own."""
    own = {
        "FSL_RECORD": str(record),
        **{
            name: str(threads)
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        },
    }

    # Dask sets this one for its workers; in a kernel it would make every large allocation of torch
    # ask the system anew.
    inherited = {key: value for key, value in os.environ.items() if key != "MALLOC_TRIM_THRESHOLD_"}

    class Kernel(AsyncKernelManager):
        async def start_kernel(self, **options):
            return await super().start_kernel(
                **options | {"cwd": str(folder), "env": inherited | own}
            )

    return Kernel


def _failure(error: Exception, name: str, target: Path, timeout: float | None) -> StudyError:
    """Keep a failed notebook and its traceback; returns what to raise."""
    text = traceback.format_exc()
    if isinstance(error, papermill.PapermillExecutionError):
        text = "\n".join(error.traceback)
        what = error.evalue if error.ename == "StudyError" else f"{error.ename}: {error.evalue}"
    elif isinstance(error, CellTimeoutError):
        what = (
            f"a cell was not done after {timeout:.0f} s and was stopped: "
            "see where it hangs, or allow more with --timeout"
        )
    else:
        what = (
            f"its kernel died {DEATHS} times, as it does when memory runs out ({error}): "
            "take fewer --workers or a larger machine"
        )
    kept = store.opened() / "failed"
    with suppress(OSError, StudyError):  # of a full disk the message matters, not the copy
        store.write_whole(kept / f"{name}.ipynb", lambda partial: shutil.copy(target, partial))
        store.write_text(kept / f"{name}.txt", text)
    return StudyError(
        f"{name.rsplit('-', 1)[0]} failed: {what} "
        f"[notebook: {kept / name}.ipynb, traceback: {kept / name}.txt]"
    )


@contextmanager
def _alive(marker: Path) -> Iterator[None]:
    """Keep `marker` fresh while the node runs. It locks nothing: a dead worker's only grows old."""
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
