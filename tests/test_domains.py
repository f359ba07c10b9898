"""The embedded domains against the data at hand and its data sheet, and against bad input."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fsl_utils import StudyError
from fsl_utils.data import domains, images, leaks, partitions
from fsl_utils.data.datasets import chestxray14, magnetic_tile, registry
from fsl_utils.data.datasets import elpv as elpv_cells

# -- Shipped partitions ----------------------------------------------------------------------------


def check_shipped(name):
    made = registry.get(name).split().reset_index(drop=True).astype(str)
    pd.testing.assert_frame_equal(made, partitions.shipped(name).astype(str))


def test_the_shipped_partition_of_elpv_is_what_the_code_makes():
    check_shipped("elpv")


@pytest.mark.parametrize("name", ["magnetic_tile", "chestxray14"])
def test_the_shipped_partitions_are_what_the_code_makes(data, name):
    check_shipped(name)


@pytest.mark.parametrize("name", ["elpv", "magnetic_tile", "chestxray14", "pv_cracks"])
def test_shipped_groups_are_in_one_partition_and_test_has_its_share(name):
    shipped = partitions.shipped(name)
    where = shipped.groupby("group")["partition"].agg(["nunique", "first"])
    assert (where["nunique"] == 1).all() and shipped["file"].is_unique
    rest = where["first"][where["first"] != "base"]
    assert (rest == "test").mean() == pytest.approx(partitions.TEST_SHARE, abs=2 / len(rest))


# -- ELPV ------------------------------------------------------------------------------------------


def test_elpv_is_what_its_sheet_says(elpv):
    counts = domains.classes("elpv").set_index("class_name")["images"]
    assert counts.to_dict() == {"functional": 1508, "defective": 715, "unclear": 401}
    assert elpv.table["label"].sum() == 715 and len(elpv.table) == 2223
    frame = elpv_cells.read()[0]
    assert frame.groupby("chunk").size().between(45, 75).all() and len(frame) == 2624
    assert "401 cells" in elpv.notes[0]


def test_the_module_that_elpv_holds_twice_is_one_group():
    """Cells 2277-2326 are cells 1735-1784 again: most alike at just this offset, and in one group
    pair by pair."""
    frame = elpv_cells.read()[0]
    one, two = np.arange(1735, 1785) - 1, np.arange(2277, 2327) - 1
    assert (frame["group"].to_numpy()[one] == frame["group"].to_numpy()[two]).all()
    cells = np.r_[one, two]
    vectors = leaks.fingerprints(
        images.read_all([Path(p) for p in frame["path"].iloc[cells]], leaks.SIZE, 1, progress=False)
    )
    alike = vectors[: len(one)] @ vectors[len(one) :].T
    assert np.median(np.diag(alike)) > 0.95 > np.median(alike) + 0.3


def test_the_domains_columns_and_rows(elpv):
    assert {"image", "path", "class_name", "label", "group", "stratum", "partition"} <= set(
        elpv.table.columns
    )
    parts = [elpv.rows(p) for p in ("base", "development", "test")]
    assert sorted(np.concatenate(parts)) == list(range(len(elpv.table)))
    assert (elpv.table["label"].to_numpy()[elpv.rows("test", 1)] == 1).all()


# -- Magnetic tile ---------------------------------------------------------------------------------

# The sheet's ranges of capture numbers and counts of photos of the nine tiles with cracks.
CRACKS = {
    (3191, 3279): 6,
    (32128, 32235): 6,
    (85602, 88201): 15,
    (116527, 116623): 5,
    (249594, 249821): 6,
    (265613, 265737): 6,
    (276355, 276355): 1,
    (339819, 339965): 6,
    (342140, 342249): 6,
}


def test_tiles_are_what_their_sheet_says(data):
    counts = domains.classes("magnetic_tile").set_index("class_name")["images"].to_dict()
    assert counts == {
        "free": 952,
        "blowhole": 115,
        "uneven": 103,
        "break": 85,
        "crack": 57,
        "fray": 32,
    }
    frame, notes = magnetic_tile.read()
    assert frame["group"].nunique() == 94 and frame["object"].nunique() == 255 and notes == []
    assert frame.groupby("object")["group"].nunique().max() == 1
    cracks = frame[frame["class_name"] == "crack"]
    number = cracks["image"].str.extract(r"num_(\d+)")[0].astype(int)
    tile = number.map(lambda n: next(i for i, (low, high) in enumerate(CRACKS) if low <= n <= high))
    assert tile.value_counts().sort_index().tolist() == list(CRACKS.values())
    pairs = pd.DataFrame({"tile": tile, "group": cracks["group"]}).drop_duplicates()
    assert len(pairs) == 9 and pairs["group"].is_unique and pairs["tile"].is_unique


def test_tile_tasks_and_masks(data):
    any_defect, crack = domains.load("magnetic_tile"), domains.load("magnetic_tile", "crack")
    assert (any_defect.rare_class, any_defect.table["label"].sum(), len(any_defect.table)) == (
        "any_defect",
        392,
        1344,
    )
    assert (crack.table["label"].sum(), len(crack.table)) == (57, 1009)
    row = crack.table[crack.table["label"] == 1].iloc[0]
    with Image.open(row["path"]) as photo, Image.open(magnetic_tile.mask_path(row["path"])) as mask:
        assert photo.size == mask.size
        share = (np.asarray(mask.convert("L")) > 127).mean()
    assert 0 < share < 0.2


def test_tile_groups_chain_gaps_and_join_crack_tiles():
    numbers = np.array([1, 1001, 2002, 85602, 86900, 88201])
    assert (
        magnetic_tile.tile_groups(numbers)
        == ["tile000001", "tile000001", "tile002002"] + ["tile085602"] * 3
    )


# -- All -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: domains.load("moon"), "unknown domain 'moon': known are elpv"),
        (
            lambda: domains.load("elpv", "crack"),
            "unknown rare_class 'crack' of elpv: known are defective",
        ),
        (lambda: domains.load("elpv", protocol="patient"), "unknown protocol"),
        (lambda: chestxray14.read("lateral"), "unknown view 'lateral'"),
    ],
)
def test_unknown_words_are_told_with_the_known_ones(call, words):
    with pytest.raises(StudyError, match=words):
        call()


def test_missing_or_foreign_tiles(tmp_path, monkeypatch):
    monkeypatch.setenv("FSL_DATA_DIR", str(tmp_path))
    with pytest.raises(StudyError, match="no such folder; set FSL_DATA_DIR .*fetch magnetic_tile"):
        domains.load("magnetic_tile")
    folder = tmp_path / "magnetic_tile/MT_Free/Imgs"
    folder.mkdir(parents=True)
    with pytest.raises(StudyError, match="no MT_<Class>/Imgs"):
        domains.load("magnetic_tile")
    (folder / "exp1_num_5.jpg").write_bytes(b"")
    with pytest.raises(
        StudyError,
        match=r"1 images are not in the shipped partition \(first: MT_Free/Imgs/exp1_num_5.jpg\)",
    ):
        domains.load("magnetic_tile")
    (folder / "photo.jpg").write_bytes(b"")
    with pytest.raises(StudyError, match="photo.jpg: expected a name like"):
        domains.load("magnetic_tile")


def test_describe_counts_what_is_here_and_tells_how_to_get_the_rest(tmp_path, monkeypatch):
    monkeypatch.setenv("FSL_DATA_DIR", str(tmp_path))
    table = domains.describe().set_index("domain")
    assert tuple(table.loc["elpv", ["images", "rare", "groups", "status"]]) == (2223, 715, 43, "")
    assert table.loc["elpv", "prevalence"] == pytest.approx(715 / 2223, abs=1e-3)
    for name in ("magnetic_tile", "chestxray14", "pv_cracks"):
        assert table.loc[name, "images"] == 0 and f"fetch {name}" in table.loc[name, "status"]


def test_describe_agrees_with_the_data(data):
    table = domains.describe().set_index("domain")
    assert tuple(table.loc["magnetic_tile", ["images", "rare", "groups", "rare_groups"]]) == (
        1344,
        392,
        94,
        54,
    )
    assert tuple(table.loc["chestxray14", ["images", "rare", "rare_groups"]]) == (4762, 461, 248)


def test_protocol_image_splits_groups_and_leaves_base(elpv):
    leaky = domains.load("elpv", protocol="image")
    assert leaky.table.groupby("whole_group")["partition"].nunique().max() > 1
    assert (leaky.rows("base") == elpv.rows("base")).all() and leaky.data_hash != elpv.data_hash


def test_a_missing_elpv_package_is_named(monkeypatch):
    monkeypatch.setattr(elpv_cells.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StudyError, match="elpv-dataset is not installed: pip install elpv-dataset"):
        domains.load("elpv")
