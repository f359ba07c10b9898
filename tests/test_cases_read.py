"""Files that people really have: each is read as a person would see it, or refused in words."""

import time

import cases
import numpy as np
import pytest
from cases import bar, load, note, root, side  # noqa: F401
from PIL import Image

from fsl_utils import StudyError
from fsl_utils.data import cache


def test_a_swap_under_the_same_names_sizes_and_times_is_seen(root, monkeypatch):
    monkeypatch.setattr(cache, "_TICK", 20_000_000)
    cases.stale(root)
    time.sleep(0.05)
    before, again = load(root), load(root)
    assert before.data_hash == again.data_hash
    cases.swap(root)
    after = load(root)
    assert after.data_hash != before.data_hash
    table = after.table.set_index("image").loc["good/part001_a.bmp"]
    at = after.table["image"].tolist().index("good/part001_a.bmp")
    assert table["label"] == 0 and bar(after.images(48))[at] > 10  # the rare picture lies there now
    assert (side(after) == side(before)).all()


def test_turned_photos_stand_upright(root):
    cases.exif(root)
    domain = load(root)
    rare = domain.table["label"].to_numpy() == 1
    assert (bar(domain.images(48))[rare] > 10).all()
    assert note(domain, "EXIF orientation").startswith("40 images are turned")


def test_hidden_colours_tell_nothing(root):
    cases.alpha(root)
    domain = load(root)
    corner = domain.images(96)[:, 0, :8, :8]
    assert (corner == 255).all()
    assert note(domain, "see-through").startswith("80 images")


def test_several_pages_are_refused(root):
    cases.pages(root)
    with pytest.raises(
        StudyError, match=r"80 of 80 images cannot be read: .*part001_a\.tif: 4 pages"
    ):
        load(root)


def deep(root, scale=1, offset=0, signed=False, inverted=False):
    """16-bit files of the base images, in the units of another camera."""
    info = {339: 2} if signed else {262: 0} if inverted else {}

    def save(image, path, i, rare):
        grey = np.asarray(image).astype(int)
        values = ((255 - grey if inverted else grey) * scale + offset).astype(
            np.int16 if signed else np.uint16
        )
        Image.fromarray(values.view(np.uint16)).save(path, tiffinfo=info)

    return cases.parts(root, ".tif", save)


@pytest.mark.parametrize(
    "unit, levels",
    [
        ({"scale": 1}, "0 is black, 255 white"),
        ({"scale": 4}, "0 is black, 1023 white"),
        ({"scale": 16}, "0 is black, 4095 white"),
        ({"scale": 16, "inverted": True}, "0 is black, 4095 white"),
        ({"scale": 16, "signed": True}, "0 is black, 4095 white"),
        ({"scale": 16, "signed": True, "offset": -1000}, r"-\d+ is black, \d+ white"),
    ],
)
def test_sixteen_bit_files_are_not_black(root, unit, levels):
    deep(root, **unit)
    domain = load(root)
    shown = np.stack(
        [cases.pixels(int(n[-9:-6]), n.startswith("s")) for n in domain.table["image"]]
    )
    contrast = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(domain.images(96)[:, 0], shown)
    ]
    assert min(contrast) > 0.999 and domain.images(96).max() > 128
    assert note(domain, levels).startswith("80 images of 16 bits")


def test_one_factor_for_the_whole_folder(root):
    cases.twelve_bits(root)
    domain = load(root)
    assert np.abs(domain.images(96)[0, 0].astype(int) - cases.pixels(1, False)).max() <= 1
    full = load(
        cases.parts(
            root.parent / "full",
            save=lambda image, path, i, rare: Image.fromarray(
                np.asarray(image).astype(np.uint16) * 257
            ).save(path),
        )
    )
    assert "white" not in full.table and not [n for n in full.notes if "16 bits" in n]
    assert np.array_equal(full.images(96)[0, 0], cases.pixels(1, False))


def test_a_hot_pixel_that_leaves_the_rest_dark_is_told(root):
    cases.twelve_bits(root)
    hot = np.asarray(Image.open(root / "good/part001_a.png")).copy()
    hot[0, 0] = 65535
    Image.fromarray(hot).save(root / "good/part001_a.png")
    assert "brightest is good/part001_a.png" in note(load(root), "come out dark")


def test_other_formats_and_nested_folders_are_read(root):
    cases.other_files(root)
    domain = load(root)
    assert len(domain.table) == 80 and domain.table["label"].sum() == 27
    (root / "good/raw.heic").write_bytes(b"x"), (root / "good/cam0/notes.txt").write_text("x")
    assert note(load(root), "left out").startswith(
        "2 files are no images that are read and are left out (1 .heic, 1 .txt)"
    )


def test_an_eps_is_named_and_left_out(root):
    cases.postscript(root)
    domain = load(root)
    assert len(domain.table) == 79
    assert "good/part001_a.png" in note(domain, "another format than their names say")


def test_a_name_that_is_not_utf8_is_shown(root):
    try:
        cases.latin1(root)
    except OSError:
        pytest.skip("this file system takes no such names")
    with pytest.raises(StudyError, match=r"part001_gepr\\xfcft\.png is not UTF-8; rename it"):
        load(root)


def test_colour_is_there_for_who_asks(root):
    cases.parts(
        root,
        ".jpg",
        lambda image, path, i, rare: Image.merge(
            "RGB", [image, image, Image.new("L", image.size, 40)]
        ).save(path),
    )
    domain = load(root)
    assert domain.channels == 3 and "mini paints grey" in note(domain, "in colour")
    assert domain.images(48).shape == (80, 1, 48, 48) and domain.images(48, 3).shape == (
        80,
        3,
        48,
        48,
    )
    assert domain.images(48, 3)[:, 2].mean() < 60 < domain.images(48, 3)[:, 0].mean()


def test_grey_saved_as_colour_is_grey(root):
    cases.parts(root, ".jpg", lambda image, path, i, rare: image.convert("RGB").save(path))
    assert load(root).channels == 1
