"""Near-duplicates: made copies of real images are found, different images are not joined."""

import io

import numpy as np
import pytest
from PIL import Image

from fsl_utils.data import alignment, duplicates, images


def saved(image, quality):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out)


def graded(image, change):
    grey = np.asarray(image.convert("L")) / 255
    return Image.fromarray((change(grey).clip(0, 1) * 255).round().astype(np.uint8))


COPIES = {
    "quality 30": lambda image: saved(image, 30),
    "darker, saved": lambda image: saved(graded(image, lambda x: 0.5 * x), 85),
    "gamma": lambda image: graded(image, lambda x: x**1.6),
    "less contrast": lambda image: graded(image, lambda x: 0.6 * x + 0.2),
    "half the size": lambda image: image.resize((150, 150), Image.Resampling.LANCZOS),
}


@pytest.fixture(scope="module")
def cells(elpv):
    """Rows of 150 development cells, their pixels and groups."""
    rows = elpv.rows("development")[::7]
    return rows, elpv.images(duplicates.SIZE)[rows], elpv.table["group"].to_numpy()[rows]


def test_copies_of_real_cells_are_found_and_no_others(elpv, cells):
    rows, pixels, groups = cells
    parents = np.arange(0, len(rows), 6)[:20]
    changes = [list(COPIES.values())[i % len(COPIES)] for i in range(len(parents))]
    paths = elpv.table["path"].to_numpy()[rows[parents]]
    copies = np.stack(
        [
            images.to_array(change(Image.open(path)).convert("L"), duplicates.SIZE)
            for change, path in zip(changes, paths)
        ]
    )
    strangers = [f"copy {i}" for i in range(len(copies))]
    found = duplicates.pairs(
        np.concatenate([pixels, copies]), np.concatenate([groups.astype(object), strangers])
    )
    links = set(zip(found["image"], found["other"]))
    true = set(zip(parents, range(len(pixels), len(pixels) + len(copies))))
    assert not links - true and len(true - links) <= 1


def test_a_slight_crop_of_a_textured_cell_is_seen_through(elpv, cells):
    rows, pixels, groups = cells
    poly = elpv.table["stratum"].to_numpy()[rows].astype(str)
    parents = np.flatnonzero(np.char.startswith(poly, "poly"))[:20]
    paths = elpv.table["path"].to_numpy()[rows[parents]]
    copies = np.stack(
        [
            images.to_array(Image.open(path).convert("L").crop((5, 3, 296, 298)), duplicates.SIZE)
            for path in paths
        ]
    )
    strangers = [f"copy {i}" for i in range(len(copies))]
    found = duplicates.pairs(
        np.concatenate([pixels, copies]), np.concatenate([groups.astype(object), strangers])
    )
    true = set(zip(parents, range(len(pixels), len(pixels) + len(copies))))
    links = set(zip(found["image"], found["other"]))
    assert not links - true and len(links) >= 14


def test_images_without_structure_agree_with_none(cells):
    _, pixels, _ = cells
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 2, (6, 1, 64, 64)).astype(np.uint8)
    flat = np.full((6, 1, 64, 64), 90, np.uint8)
    stacked = np.concatenate([pixels[:60], dark, flat])
    found = duplicates.pairs(stacked, np.arange(len(stacked)))
    assert not (found[["image", "other"]].to_numpy() >= 60).any()


def test_one_group_or_one_image_has_no_pairs(cells):
    _, pixels, _ = cells
    assert duplicates.pairs(pixels[:5], np.zeros(5)).empty
    assert duplicates.pairs(pixels[:1], np.zeros(1)).empty


def test_a_known_stretch_and_shift_are_recovered(cells):
    _, pixels, _ = cells
    moved = duplicates.Structure(pixels, 64).fine[:20]
    true = np.tile(np.array([-0.05, 0.04, 0.03, -0.02], np.float32), (20, 1))
    fixed = alignment.warped(moved[:, None], true)[:, 0]
    place = alignment.aligned(fixed, moved, np.zeros_like(true), 12)
    assert np.median(np.abs(place - true)) < 0.002


def test_no_stretch_and_no_shift_change_nothing():
    x = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    still = np.zeros((2, 4), np.float32)
    np.testing.assert_allclose(alignment.warped(x, still), x, atol=1e-5)
    assert alignment.overlap(still, 16).all()
    right = still + np.array([0, 0, 2 / 16, 0], np.float32)  # one pixel
    np.testing.assert_allclose(alignment.warped(x, right)[..., :-1], x[..., 1:], atol=1e-5)
