"""Keys that were published. They hold while results are meant to stay: a new key makes everything again."""

from types import SimpleNamespace

import pandas as pd
import pytest

from fsl_utils import ROOT, params
from fsl_utils.classifier import plan
from fsl_utils.data import partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.pools.reports import ReportRequest

# ELPV, 40 shots, draw 3, evaluated on test with the probe.
CELLS = {
    ("real", 0.0): "bf70b9f00f2c012bcd6236d8adf91397c1f8a38f81dbebfb1630b2e84e8455fd",
    ("lora", 4.0): "0ffed08c60b18b05054965f98d87b72d005c058d647c22e91978745037a08da7",
    ("lora_filtered", 4.0): "2fdeb4acd52415bb6d23187423301b330cc01f256cdab156abf933ef5d505294",
    ("real_more", 4.0): "516a13316ab5962d8a4b3b3fd80e88fdc1d5589266088164a396a85c4e562e54",
}
ADAPTER = "c7eb36d2a9d5b1b91286f55bc26c561da2ec6a00ab61c7af4a4f9105ee606360"
POOL = "02ea305797872b87862e23f454f071ce86dbf5fadfc8f9960686f7007d07875e"
FILTER = "037ff5260649a2245145dae1df6a7e85b648925d6cb939731605174e1f331dcf"
REPORT = "ea1f7b42382f11755c1e42e94da4e95700188db68194d0ba5f0be2fcbe448530"  # of 200 images, without LPIPS


@pytest.fixture(scope="module")
def run(elpv):
    asked = {
        "draw": 3,
        "evaluate_on": "test",
        "arms": sorted({arm for arm, _ in CELLS}),
        "ratios": [4.0],
    }
    p = SimpleNamespace(**{name: params.default(name) for name in params.TABLE} | asked)
    return FewShotTask(elpv, partitions.draw(elpv.table, 3, 40)), p


def test_cells_keep_their_keys(run):
    assert {(cell.arm, cell.ratio): cell.key for cell in plan.cells(*run)} == CELLS


def test_the_keys_are_those_of_the_published_table():
    published = pd.read_csv(ROOT / "results" / "study" / "tables" / "cells.csv")
    rows = published[published["cell"].isin(CELLS.values())]
    assert set(zip(rows["arm"], rows["ratio"])) == set(CELLS)
    assert set(rows[rows["arm"] == "lora"]["pool"]) == {POOL}


def test_adapter_pool_and_filter_keep_their_keys(run):
    assert AdapterRequest.of(*run).key == ADAPTER
    assert plan.pools(*run)["rare"].key == POOL
    assert plan.screen(*run).key == FILTER


def test_the_report_keeps_its_key(run):
    assert ReportRequest.of(*run).key == REPORT
    published = pd.read_csv(ROOT / "results" / "study" / "tables" / "pools.csv")
    assert REPORT in set(published["report"])
