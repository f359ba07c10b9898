"""Sheets of images show every pixel as it is."""

import numpy as np
import pandas as pd
import pytest
from legible import styled  # noqa: F401

from fsl_utils import StudyError
from fsl_utils.figures import sheets


def test_sheet_shows_every_pixel_as_it_is():
    grey = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    colour = np.random.default_rng(1).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    figure = sheets.sheet([("grey", grey), ("none", grey[:0]), ("colour", colour)], per_row=3)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["grey", "colour"]
    first, second = (axis.get_images()[0].get_array() for axis in figure.axes)
    # The fifth image: second row, second column.
    assert (first[9:17, 9:17] == grey[4, 0][..., None]).all()
    assert (second[:8, 9:17] == colour[1].transpose(1, 2, 0)).all()


@pytest.mark.parametrize(
    "rows, word",
    [
        ([], "no image"),
        ([("a", np.zeros((0, 1, 8, 8), np.uint8))], "no image"),
        ([("a", np.zeros((2, 1, 8, 8)))], "uint8"),
        ([("a", np.zeros((2, 8, 8), np.uint8))], "'a'"),
        ([("a", np.zeros((2, 2, 8, 8), np.uint8))], "'a'"),
    ],
)
def test_a_sheet_of_something_else_is_refused(rows, word):
    with pytest.raises(StudyError, match=word):
        sheets.sheet(rows)


def test_a_difference_is_grey_where_images_are_alike():
    images = np.full((1, 1, 2, 2), 100, np.uint8)
    others = np.array([[[[100, 110], [90, 0]]]], np.uint8)
    assert sheets.difference(images, others).tolist() == [[[[128, 108], [148, 255]]]]


def test_errors_are_shown_as_images(elpv):
    table = elpv.table[elpv.table["partition"] == "test"].iloc[::9]
    found = table[["image", "label"]].assign(cell="a" * 64, score=np.linspace(0, 1, len(table)))
    found = pd.concat([found[found["label"] == label].head(2) for label in (1, 0)])
    shown = sheets.errors(found, elpv, 16).axes[0].get_images()[0].get_array()
    first = int(np.flatnonzero(elpv.table["image"] == found["image"].iloc[0])[0])
    assert (shown[:16, :16] == elpv.images(16)[first].transpose(1, 2, 0)).all()
    with pytest.raises(StudyError, match="not in the elpv data"):
        sheets.errors(found.assign(image="x.png"), elpv, 16)
