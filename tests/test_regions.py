"""Where a defect goes, on made-up tiles with known masks and a backbone that differs in a known
place.
"""

import dataclasses
import types

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt

from fsl_utils import StudyError
from fsl_utils.data import domains, partitions
from fsl_utils.data.datasets import magnetic_tile
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import mini, regions

SIZE = 64


@pytest.fixture
def tiles(tmp_path, monkeypatch):
    """4 defective tiles (grey 90, the defect 60 brighter, one with an empty mask), 5 common ones
    (grey 160), 3 not of the draw.
    """
    monkeypatch.setenv("FSL_STORE", str(tmp_path / "store"))
    marks = [
        (slice(10, 22), slice(8, 20)),
        (slice(30, 33), slice(5, 60)),
        (slice(0, 0), slice(0, 0)),
        (slice(40, 41), slice(63, 64)),
    ]
    rows = []
    for i in range(12):
        photo, mask = (
            np.full((SIZE, SIZE), 90 if i < 4 else 160, np.uint8),
            np.zeros((SIZE, SIZE), np.uint8),
        )
        if i < 4:
            photo[marks[i]] += 60
            mask[marks[i]] = 255
        elif i >= 9:
            photo[:], mask[:] = 7, 255  # must never be seen
        path = tmp_path / f"{i:02d}.bmp"
        Image.fromarray(photo).save(path)
        Image.fromarray(mask).save(magnetic_tile.mask_path(path))
        rows.append((path.name, str(path), int(i < 4), f"tile{i}", "development"))
    table = pd.DataFrame(rows, columns=["image", "path", "label", "group", "partition"])
    draw = partitions.Draw(
        0,
        np.arange(4),
        np.arange(4, 9),
        np.arange(0),
        np.arange(9, 12),
        table["label"].to_numpy(),
        table["group"].to_numpy(),
    )
    return FewShotTask(domains.Domain("magnetic_tile", "any_defect", "free", "group", table), draw)


def rng(i):
    return np.random.default_rng(i)


def blob(*where):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[where] = True
    return mask


def test_masks_are_those_of_the_shots_that_have_one(tiles):
    rows, found = regions.masks(tiles, SIZE)
    assert rows.tolist() == [0, 1, 3] and found.sum(axis=(1, 2)).tolist() == [144, 165, 1]
    assert regions.masks(tiles, 16)[1].any(axis=(1, 2)).sum() >= 2  # scaled down, thin marks stay


def test_without_a_mask_there_is_no_region(tiles):
    unmarked = dataclasses.replace(tiles.draw, shots=np.array([2]))
    with pytest.raises(StudyError, match="none of the masks of the 1 shots of draw 0"):
        regions.masks(FewShotTask(tiles.domain, unmarked), SIZE)
    magnetic_tile.mask_path(tiles.domain.table["path"][1]).unlink()
    with pytest.raises(StudyError, match="01.png: no such image"):
        regions.masks(tiles, SIZE)


MASKS = {
    "corner": blob(slice(0, 9), slice(55, 64)),
    "thin": blob(31, slice(2, 62)),
    "half": blob(slice(0, 64), slice(0, 34)),
    "pixel": blob(63, 0),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_moved_mask_stays_whole_and_inside_the_frame(name):
    mask = MASKS[name]
    placed = [regions.moved(mask, regions.placement(mask, "hv", rng(i))) for i in range(60)]
    areas = np.array([each.sum() for each in placed]) / mask.sum()
    assert all(each.dtype == bool for each in placed)
    assert areas.min() > 0.75 and areas.max() <= (
        4 if name == "pixel" else 1.3
    )  # a part outside would be missing
    if name != "half":
        assert len({each.tobytes() for each in placed}) > 20
    again = regions.moved(mask, regions.placement(mask, "hv", rng(7)))
    assert np.array_equal(again, placed[7])


def test_unturned_masks_are_mirrored_and_shifted_exactly_and_images_go_with_them(monkeypatch):
    monkeypatch.setitem(regions.SETTINGS, "rotation", 0)
    image = rng(0).integers(0, 256, (SIZE, SIZE)).astype(np.uint8)
    mask = blob(slice(20, 27), slice(30, 44))
    seen = set()
    for i in range(40):
        for flips in ("hv", ""):
            place = regions.placement(mask, flips, rng(i))
            marked = regions.moved(mask, place)
            cut = regions.moved(image, place)[marked].reshape(7, 14)
            way = [
                w
                for w, axes in (("", ()), ("v", (0,)), ("h", (1,)), ("hv", (0, 1)))
                if np.array_equal(cut, np.flip(image[20:27, 30:44], axes))
            ]
            assert way and (flips or way == [""])
            seen |= set(way)
            points = np.argwhere(marked)
            centre = points.mean(axis=0)
            middle = np.array([23.0, 36.5])
            came_from = np.where([("v" in way[0]), ("h" in way[0])], 63 - middle, middle)
            assert (np.abs(centre - came_from) <= regions.SETTINGS["reach"] * SIZE).all()
    assert seen == {"", "v", "h", "hv"}


def test_the_feather_is_one_on_the_mask_and_its_margin_and_zero_far_away():
    for mask in MASKS.values():
        weight, away = regions.feathered(mask), distance_transform_edt(~mask)
        assert (weight[away <= regions.SETTINGS["margin"]] == 1).all()
        assert (weight[away >= regions.SETTINGS["margin"] + regions.SETTINGS["feather"]] == 0).all()
        order = np.argsort(away, axis=None)
        assert (np.diff(weight.ravel()[order]) <= 1e-6).all()


class Known(types.SimpleNamespace):
    """A backbone without a network: two rows differ by what `changed` [h, w] says, with noise that
    averages out.
    """

    image_size, scheduler = SIZE, mini.create(torch.ones(16), 0).scheduler

    def predict(self, latents, timesteps, condition):
        self.seen = latents.shape
        return torch.where(
            (condition == mini.RARE)[:, None, None, None], latents + self.changed, latents
        )


def test_the_region_lies_where_the_predictions_differ():
    changed = torch.zeros(16, 16)
    changed[3:9, 5:11] = 1
    clean = torch.zeros(1, 16, 16, 16)
    region = regions.difference(Known(changed=changed), clean, (mini.RARE, 1), seed=0, number=3)
    where = changed.numpy().repeat(4, 0).repeat(4, 1) > 0
    assert (
        region.shape == (SIZE, SIZE)
        and region[where].all()
        and 0 < region.mean() <= regions.SETTINGS["area"] + 1 / 256
    )
    with pytest.raises(StudyError, match="image 3: no region"):
        regions.difference(Known(changed=0 * changed), clean, (mini.RARE, 1), seed=0, number=3)


def test_pasting_changes_the_region_alone_and_keeps_the_contrast_of_the_defect(tiles):
    made = regions.paste(tiles, SIZE, seed=0, numbers=range(40))
    assert made.shape == (40, 1, SIZE, SIZE) and made.dtype == np.uint8
    assert len({image.tobytes() for image in made}) > 30
    for image in made[:, 0]:
        untouched = image == 160
        assert 0.5 < untouched.mean() < 1
        assert (
            165 < image.max() <= 225 and image.min() >= 140
        )  # neither the shot's darker ground nor an image that is not of the draw
    assert np.median(made.max(axis=(1, 2, 3))) == pytest.approx(
        220, abs=8
    )  # 60 brighter than what surrounds it, as in the shot
    assert np.array_equal(regions.paste(tiles, SIZE, seed=0, numbers=[5]), made[5:6])
    assert not np.array_equal(regions.paste(tiles, SIZE, seed=1, numbers=[5]), made[5:6])
