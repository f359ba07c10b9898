"""One node on a worker: its notebook through papermill, in a kernel of its own."""

import resource
import shutil
import socket
import traceback
from contextlib import suppress
from pathlib import Path

import papermill

from fsl_utils import StudyError, store
from fsl_utils.study import kernels, markers, notebooks
from fsl_utils.study.runs import RunRequest

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


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
            own = dict.fromkeys(THREADS, str(threads))
            own |= {"FSL_RECORD": str(record), "FSL_STEPS": f"{marker}.steps"}
            kernels.run(snapshot, target, request.values, own, timeout)
            lines = [line.split() for line in record.read_text().splitlines()]
        except kernels.FAILURES as error:
            raise _failure(error, name, target, timeout) from None
        finally:
            record.unlink()
        return _facts(lines, before, target) | {"node_threads": threads, "host": host}

    marker = store.opened() / "running" / name
    with markers.kept_fresh(marker):
        request.make(build)
    for kept in (store.root() / "failed").glob(f"{name}.*"):
        kept.unlink(missing_ok=True)


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


def _failure(error: Exception, name: str, target: Path, timeout: float | None) -> StudyError:
    """Keep a failed notebook and its traceback; returns what to raise."""
    text, what = traceback.format_exc(), kernels.reason(error, timeout)
    if isinstance(error, papermill.PapermillExecutionError):
        text = "\n".join(error.traceback)
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
