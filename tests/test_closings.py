"""The last sentences of the notebooks: made of the run's numbers, with their uncertainty."""

import pandas as pd
import pytest

from fsl_utils import ROOT
from fsl_utils.data import leaks
from fsl_utils.figures import closings


def test_a_share_has_wilsons_interval():
    assert closings.share(0, 50) == "0 % [0, 7]"
    assert closings.share(25, 50) == "50 % [37, 63]"


def test_the_leak_is_told_with_intervals():
    rows = {"1-nearest-neighbour AUROC": [0.61, 0.87], "low": [0.5, 0.8], "high": [0.7, 0.9]}
    told = closings.leak(pd.DataFrame(rows, index=["by group", "by image"]))
    assert ".870 [.800, .900] where images are split" in told
    assert ".610 [.500, .700] where groups are" in told


def test_the_adapter_is_told_by_its_loss_and_the_check_that_it_kept():
    loss = pd.Series([1.0] * 50 + [0.7] * 100 + [0.5] * 50)
    checks = [
        {"step": step, "copied": copied, "of": 50, "allowed": 3}
        for step, copied in ((100, 1), (200, 9))
    ]
    told = closings.adapter(loss, {"checks": checks, "kept_step": 100})
    assert "from 1.000 ± .000" in told and "to .500 ± .000" in told
    assert "At step 100 2 % [0, 10] of 50" in told and "up to 3 of them" in told
    short = closings.adapter(pd.Series([0.5]), {"checks": [], "kept_step": 1})
    assert "from .500 in" in short and "too short" in short


def test_a_pool_is_told_by_what_the_filter_keeps():
    told = closings.pool({"kept": 168, "copied": 0, "common": 29, "off_manifold": 3})
    assert "Of 200" in told and "84 % [78, 88]" in told and "29 common, 3 off_manifold" in told
    assert "drops none" in closings.pool({"kept": 9, "copied": 0})


@pytest.mark.parametrize("lacks", [[], ["copy_false_alarm", "auroc_synthetic"]])
def test_a_report_is_told_as_the_table_has_it(lacks):
    row = pd.read_csv(ROOT / "results/quickstart/tables/pools.csv").iloc[0].to_dict()
    told = closings.report(row | dict.fromkeys(lacks))
    assert "is .182 ± .013" in told and ".022 ± .028" in told and "0 % [0, 2] of the" in told
    assert ("4.1 %" in told and "AUROC .991" in told) == (not lacks)


def test_the_leaks_interval_holds_its_auroc_and_shrinks_with_groups(elpv):
    table, pixels = elpv.table, elpv.images(leaks.SIZE)
    rule = leaks.nearest_neighbour(table, pixels)
    assert 0 < rule["low"] < rule["auroc"] < rule["high"] < 1
    single = table.assign(whole_group=range(len(table)))  # every image its own group
    alone = leaks.nearest_neighbour(single, pixels)
    assert alone["auroc"] == rule["auroc"]
    assert alone["high"] - alone["low"] < rule["high"] - rule["low"]
