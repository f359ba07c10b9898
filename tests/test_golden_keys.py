"""Keys that hold while results are meant to stay: a new key makes everything again.

Adapter and filter are the first study's. Cells, pools and reports are of the versions after it
(`store.STAGES`): a robust probe, noise of its own for every draw, another network that judges.
"""

from types import SimpleNamespace

import pytest

from fsl_utils import params
from fsl_utils.classifier import plan
from fsl_utils.data import partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.pools.reports import ReportRequest

# ELPV, 40 shots, draw 3, evaluated on test with the probe.
CELLS = {
    ("real", 0.0): "5719fbc8da426d5a7713def753180b28f6b03b740f67b6d015e3fbea9d662cb9",
    ("lora", 4.0): "5ab5d1ab97b221763f9ffd49c57ba395b5cf1780e677ebdcb7146fe4509b101c",
    ("lora_filtered", 4.0): "4a1ffa630839784e95ba35884ad9fe50ae9745371fbb2e65812ac4b9ca418628",
    ("real_more", 4.0): "aa43f5dc22cfc99f7b61c3381e72bc088683906c140ad42bfe63295b04e4c49b",
}
ADAPTER = "c7eb36d2a9d5b1b91286f55bc26c561da2ec6a00ab61c7af4a4f9105ee606360"
POOL = "7db2fe750164ab9916d123211c8f8aa8d27ad8e49e9058206a360bb4a0c53133"
FILTER = "037ff5260649a2245145dae1df6a7e85b648925d6cb939731605174e1f331dcf"
REPORT = "c534cd0461b0c7d31821408fd02e6b1c878c005aaceeaafe9ae22f08ee5692c9"


@pytest.fixture(scope="module")
def run(elpv):
    asked = {
        "draw": 3,
        "evaluate_on": "test",
        "filter_steps": 200,
        "arms": sorted({arm for arm, _ in CELLS}),
        "ratios": [4.0],
    }
    p = SimpleNamespace(**{name: params.default(name) for name in params.TABLE} | asked)
    return FewShotTask(elpv, partitions.draw(elpv.table, 3, 40)), p


def test_cells_keep_their_keys(run):
    assert {(cell.arm, cell.ratio): cell.key for cell in plan.cells(*run)} == CELLS


def test_adapter_pool_and_filter_keep_their_keys(run):
    assert AdapterRequest.of(*run).key == ADAPTER
    assert plan.pools(*run)["rare"].key == POOL
    assert plan.screen(*run).key == FILTER


def test_the_report_keeps_its_key(run):
    assert ReportRequest.of(*run).key == REPORT
