"""The engine: Dask runs a grid's nodes, each a papermill run in a kernel of its own.

A node starts when what it needs is done, on this machine's cores or on a running cluster. Dask
does the queueing, priorities (what the grid file lists first comes first), retries, resources,
and moves the work of a worker that dies. Nothing is decided by who is running what: a node that
two drivers run at once leaves one whole result.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import dask
import psutil
from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, LocalCluster
from distributed.system import MEMORY_LIMIT

from fsl_utils import StudyError, store
from fsl_utils.study import grid, notebooks
from fsl_utils.study.runs import RunRequest, finished

NODE_MEMORY = 2 * 2**30  # bytes a notebook may need: the quickstart's largest takes 1.7 GiB

GRACE = 20  # seconds for the checkpoints of what is interrupted
ANSWER = "10s"  # within which a scheduler answers

# Ctrl-C reaches a worker's process too; its notebooks end by the driver's word, and it after them.
# A worker that is a thread, as in a test, has no signals of its own.
_DEAF = """
import signal, threading
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, lambda *_: None)
"""
# A laptop that slept or a busy machine is no reason to give a worker up; one whose process died is
# noticed at once. Every node is sent to a worker's own queue, which goes by priority: held back by
# the scheduler (the default), nodes that need nothing would wait until all that is ready anywhere
# in the file is done.
SETTINGS = {
    "distributed.scheduler.worker-ttl": None,
    "distributed.comm.timeouts.connect": "120s",
    "distributed.comm.timeouts.tcp": "120s",
    "distributed.scheduler.worker-saturation": float("inf"),
    # Nothing is served over HTTP, where anybody on this machine could look.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.preload": [_DEAF],
}


def share(nodes: list[grid.Node]) -> tuple[int, int]:
    """(workers, threads a node) for this machine, from the whole grid: the same at every start.

    As many workers as nodes can begin at once, at most one a core and as memory allows; each has
    its part of the cores. Where nodes ask for a GPU, one worker: there may be a single one.
    """
    begin = 1 if asks_gpu(nodes) else sum(not node.needs for node in nodes)
    workers = max(1, min(begin, CPU_COUNT, MEMORY_LIMIT // NODE_MEMORY))
    return workers, max(1, CPU_COUNT // workers)


def asks_gpu(nodes: list[grid.Node]) -> bool:
    """Whether a node has device 'cuda'."""
    return any(node.values["device"] == "cuda" for node in nodes)


@contextmanager
def cluster(workers: int, scheduler: str = "", gpu: bool = False) -> Iterator[Client]:
    """A Dask client: of `workers` processes on this machine, or of the cluster at `scheduler`.

    `scheduler`: tls://host:port, with the certificates that Dask's own settings name, or tcp://,
    which keeps nobody out. `gpu`: each local worker may run a node that asks for a GPU.
    Raises StudyError where no scheduler answers or no worker starts.
    """
    with ExitStack() as stack:
        try:
            if scheduler:
                client = stack.enter_context(Client(scheduler, timeout=ANSWER))
            else:
                stack.enter_context(dask.config.set(SETTINGS))
                local = stack.enter_context(_local(workers, gpu))
                client = stack.enter_context(Client(local))
        except (OSError, TypeError, ValueError, RuntimeError) as error:
            raise StudyError(
                f"no Dask scheduler answers at {scheduler} ({error}): start one with "
                "`dask scheduler`, or leave --scheduler out"
                if scheduler
                else f"no worker could start ({error}): run the same command again"
            ) from error
        yield client


def _local(workers: int, gpu: bool) -> LocalCluster:
    """Workers on this machine, on the loopback interface alone and under a certificate that only
    their processes have: whoever else is logged in here could run code as this user otherwise."""
    return LocalCluster(
        security=True,
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=None,
        resources={"GPU": 1} if gpu else None,
        dashboard_address="127.0.0.1:0",
        silence_logs="CRITICAL",
    )


def run(
    nodes: list[grid.Node],
    client: Client,
    *,
    threads: int,
    timeout: float | None = None,
    retries: int = 0,
) -> Iterator[dict]:
    """Run those nodes that are not finished; yields about twice a second what became of each.

    Yields one dict again and again, node -> folder of the finished run, or an exception where it
    failed (for a node that could not begin, that of the node it needs). `timeout`: seconds that one
    cell of a notebook may take. A node with device 'cuda' takes one of the resource 'GPU', which
    workers declare. Raises StudyError where the scheduler is lost.
    """
    requests = {node: RunRequest.of(node) for node in nodes}
    ended: dict[grid.Node, Path | BaseException] = {**finished(nodes)}
    left = {node: request for node, request in requests.items() if node not in ended}
    taken = {request.notebook for request in left.values()}
    snapshots = {notebook: str(notebooks.snapshot(notebook)) for notebook in taken}
    jobs = {
        node: (request, snapshots[request.notebook], str(store.root()), threads, timeout)
        for node, request in left.items()
    }
    futures = _submit(client, jobs, retries)
    yield ended
    while len(ended) < len(nodes):
        time.sleep(0.5)
        if any(future.cancelled() for future in futures.values()):
            _connected(client)
            jobs = {node: job for node, job in jobs.items() if node not in ended}
            futures = _submit(client, jobs, retries)
        # A worker that dies with a finished result makes Dask compute it again, and meanwhile its
        # future is 'lost': this is waited for. Results are looked for in the store, not fetched.
        for node, future in list(futures.items()):
            if future.status == "finished":
                ended[node] = requests[node].place
            elif future.status == "error":
                ended[node] = _explained(future.exception(), node)
            if node in ended:
                del futures[node]
        yield ended


def _submit(client: Client, jobs: dict[grid.Node, tuple], retries: int) -> dict[grid.Node, Future]:
    """Send every job (what `worker.execute` takes, but for its needs), by its place in the file."""
    from fsl_utils.study import worker  # papermill, which a plan does not need

    futures: dict[grid.Node, Future] = {}
    for place, (node, job) in enumerate(jobs.items()):
        futures[node] = client.submit(
            worker.execute,
            *job,
            [futures[needed] for needed in node.needs if needed in futures],
            key=f"{node.stage}-{job[0].key}",
            priority=-place,
            retries=retries,
            resources={"GPU": 1} if node.values["device"] == "cuda" else None,
            pure=False,
        )
    return futures


def interrupt() -> None:
    """Interrupt the notebooks that run on this machine: fine-tuning writes a checkpoint first."""
    kernels = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if "ipykernel_launcher" in child.cmdline():
                child.send_signal(signal.SIGINT)
                kernels.append(child)
    psutil.wait_procs(kernels, timeout=GRACE)


def _connected(client: Client) -> None:
    """Wait until a client that lost its scheduler has it again. Raises StudyError where not."""
    while client.status == "connecting":
        time.sleep(0.1)
    if client.status != "running":
        raise StudyError(
            "the Dask scheduler is lost: what is finished is kept; "
            "start it and run the same command again"
        )


def _explained(error: BaseException, node: grid.Node) -> BaseException:
    """A node's error; where Dask gave up on it because its workers died, in words that help."""
    if not isinstance(error, KilledWorker):
        return error
    deaths = dask.config.get("distributed.scheduler.allowed-failures") + 1
    return StudyError(
        f"{grid.STAGES[node.stage]} ({node.title}): its worker died {deaths} times while it ran, "
        "as it does when memory runs out: take fewer --workers or larger machines"
    )
