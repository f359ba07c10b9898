"""pv_cracks: its modules against the images, masks, partitions, and the seal on its test part."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from fsl_utils import StudyError, params
from fsl_utils.classifier import plan
from fsl_utils.data import domains, images, leaks, partitions
from fsl_utils.data.datasets import pv_cracks, registry
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.study import grid, publish

SIZE = 64  # of the images that are correlated


@pytest.fixture(scope="module")
def frame(pv_cracks_data):
    """Rows of the real data."""
    return pv_cracks.read()[0]


def test_the_cells_are_what_the_data_sheet_says(frame):
    names = frame["class_name"].str.split("|")
    assert len(frame) == 1272 and frame["class_name"].eq("no_defect").sum() == 729
    cracks = names.map(lambda found: "crack" in found)
    both = cracks & names.map(lambda found: "dark" in found)
    assert (cracks.sum(), both.sum()) == (493, 268)
    assert len(domains.load("pv_cracks").table) == 729 + 493
    assert len(domains.load("pv_cracks", "dark").table) == 729 + 270


def test_the_shipped_partition_is_what_the_code_makes(frame):
    made = pv_cracks.split().reset_index(drop=True)
    pd.testing.assert_frame_equal(made, partitions.shipped("pv_cracks"))
    clean = frame["class_name"].eq("no_defect").groupby(frame["group"]).all()
    base = set(made.loc[made["partition"] == "base", "group"])
    assert clean[sorted(base)].all() and len(base) == clean.sum() // 2


def alike(paths: pd.Series) -> np.ndarray:
    """Largest correlation of each pair of images, [N, N], moved by up to 3 pixels, without what all
    share."""
    x = images.read_all(list(paths), SIZE, 1, progress=False)[:, 0].astype(np.float32)
    flat = x - ndimage.gaussian_filter(x, (0, 4, 4))
    flat /= np.sqrt(ndimage.gaussian_filter(flat**2, (0, 4, 4))) + 4
    flat = np.clip(flat, -3, 3)[:, 3:-3, 3:-3]
    flat -= np.median(flat, axis=2, keepdims=True)  # busbars
    rows = flat.reshape(len(flat), -1)
    common = PCA(25, svd_solver="randomized", random_state=0).fit(rows)
    rest = (rows - common.inverse_transform(common.transform(rows))).reshape(flat.shape)
    side, best = rest.shape[1] - 6, np.full((len(x), len(x)), -1, np.float32)
    middle = unit(rest[:, 3:-3, 3:-3])
    for dy in range(7):
        for dx in range(7):
            np.maximum(best, middle @ unit(rest[:, dy : dy + side, dx : dx + side]).T, out=best)
    return np.maximum(best, best.T)


def unit(x: np.ndarray) -> np.ndarray:
    x = x.reshape(len(x), -1)
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_one_cell_of_one_module_looks_the_same_and_of_two_modules_it_does_not(frame):
    """Every pair of images of one cell position: the group says whether they show one cell.

    Nothing of a label is looked at, and nothing is chosen by it: the modules are fixed.
    """
    position = frame["object"].str.extract(r"cell (\d+)")[0].to_numpy()
    group = frame["group"].to_numpy()
    i, j = np.triu_indices(len(frame), 1)
    keep = position[i] == position[j]
    i, j = i[keep], j[keep]
    similarity, same = alike(frame["path"])[i, j], group[i] == group[j]
    assert same.sum() > 500 and (~same).sum() > 10_000
    # Cracks grow between photographs, so that some cells of one module look new.
    assert roc_auc_score(same, similarity) > 0.95
    assert np.median(similarity[same]) > 0.5 and np.quantile(similarity[~same], 0.99) < 0.4
    pairs = np.char.startswith(group[i].astype(str), "EL") & same
    assert similarity[pairs].min() > np.quantile(similarity[~same], 0.999)


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("EL85", "EL86", True),
        ("EL86", "EL87", False),
        ("FSEC_2AXI4", "FSEC_3AXI21", True),
        ("FSEC_3GC42", "FSEC_2GC1", True),
        ("FSEC_3GC41", "FSEC_3GC42", False),
        ("FSEC_5GC15", "FSEC_5GC20", False),
        ("FSEC_5GC58", "FSEC_5GC59", False),
        ("ELH5", "ELH8", True),
        ("ELH8", "ELH9", False),
        ("PA3", "PA4", False),
    ],
)
def test_names_of_one_module_are_one_group(one, other, same):
    assert (pv_cracks.module(one) == pv_cracks.module(other)) == same


def test_masks_mark_cracks_and_dark_areas_alone(tmp_path):
    values = np.zeros((40, 40), np.uint8)
    values[:8], values[8:16], values[16:24], values[24:32] = 1, 2, 3, 4
    (tmp_path / "img").mkdir()
    (tmp_path / "ann").mkdir()
    Image.fromarray(values).save(tmp_path / "ann" / "EL1_1.png")
    mask = registry.get("pv_cracks").masks([str(tmp_path / "img" / "EL1_1.jpg")], 40)
    assert mask.shape == (1, 1, 40, 40)
    assert np.array_equal(mask[0, 0], np.where(np.isin(values, (1, 3)), 255, 0))


def test_a_foreign_name_and_a_foreign_mask_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("FSL_DATA_DIR", str(tmp_path))
    with pytest.raises(StudyError, match=r"no such folder; .*fetch pv_cracks"):
        pv_cracks.read()
    for part in ("img", "ann"):
        (tmp_path / "pv_cracks/train" / part).mkdir(parents=True)
    cell, mask = (
        tmp_path / f"pv_cracks/train/{part}" for part in ("img/EL1_2.jpg", "ann/EL1_2.png")
    )
    Image.new("L", (8, 8)).save(cell)
    with pytest.raises(StudyError, match=r"EL1_2.png: no such image"):
        pv_cracks.read()
    Image.new("L", (8, 8), 255).save(mask)
    with pytest.raises(StudyError, match=r"EL1_2.png: not a mask of the values 0 to 4"):
        pv_cracks.read()
    Image.new("L", (8, 8)).save(cell.with_name("cell.jpg"))
    with pytest.raises(StudyError, match=r"cell.jpg: expected a name like"):
        pv_cracks.read()


# -- The seal ---------------------------------------------------------------------------------


def settings(**given) -> SimpleNamespace:
    return SimpleNamespace(
        **{name: params.default(name) for name in params.TABLE}
        | {"domain": "pv_cracks", "arms": ["real"], "n_real": 20}
        | given
    )


def test_the_test_partition_is_shut_until_it_is_opened(frame):
    shut = domains.load("pv_cracks")
    opened = domains.load("pv_cracks", open_sealed=True)
    assert shut.sealed and not (shut.table["partition"] == "test").any()
    assert len(opened.rows("test")) and shut.data_hash == opened.data_hash
    with pytest.raises(StudyError, match=r"is sealed.*open_sealed: true") as caught:
        shut.rows("test")
    assert "\n" not in str(caught.value)
    draw = partitions.draw(shut.table, 0, 20)
    with pytest.raises(StudyError, match="is sealed"):
        plan.cells(FewShotTask(shut, draw), settings(evaluate_on="test"))
    task = FewShotTask(opened, partitions.draw(opened.table, 0, 20))
    assert np.array_equal(task.draw.shots, draw.shots)
    assert plan.cells(task, settings(evaluate_on="test", open_sealed=True))
    assert plan.cells(FewShotTask(shut, draw), settings())


def test_a_grid_that_scores_on_the_sealed_partition_is_refused(frame, tmp_path):
    file = tmp_path / "grid.yaml"
    text = (
        "name: sealed\ndefaults: {{arms: [real], n_real: 20, evaluate_on: {}, open_sealed: {}}}\n"
        "sweep: [{{domain: [pv_cracks]}}]\n"
    )
    for evaluate_on, opened in (("validation", "false"), ("test", "true")):
        file.write_text(text.format(evaluate_on, opened))
        runs = grid.read(file)[1]
        grid.check(runs)
        cells = [node for node in grid.nodes(runs) if node.stage == "cells"]
        assert publish.keys(cells[0])  # what its tables are gathered by
    file.write_text(text.format("test", "false"))
    with pytest.raises(StudyError, match="the test partition of pv_cracks is sealed"):
        grid.check(grid.read(file)[1])


@pytest.mark.parametrize("protocol", ["group", "image"])
def test_an_audit_sees_no_sealed_image(frame, protocol):
    domain = domains.load("pv_cracks", protocol=protocol)
    sealed = set(domain.table.loc[domain.table["partition"] == partitions.SEALED, "image"])
    assert sealed == set(
        domains.load("pv_cracks", open_sealed=True).table.query("partition == 'test'")["image"]
    )
    audited = domain.audited(0)
    assert not sealed & set(audited.table["image"])
    for label in (0, 1):
        assert len(audited.rows("test", label)) and len(audited.rows("development", label))
    assert leaks.split_groups(audited.table).empty == (protocol == "group")


def test_no_outer_fold_takes_a_sealed_image(frame):
    table = domains.load("pv_cracks").table
    shut = table["partition"] == partitions.SEALED
    for number in range(5):
        folded = partitions.outer_fold(table, number)
        assert ((folded["partition"] == partitions.SEALED) == shut).all()


def test_other_data_sets_have_no_seal(elpv):
    assert not elpv.sealed and elpv.audited(0) is elpv
    elpv.need_open("test")
