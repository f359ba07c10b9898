import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from spoiled import Spoiled

from fsl_utils import StudyError
from fsl_utils.classifier import segmentation
from fsl_utils.classifier.segmentation import Marked
from fsl_utils.data import domains, partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.generator.sampling import PoolRequest


def planted(n, seed):
    """Noise with a dark square each, and the square's mask."""
    rng = np.random.default_rng(seed)
    images = rng.normal(160, 20, (n, 1, 64, 64)).clip(0, 255).astype(np.uint8)
    masks = np.zeros_like(images)
    for image, mask in zip(images, masks):
        y, x = rng.integers(4, 44, 2)
        image[0, y : y + 14, x : x + 14] = 40
        mask[0, y : y + 14, x : x + 14] = 255
    return Marked(images, masks)


def test_planted_squares_are_found_on_other_images(monkeypatch):
    monkeypatch.setattr(segmentation, "STEPS", 60)
    clean = np.random.default_rng(9).normal(160, 20, (12, 1, 64, 64)).clip(0, 255).astype(np.uint8)
    head = segmentation.train([planted(16, 0)], clean, "", 0)
    other = planted(8, 1)
    found = segmentation.score(segmentation.predict(head, other.images), other.masks)
    assert found["dice"] > 0.7 and found["pixel_ap"] > 0.9 and found["images"] == 8
    assert segmentation.predict(head, clean).mean() < 0.05
    again = segmentation.train([planted(16, 0)], clean, "", 0)
    assert all(map(torch.equal, head.state_dict().values(), again.state_dict().values()))


def test_dice_is_f1_of_pixels():
    rng = np.random.default_rng(0)
    masks = np.where(rng.random((3, 1, 8, 8)) < 0.3, 255, 0).astype(np.uint8)
    masks[2] = 0  # without a mark: no part of Dice
    predicted = rng.random((3, 1, 8, 8)).astype(np.float32)
    each = [f1_score(masks[i].ravel() > 0, predicted[i].ravel() >= 0.5) for i in (0, 1)]
    assert segmentation.score(predicted, masks)["dice"] == pytest.approx(np.mean(each))
    same = torch.tensor([[1.0, 0.0, 1.0]])
    assert float(segmentation.soft_dice(same, same)) == pytest.approx(1)
    assert float(segmentation.soft_dice(same, 1 - same)) == pytest.approx(1 / 4)


def test_half_of_a_batch_is_common_and_mirror_images_take_their_masks_along():
    a, b = planted(4, 0), planted(6, 1)
    images, masks, chance = segmentation._mirrored([a, b, Marked(b.images, b.masks * 0)], "hv")
    empty = ~masks.any(axis=(1, 2, 3))
    assert len(images) == 3 * 16 and chance[empty].sum() == pytest.approx(0.5)
    assert chance[:4].sum() == pytest.approx(chance[4:10].sum())
    dark = images[~empty] < 90
    assert (dark == (masks[~empty] > 0)).mean() > 0.99


def test_arms_see_training_images_of_the_draw_alone(pv_cracks_data, own_store, monkeypatch):
    domain = domains.load("pv_cracks")
    task = FewShotTask(domain, partitions.draw(domain.table, 0, 4))
    draw, seen = task.draw, []
    adapter = AdapterRequest.new(task, 1, image_size=128, backbone="mini128")
    pool = PoolRequest.of(adapter, mode="mask")
    made = planted(4, 0)
    large = np.kron(made.images, np.ones((2, 2), np.uint8))
    monkeypatch.setattr(segmentation.sampling, "images_of", lambda *_: large)
    monkeypatch.setattr(segmentation, "train", lambda marked, *rest: seen.append([marked, rest]))
    blank = lambda head, images: np.zeros(images.shape, np.float32)  # noqa: E731
    monkeypatch.setattr(segmentation, "predict", blank)
    table = segmentation.compare(pool, 4)
    assert table["arm"].tolist() == list(segmentation.ARMS)
    assert set(table["images"]) == {int(draw.labels[draw.validation].sum())}
    spoiled = Spoiled(domain, [*draw.shots, *draw.common])  # all but these are noise
    other = PoolRequest.of(
        AdapterRequest.new(FewShotTask(spoiled, draw), 1, image_size=128, backbone="mini128"),
        mode="mask",
    )
    segmentation.compare(other, 4)
    for (sets, rest), (again, others) in zip(seen[:4], seen[4:]):
        for a, b in zip(sets, again):
            assert np.array_equal(a.images, b.images) and np.array_equal(a.masks, b.masks)
        assert np.array_equal(rest[0], others[0])


def test_a_pool_without_masks_is_refused(task):
    pool = PoolRequest.of(AdapterRequest.new(task, steps=1))
    with pytest.raises(StudyError, match="mode 'noise' has no masks: set mode='mask'"):
        segmentation.compare(pool, 4)
