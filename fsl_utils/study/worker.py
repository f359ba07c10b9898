"""One node on a worker: its notebook through papermill, in a kernel of its own."""

import contextvars
import os
import resource
import shutil
import socket
import threading
import traceback
from contextlib import suppress
from pathlib import Path

import papermill
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError

from fsl_utils import StudyError, store
from fsl_utils.study import markers, notebooks
from fsl_utils.study.runs import RunRequest

DEATHS = 4  # of its kernel, and a node counts as failed (as with Dask's workers)

_THREAD = threading.local()

# Else every kernel warns that it talks to its driver on this machine unencrypted.
QUIET = ["--IPKernelApp.log_level=ERROR"]


def execute(
    request: RunRequest, snapshot: str, root: str, threads: int, timeout: float | None, needs: list
) -> None:
    """One node, called on a worker: run its notebook unless that is done.

    The executed copy and the list of what it made and used are kept. Raises StudyError with the
    notebook's own last line where it fails; then the failed copy and the traceback are kept in the
    store's failed/.
    """
    host, name = socket.gethostname(), request.name
    if str(store.root()) != root:
        raise StudyError(
            f"the worker on {host} has its store at {store.root()}: "
            f"start it with FSL_STORE={root}, on a shared file system"
        )
    if notebooks.read(Path(snapshot))[1] != request.code:
        raise StudyError(f"{snapshot} has changed: run the same command again")

    def build(folder: Path) -> dict:
        record = folder.with_name(f"{folder.name}.record")
        record.touch()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        target = folder / f"{request.notebook}.ipynb"
        try:
            kernel = _kernel(threads, FSL_RECORD=str(record), FSL_STEPS=f"{marker}.steps")
            _run(snapshot, target, request.values, kernel, timeout)
            lines = [line.split() for line in record.read_text().splitlines()]
        except (papermill.PapermillExecutionError, CellTimeoutError, RuntimeError) as error:
            raise _failure(error, name, target, timeout) from None
        finally:
            record.unlink()
        return _facts(lines, before, target) | {"node_threads": threads, "host": host}

    marker = store.opened() / "running" / name
    with markers.kept_fresh(marker):
        request.make(build)
    for kept in (store.root() / "failed").glob(f"{name}.*"):
        kept.unlink(missing_ok=True)


def _run(path: str, target: Path, parameters: dict, kernel: type, timeout: float | None) -> None:
    """The notebook, again where its kernel dies or does not start: what it finished it finds."""
    if not hasattr(_THREAD, "context"):  # nbclient's event loop is this thread's own
        _THREAD.context = contextvars.Context()
    for death in range(1, DEATHS + 1):
        try:
            _THREAD.context.run(
                papermill.execute_notebook,
                literal(path),
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
        except RuntimeError as error:
            if death == DEATHS or not _died(error):
                raise


def _died(error: Exception) -> bool:
    """Whether nbclient says so of a kernel that died or did not start."""
    return isinstance(error, RuntimeError) and "kernel" in str(error).lower()


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


def _kernel(threads: int, **own: str) -> type:
    """A kernel manager whose kernels start beside the notebooks, with their own environment."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        own[name] = str(threads)
    # Dask sets this one for its workers; in a kernel it would make every large allocation of torch
    # ask the system anew.
    inherited = {key: value for key, value in os.environ.items() if key != "MALLOC_TRIM_THRESHOLD_"}

    class Kernel(AsyncKernelManager):
        async def start_kernel(self, **options):
            return await super().start_kernel(
                **options | {"cwd": str(notebooks.FOLDER), "env": inherited | own}
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
    elif _died(error):
        what = (
            f"its kernel died {DEATHS} times, as it does when memory runs out ({error}): "
            "take fewer --workers or a larger machine"
        )
    else:
        what = f"{type(error).__name__}: {error}"
    if getattr(error, "ename", "") in ("KeyboardInterrupt", "Interrupted"):
        return StudyError(f"{name.rsplit('-', 1)[0]} was interrupted")
    kept = store.opened() / "failed"
    with suppress(OSError, StudyError):  # of a full disk the message matters, not the copy
        store.write_whole(kept / f"{name}.ipynb", lambda partial: shutil.copy(target, partial))
        store.write_text(kept / f"{name}.txt", text)
    return StudyError(
        f"{name.rsplit('-', 1)[0]} failed: {what} "
        f"[notebook: {kept / name}.ipynb, traceback: {kept / name}.txt]"
    )
