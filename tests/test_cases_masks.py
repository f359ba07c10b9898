"""Masks and boxes that lie in people's folders are found, used and never taken for images."""

import cases
import numpy as np
import pytest
from cases import load, note, root  # noqa: F401
from PIL import Image

from fsl_utils import StudyError
from fsl_utils.data import partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator import regions


def beside(word, suffix):
    return lambda path: path.with_name(f"{path.stem}{word}{suffix}")


def in_folder(*parts):
    return lambda path: path.parents[1].joinpath(*parts, f"{path.stem}.png")


PLACES = {
    "_mask": beside("_mask", ".png"),
    "_label.bmp": beside("_label", ".bmp"),
    "_GT": beside("_GT", ".png"),
    "other suffix": beside("", ".png"),
    "jpeg": beside("_mask", ".jpeg"),
    "masks/": in_folder("masks"),
    "masks/class/": in_folder("masks", "scratch"),
    "class/masks/": in_folder("scratch", "masks"),
    "ground_truth/": in_folder("ground_truth", "scratch"),
}


@pytest.mark.parametrize("place", PLACES)
def test_masks_are_no_images_and_are_used(root, place):
    cases.parts(root, ".jpg")
    for path in sorted((root / "scratch").glob("*.jpg")):
        mask, where = np.zeros((96, 96), np.uint8), PLACES[place](path)
        mask[10:28, 12:84] = 255
        where.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(where)
    domain = load(root)
    assert len(domain.table) == 80 and domain.table["label"].sum() == 27
    assert note(domain, "masks belong to images").startswith("27 masks")
    draw = partitions.draw(domain.table, 0, 8)
    marks = domain.masks(draw.shots, 96)
    assert (
        domain.has_masks
        and (marks[:, 0, 12:26, 14:82] == 255).all()
        and marks[:, 0, 40:].max() == 0
    )
    pasted = regions.paste(FewShotTask(domain, draw), 48, 0, range(4))
    assert pasted.shape == (4, 1, 48, 48)


def test_the_shared_case_of_masks(root):
    cases.masks(root)
    assert load(root).table["label"].sum() == 27


def test_other_masks_are_another_data_set(root):
    cases.masks(root)
    before = load(root)
    Image.new("L", (96, 96), 255).save(root / "scratch/part000_a_mask.png")
    after = load(root)
    assert after.data_hash != before.data_hash
    assert "part000_a_mask.png" in note(after, "more than half")


@pytest.mark.parametrize("values", [(0, 1), (0, 3), (0, 255), (0, 65535)])
def test_any_value_above_black_marks(root, values):
    cases.parts(root, ".jpg")
    for path in sorted((root / "scratch").glob("*.jpg")):
        mask = np.zeros((96, 96), np.uint16 if values[1] > 255 else np.uint8)
        mask[40, 3:90] = values[1]
        Image.fromarray(mask).save(path.with_name(f"{path.stem}_mask.png"))
    domain = load(root)
    rows = np.flatnonzero(domain.table["label"])
    assert (
        domain.masks(rows, 16).reshape(27, 16, 16).max(axis=(1, 2)) == 255
    ).all()  # thin, not lost


def test_photos_named_like_masks_and_drawings_stay_images(root):
    cases.parts(root, "_label.png")
    domain = load(root)
    assert len(domain.table) == 80 and note(domain, "named like masks").endswith("77 more")
    drawings = cases.parts(
        root.parent / "drawings",
        save=lambda image, path, i, rare: image.point(lambda v: 255 * (v > 130)).save(path),
    )
    assert len(load(drawings).table) == 80


def test_stray_masks_are_left_out_and_named(root):
    cases.parts(root)
    Image.fromarray(np.eye(96, dtype=np.uint8) * 255).save(root / "scratch/part900_x.png")
    domain = load(root)
    assert len(domain.table) == 80 and "scratch/part900_x.png" in note(domain, "masks of no image")


def test_boxes_are_weak_masks(root):
    cases.parts(root)
    names = [f"scratch/{p.name}" for p in sorted((root / "scratch").glob("*.png"))]
    (root / "boxes.csv").write_text("file,x,y,w,h\n" + "".join(f"{n},12,10,72,18\n" for n in names))
    domain = load(root)
    marks = domain.masks(np.flatnonzero(domain.table["label"]), 96)
    assert domain.has_masks and (marks.sum(axis=(1, 2, 3)) == 255 * 72 * 18).all()
    assert "27 images" in note(domain, "boxes mark defects")
    with open(root / "boxes.csv", "a") as file:
        file.write(f"{names[0]},90,10,72,18\n")
    with pytest.raises(
        StudyError, match=r"1 boxes do not lie inside .*row 29, scratch/part000_a\.png"
    ):
        load(root)
