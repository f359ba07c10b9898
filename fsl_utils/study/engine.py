"""The engine: Dask runs a grid's nodes, each a papermill run in a kernel of its own.

A node starts when what it needs is done, on this machine's cores or on a running cluster. Dask does the queueing,
priorities (what the grid file lists first comes first), retries, resources, and moves the work of a worker that dies.
Nothing is decided by who is running what: a node that two drivers run at once leaves one whole result.
"""

import os
import resource
import shutil
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dask
import papermill
from dask.system import CPU_COUNT
from distributed import Client, KilledWorker, LocalCluster, as_completed
from distributed.system import MEMORY_LIMIT
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError

from fsl_utils import StudyError, store
from fsl_utils.study import grid

NODE_MEMORY = 2 * 2**30  # bytes a notebook may need: the quickstart's largest takes 1.5 GiB
BEAT = 10  # seconds between two signs of life of a running node
STALE = 6 * BEAT  # without one for so long it counts as dead

QUIET = [
    "--IPKernelApp.log_level=ERROR"
]  # else every kernel warns that it talks to its driver on this machine unencrypted

# A laptop that slept or a busy machine is no reason to give a worker up; one whose process died is noticed at once.
# Every node is sent to a worker's own queue, which goes by priority: held back by the scheduler (the default), nodes that need
# nothing would wait until all that is ready anywhere in the file is done.
SETTINGS = {
    "distributed.scheduler.worker-ttl": None,
    "distributed.comm.timeouts.connect": "120s",
    "distributed.comm.timeouts.tcp": "120s",
    "distributed.scheduler.worker-saturation": float("inf"),
}


def share(nodes: list[grid.Node]) -> tuple[int, int]:
    """(workers, threads a node) for this machine, from the whole grid and not from what is left of it: the same at every start.

    As many workers as nodes can begin at once, at most one a core and as memory allows; each has its part of the cores.
    Where nodes ask for a GPU, one worker: there may be a single one.
    """
    begin = 1 if asks_gpu(nodes) else sum(not node.needs for node in nodes)
    workers = max(1, min(begin, CPU_COUNT, MEMORY_LIMIT // NODE_MEMORY))
    return workers, max(1, CPU_COUNT // workers)


def asks_gpu(nodes: list[grid.Node]) -> bool:
    """Whether a node has device 'cuda'."""
    return any(node.values["device"] == "cuda" for node in nodes)


@contextmanager
def cluster(workers: int, scheduler: str = "", gpu: bool = False) -> Iterator[Client]:
    """A Dask client: of `workers` processes on this machine, or of the running cluster at `scheduler` (tcp://host:port).

    `gpu`: each local worker may run a node that asks for a GPU. Raises StudyError where no scheduler answers.
    """
    if scheduler:
        try:
            client = Client(scheduler, timeout="10s")
        except (OSError, ValueError) as error:
            raise StudyError(
                f"no Dask scheduler answers at {scheduler} ({error}): start one with `dask scheduler`, or leave --scheduler out"
            ) from error
        with client:
            yield client
        return
    with (
        dask.config.set(SETTINGS),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=None,
            resources={"GPU": 1} if gpu else None,
            dashboard_address="127.0.0.1:0",
            silence_logs="CRITICAL",
        ) as local,
        Client(local) as client,
    ):
        yield client


def run(
    nodes: list[grid.Node],
    client: Client,
    *,
    threads: int,
    timeout: float | None = None,
    retries: int = 0,
) -> Iterator[dict]:
    """Run those nodes that are not finished; yields about twice a second what became of each.

    Yields one dict again and again, node -> folder of the finished run, or an exception where it failed (for a node
    that could not begin, that of the node it needs). `timeout`: seconds that one cell of a notebook may take.
    A node with device 'cuda' takes one of the resource 'GPU', which workers declare. Raises StudyError where the scheduler is lost.
    """
    requests = {node: grid.request(node) for node in nodes}
    ended = grid.finished(nodes)
    futures = {}
    for i, node in enumerate(nodes):
        if node in ended:
            continue
        futures[node] = client.submit(
            execute,
            requests[node],
            str(grid.source(requests[node]["notebook"])),
            str(store.root()),
            threads,
            timeout,
            [futures[needed] for needed in node.needs if needed in futures],
            key=f"{node.stage}-{store.key('run', requests[node])}",
            priority=-i,
            retries=retries,
            resources={"GPU": 1} if node.values["device"] == "cuda" else None,
            pure=False,
        )
    by_key = {future.key: node for node, future in futures.items()}
    completed = as_completed(futures.values())
    yield ended
    while len(ended) < len(nodes):
        time.sleep(0.5)
        for future in completed.next_batch(block=False):
            node = by_key[future.key]
            if future.status == "cancelled" or future.status == "lost":
                raise StudyError(
                    "the Dask scheduler is lost: what is finished is kept; start it and run the same command again"
                )
            ended[node] = (
                Path(future.result())
                if future.status == "finished"
                else explained(future.exception(), node)
            )
        yield ended


def explained(error: BaseException, node: grid.Node) -> BaseException:
    """A node's error; where Dask gave up on it because its workers died, in words that help."""
    if isinstance(error, KilledWorker):
        return StudyError(
            f"{grid.STAGES[node.stage]} ({node.title}): its worker died {dask.config.get('distributed.scheduler.allowed-failures') + 1} times "
            "while it ran, as it does when memory runs out: take fewer --workers or larger machines"
        )
    return error


def execute(
    request: dict, source: str, root: str, threads: int, timeout: float | None, needs: list
) -> str:
    """One node, called on a worker: run its notebook unless that is done; returns the folder of the finished run.

    The executed copy and the list of the things that it made and used are kept. Raises StudyError with the notebook's
    own last line where it fails; then the failed copy and the traceback are kept in the store's failed/.
    """
    if str(store.root()) != root:
        raise StudyError(
            f"the worker on {socket.gethostname()} has its store at {store.root()}: start it with FSL_STORE={root}, on a shared file system"
        )
    if store.sha256(Path(source)) != request["source"]:
        raise StudyError(
            f"{source} on {socket.gethostname()} is not the notebook that this grid began with: run the same command again"
        )
    name = grid.name(request)

    def build(folder: Path) -> dict:
        target, record = (
            folder / f"{request['notebook']}.ipynb",
            folder.with_name(f"{folder.name}.record"),
        )
        record.touch()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            papermill.execute_notebook(
                source,
                target,
                request["parameters"],
                kernel_name="python3",
                progress_bar=False,
                start_timeout=600,
                execution_timeout=timeout,
                extra_arguments=QUIET,
                kernel_manager_class=_kernel(Path(source).parent, record, threads),
            )
        except (
            papermill.PapermillExecutionError,
            CellTimeoutError,
            RuntimeError,
        ) as error:  # nbclient's of a kernel that dies or does not start
            raise _failure(error, name, target, timeout) from None
        finally:
            lines = [line.split() for line in record.read_text().splitlines()]
            record.unlink()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        made = sorted({thing for what, thing in lines if what == "made"})
        size = sum(sum(store.manifest(store.root() / thing)["bytes"].values()) for thing in made)
        return {
            "things": sorted({thing for _, thing in lines}),
            "made": made,
            "made_bytes": size + target.stat().st_size,
            "node_threads": threads,
            "cpu_seconds": round(
                after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2
            ),
            "peak_memory": after.ru_maxrss
            * 1024,  # of this worker's largest kernel so far; Linux counts in KiB
            "host": socket.gethostname(),
        }

    with _alive(store.root() / "running" / name):
        folder = store.make("run", request, build)
    for kept in (store.root() / "failed").glob(f"{name}.*"):
        kept.unlink(missing_ok=True)
    return str(folder)


def _kernel(folder: Path, record: Path, threads: int) -> type:
    """A kernel manager whose kernels start in `folder` with settings of their own: nodes in one process share no environment."""
    own = {
        "FSL_RECORD": str(record),
        **{
            name: str(threads)
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        },
    }

    # Dask sets this one for its workers; in a kernel it would make every large allocation of torch ask the system anew.
    inherited = {key: value for key, value in os.environ.items() if key != "MALLOC_TRIM_THRESHOLD_"}

    class Kernel(AsyncKernelManager):
        async def start_kernel(self, **options):
            return await super().start_kernel(
                **options | {"cwd": str(folder), "env": inherited | own}
            )

    return Kernel


def _failure(error: Exception, name: str, target: Path, timeout: float | None) -> StudyError:
    """Keep a failed notebook and its traceback; returns what to raise."""
    kept = store.root() / "failed"
    what = (
        f"{error.ename}: {error.evalue}"
        if isinstance(error, papermill.PapermillExecutionError)
        else str(error)
    )
    if isinstance(error, papermill.PapermillExecutionError) and error.ename == "StudyError":
        what = error.evalue
    elif isinstance(error, CellTimeoutError):
        what = f"a cell was not done after {timeout:.0f} s and was stopped: see where it hangs, or allow more with --timeout"
    elif isinstance(error, RuntimeError):
        what = f"its kernel died, as it does when memory runs out ({error}): take fewer --workers or a larger machine"
    with suppress(OSError):  # of a full disk the message matters, not the copy
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy(target, kept / f"{name}.ipynb")
        text = (
            "\n".join(error.traceback)
            if isinstance(error, papermill.PapermillExecutionError)
            else traceback.format_exc()
        )
        (kept / f"{name}.txt").write_text(text)
    return StudyError(
        f"{name.rsplit('-', 1)[0]} failed: {what} [notebook: {kept / name}.ipynb, traceback: {kept / name}.txt]"
    )


@contextmanager
def _alive(marker: Path) -> Iterator[None]:
    """Keep `marker` fresh while the node runs. It locks nothing: a dead worker's only grows old."""
    done = threading.Event()

    def beat():
        while True:
            with suppress(OSError):
                marker.parent.mkdir(parents=True, exist_ok=True)
                marker.write_text(f"{socket.gethostname()} {os.getpid()}\n")
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
