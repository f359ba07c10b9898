"""One store for the whole session, so that images are decoded and features extracted once."""

import os

import pytest
import simulate

from fsl_utils.data import domains, partitions
from fsl_utils.data.datasets import sheet
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import mini_weights


@pytest.fixture(scope="session", autouse=True)
def session_store(tmp_path_factory):
    before = os.environ.get("FSL_STORE")
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # one for all workers: the store is made for several writers
    os.environ["FSL_STORE"] = str(base / "store")
    yield
    if before is None:
        del os.environ["FSL_STORE"]
    else:
        os.environ["FSL_STORE"] = before


@pytest.fixture
def own_store(tmp_path, monkeypatch):
    """An empty store for one test."""
    monkeypatch.setenv("FSL_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="session")
def elpv():
    return domains.load("elpv")


@pytest.fixture(scope="session")
def draw(elpv):
    return partitions.draw(elpv.table, 0, 40)


@pytest.fixture(scope="session")
def task(elpv, draw):
    """ELPV with the 40 shots of draw 0."""
    return FewShotTask(elpv, draw)


@pytest.fixture
def backbone():
    return mini_weights.load()


@pytest.fixture
def data():
    """Folder of the real tiles and X-rays; without it the test is skipped, and pytest's summary
    says so.
    """
    root = sheet.data_root()
    if not all((root / name).is_dir() for name in ("magnetic_tile", "chestxray14")):
        pytest.skip(
            f"NO REAL DATA: {root} lacks magnetic_tile/ or chestxray14/; "
            "set FSL_DATA_DIR or run python -m fsl_utils fetch"
        )
    return root


@pytest.fixture(scope="session")
def pv_cracks_data():
    """Folder of the real cracked cells; skipped without it, as `data` is."""
    folder = sheet.data_root() / "pv_cracks"
    if not folder.is_dir():
        pytest.skip(f"NO REAL DATA: {folder.parent} lacks pv_cracks/; set FSL_DATA_DIR")
    return folder


@pytest.fixture(scope="session")
def few():
    """A simulated study of ten draws with two seeds each: (cells, scores). To be copied, not
    changed.
    """
    return simulate.study(arms=simulate.FEW, draws=10, seeds=2)


@pytest.fixture(scope="session")
def whole():
    """A simulated study of ten draws with most arms: (cells, scores)."""
    return simulate.study(arms=simulate.SOME, draws=10)
