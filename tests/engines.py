"""What the tests of the engine share: notebooks that do next to nothing, workers, a node's run."""

from pathlib import Path

import dummies
import pytest
from distributed import Client

from fsl_utils import store
from fsl_utils.study import engine, worker
from fsl_utils.study import notebooks as nbs
from fsl_utils.study.runs import RunRequest


@pytest.fixture
def notebooks(tmp_path, own_store):
    store.opened()
    with dummies.taken(dummies.write(tmp_path / "notebooks")) as _:
        yield tmp_path / "notebooks"


@pytest.fixture(scope="module")
def client():
    """Two workers in this process: quick to start."""
    with Client(
        processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as client:
        yield client


def run(nodes, client, **options) -> dict:
    *_, ended = engine.run(nodes, client, **{"threads": 1} | options)
    return ended


def execute(node, **options) -> str:
    request = RunRequest.of(node)
    given = {"root": str(store.root()), "threads": 1, "timeout": None} | options
    worker.execute(request, str(nbs.snapshot(request.notebook)), needs=[], **given)
    return str(request.place)


def tidy(root: Path) -> bool:
    """No marker, no record and no scratch folder is left."""
    return not any((root / "running").glob("*")) and not any((root / "tmp").glob("*"))
