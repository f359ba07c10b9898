"""Mode `mask`: where the defects of a pool lie, and that the backbone is told."""

import numpy as np
import pytest

from fsl_utils import StudyError
from fsl_utils.data import domains, partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import backbones, batches, layouts, mini, mini_weights, regions, sampling
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.generator.mini128 import Mini128
from fsl_utils.generator.sampling import PoolRequest


@pytest.fixture(scope="module")
def cracks(pv_cracks_data):
    domain = domains.load("pv_cracks")
    return FewShotTask(domain, partitions.draw(domain.table, 0, 10))


def pool(task, **changed):
    return PoolRequest.alone(
        AdapterRequest.new(task, 1, image_size=128, backbone="mini128"), mode="mask", **changed
    )


def test_each_image_has_its_own_mask_whatever_is_made_beside_it(cracks):
    asked = pool(cracks)
    masks = layouts.of_pool(asked, range(12), 128)
    assert masks.shape == (12, 1, 128, 128) and set(np.unique(masks)) == {0, 255}
    assert (masks > 0).any(axis=(1, 2, 3)).mean() > 0.9
    assert len({mask.tobytes() for mask in masks}) == 12
    assert np.array_equal(layouts.of_pool(asked, [7, 3], 128), masks[[7, 3]])
    assert not np.array_equal(layouts.of_pool(pool(cracks, seed=1), range(12), 128), masks)


def test_masks_come_from_the_shots_alone(cracks, monkeypatch):
    asked = {}
    read = type(cracks.domain).masks

    def spy(domain, rows, size):
        asked["rows"] = rows
        return read(domain, rows, size)

    monkeypatch.setattr(type(cracks.domain), "masks", spy)
    layouts.of_pool(pool(cracks), range(2), 128)
    assert set(asked["rows"]) == set(cracks.draw.shots)


def test_domains_without_masks_and_other_backbones_are_refused(task):
    with pytest.raises(StudyError, match="needs pixel masks, and elpv has none"):
        layouts.of_pool(pool(task), range(1), 128)
    with pytest.raises(StudyError, match="mode 'mask' is for mini128, not for mini"):
        PoolRequest.alone(AdapterRequest.new(task, 1), mode="mask")


def test_a_pool_keeps_its_masks_and_they_move_its_images(cracks, own_store, monkeypatch):
    monkeypatch.setattr(sampling, "CHUNK", 2)
    asked = pool(cracks, steps=2)
    [made] = sampling.chunks(asked, 2)
    [kept] = own_store.glob("pool/*/images.npz")
    with np.load(kept, allow_pickle=False) as file:
        assert np.array_equal(file["images"], made)
        assert np.array_equal(file["masks"], layouts.of_pool(asked, range(2), 128))
    monkeypatch.setattr(layouts, "of_pool", lambda *_: np.zeros((2, 1, 128, 128), np.uint8))
    again = sampling.sample(backbones.pretrained("mini128", cracks.domain).open(), asked, range(2))
    assert not np.array_equal(again, made)


def test_an_adapter_is_told_most_masks_and_never_one_of_a_common_image(cracks):
    request = AdapterRequest.new(cracks, 1, image_size=128, backbone="mini128")
    marked = len(regions.masks(cracks, 128)[0])
    told, covered = 0, 0
    batch = batches.Batches(request, mini_weights.load(kind=Mini128))
    for step in range(20):
        made = batch(step)
        rare = made.condition == mini.RARE
        seen, cover = ((part > 0).flatten(1).any(1) for part in (made.told, made.cover))
        assert not seen[~cover].any()
        assert not cover[len(rare) - round(0.4 * len(rare)) :].any()
        told, covered = told + int(seen.sum()), covered + int(cover.sum())
    assert marked and 0.65 < told / covered < 0.95
