"""Turning and zooming against scipy and Pillow, and where the window of a zoom lies."""

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, rotate

from fsl_utils.data import augmentation


def smooth(n, channels=1, size=64):
    field = gaussian_filter(
        np.random.default_rng(0).normal(size=(n, channels, size, size)), (0, 0, 4, 4)
    )
    return torch.from_numpy(np.clip(128 + 40 * field / field.std(), 0, 255).astype(np.uint8))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_nothing_asked_nothing_done():
    images = smooth(3)
    assert augmentation.turn_and_zoom(images, 0, 1, generator()) is images


def test_turning_is_what_scipy_does_within_the_given_degrees():
    images = smooth(8)
    turned = augmentation.turn_and_zoom(images, 10, 1, generator()).numpy()
    inner, degrees = slice(16, 48), np.arange(-12, 13)
    found = []
    for image, other in zip(images.numpy()[:, 0], turned[:, 0]):
        errors = [
            np.abs(
                rotate(image.astype(float), d, reshape=False, mode="mirror")[inner, inner]
                - other[inner, inner]
            ).mean()
            for d in degrees
        ]
        assert min(errors) < 0.05 * np.ptp(image)
        found.append(degrees[np.argmin(errors)])
    assert np.ptp(found) > 8 and np.abs(found).max() <= 11
    assert np.abs(turned.astype(int) - images.numpy()).mean() > 2


def test_a_zoomed_image_is_a_window_of_its_source():
    images = smooth(3)
    zoomed = augmentation.turn_and_zoom(images, 0, 2, generator(), masks=None).numpy()
    for image, other in zip(images.numpy()[:, 0], zoomed[:, 0]):
        errors = [
            np.abs(
                np.asarray(
                    Image.fromarray(image).resize(
                        (64, 64), Image.Resampling.BICUBIC, (x, y, x + side, y + side)
                    ),
                    float,
                )
                - other
            ).mean()
            for side in range(32, 65, 4)
            for x in range(0, 65 - side, 2)
            for y in range(0, 65 - side, 2)
        ]
        assert min(errors) < 6  # the best of a grid two pixels apart


def test_a_zoom_keeps_the_defect_in_view_and_makes_it_larger():
    masks = torch.zeros(200, 1, 64, 64, dtype=torch.uint8)
    places = np.random.default_rng(1).integers(0, 62, (199, 2))
    for mask, (y, x) in zip(masks, places):  # the last mask stays empty
        mask[:, y : y + 3, x : x + 3] = 255
    moved = augmentation.turn_and_zoom(masks, 0, 3, generator(), masks=masks).float()
    assert (moved[:-1].amax(dim=(1, 2, 3)) > 60).all() and moved[-1].max() == 0
    assert moved[:-1].sum() > 1.5 * masks.sum()
    blind = augmentation.turn_and_zoom(masks, 0, 3, generator(), masks=None).float()
    assert (blind[:-1].amax(dim=(1, 2, 3)) == 0).float().mean() > 0.2


def test_an_image_and_its_mask_move_alike_and_by_the_generator_alone():
    images = smooth(8)
    masks = (images > 140).to(torch.uint8) * 255
    both = torch.cat([images, masks], 1)
    moved = augmentation.turn_and_zoom(both, 15, 1.5, generator(), masks)
    assert torch.equal(moved, augmentation.turn_and_zoom(both, 15, 1.5, generator(), masks))
    assert not torch.equal(moved, augmentation.turn_and_zoom(both, 15, 1.5, generator(1), masks))
    agree = (moved[:, :1] > 140) == (moved[:, 1:] > 127)
    assert agree.float().mean() > 0.97

    moved = augmentation.flips_and_shifts(both, "hv", 3, generator())
    assert torch.equal(moved[:, 1:], (moved[:, :1] > 140).to(torch.uint8) * 255)
