"""One notebook through papermill, in a kernel that is started again where it dies."""

import contextvars
import os
import threading
from pathlib import Path

import papermill
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError

from fsl_utils.study import notebooks

DEATHS = 4  # of its kernel, and a notebook counts as failed (as with Dask's workers)
# What `run` raises: a cell failed, one took too long, or the kernel died too often.
FAILURES = (papermill.PapermillExecutionError, CellTimeoutError, RuntimeError)

_THREAD = threading.local()

# Else every kernel warns that it talks to its driver on this machine unencrypted.
QUIET = ["--IPKernelApp.log_level=ERROR"]


def run(
    path: str | Path,
    target: Path,
    parameters: dict,
    own: dict[str, str],
    timeout: float | None = None,
) -> None:
    """The notebook, again where its kernel dies or does not start: what it finished it finds.

    own: environment variables of its kernel. timeout: seconds a cell. Raises one of FAILURES, which
    `reason` puts in words.
    """
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
                kernel_manager_class=_manager(own),
            )
            return
        except RuntimeError as error:
            if death == DEATHS or not _died(error):
                raise


def reason(error: Exception, timeout: float | None = None) -> str:
    """Why a notebook failed, in a line."""
    if isinstance(error, papermill.PapermillExecutionError):
        return error.evalue if error.ename == "StudyError" else f"{error.ename}: {error.evalue}"
    if isinstance(error, CellTimeoutError):
        return (
            f"a cell was not done after {timeout:.0f} s and was stopped: "
            "see where it hangs, or allow more with --timeout"
        )
    if _died(error):
        return (
            f"its kernel died {DEATHS} times, as it does when memory runs out ({error}): "
            "take fewer --workers or a larger machine"
        )
    return f"{type(error).__name__}: {error}"


def _died(error: Exception) -> bool:
    """Whether nbclient says so of a kernel that died or did not start."""
    return isinstance(error, RuntimeError) and "kernel" in str(error).lower()


def literal(path: str | Path) -> str:
    """A path for papermill, which takes braces for places where parameters go."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _manager(own: dict[str, str]) -> type:
    """A kernel manager whose kernels start beside the notebooks, with their own environment."""
    # Dask sets this one for its workers; in a kernel it would make every large allocation of torch
    # ask the system anew.
    inherited = {key: value for key, value in os.environ.items() if key != "MALLOC_TRIM_THRESHOLD_"}

    class Kernel(AsyncKernelManager):
        async def start_kernel(self, **options):
            return await super().start_kernel(
                **options | {"cwd": str(notebooks.FOLDER), "env": inherited | own}
            )

    return Kernel
