"""Decoding: one chain for every kind of file, clear words for every kind of bad one, and a cache that is read back."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fsl_utils import StudyError
from fsl_utils.data import images


def ramp(shape=(20, 30)) -> np.ndarray:
    return np.linspace(0, 255, shape[0] * shape[1]).reshape(shape).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_grey_survives_unchanged_and_a_square_is_not_resized(tmp_path, suffix):
    array = ramp((16, 16))
    Image.fromarray(array).save(tmp_path / f"a.{suffix}")
    assert (images.to_array(images.decode(tmp_path / f"a.{suffix}", 1), 16) == array).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_gives_grey_and_colour(tmp_path, mode):
    path = tmp_path / "a.tif"
    grey = Image.fromarray(ramp())
    image = (
        Image.fromarray(ramp().astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    )
    image.save(path)
    for channels in (1, 3):
        out = images.to_array(images.decode(path, channels), 16)
        assert out.shape == (channels, 16, 16) and out.dtype == np.uint8
    if mode not in ("1", "P"):
        assert np.abs(np.asarray(images.decode(path, 1)).astype(int) - ramp()).max() <= 2
    assert images.any_colour([path]) == (mode in ("P", "RGB", "RGBA", "CMYK"))


def test_sixteen_bits_are_scaled_by_their_range_and_not_by_their_contrast(tmp_path):
    wide = np.array([[0, 257, 100 * 257, 65535]], np.uint16)
    for name, array in (("bright", wide), ("dark", wide // 257)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    assert np.asarray(images.decode(tmp_path / "bright.png", 1)).tolist() == [[0, 1, 100, 255]]
    assert np.asarray(images.decode(tmp_path / "dark.png", 1)).tolist() == [[0, 0, 0, 1]]
    Image.fromarray(wide.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(StudyError, match="float.tif: 32 bits a pixel"):
        images.decode(tmp_path / "float.tif", 1)


def test_resizing_is_pils_antialiased_bicubic(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    Image.fromarray(stripes).save(tmp_path / "a.png")
    small = images.to_array(images.decode(tmp_path / "a.png", 1), 8)
    assert np.abs(small.astype(int) - 127).max() < 8  # without antialiasing it would be 0 or 255


def bomb(path):
    """A PNG of 20000 x 20000 pixels in its header, and no data."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", b"")
        + chunk(b"IEND", b"")
    )


def cut(path, format):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(
        path, format
    )
    path.write_bytes(path.read_bytes()[:700])


BAD = {
    "missing.png": (lambda p: None, "no such image"),
    "empty.png": (lambda p: p.write_bytes(b""), "not a readable image"),
    "text.png": (lambda p: p.write_text("hello"), "not a readable image"),
    "cut.png": (lambda p: cut(p, "PNG"), "not a readable image"),
    "cut.jpg": (lambda p: cut(p, "JPEG"), "not a readable image"),
    "bomb.png": (bomb, "too many pixels"),
    "folder.png": (lambda p: p.mkdir(), "not a readable image"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_and_the_mend_is_told(tmp_path, name):
    make, words = BAD[name]
    make(tmp_path / name)
    with pytest.raises(StudyError, match=words) as caught:
        images.decode(tmp_path / name, 1)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_many_bad_files_are_counted_and_three_are_named(tmp_path):
    paths = []
    for i in range(8):
        paths.append(tmp_path / f"ä {i}.png")
        Image.fromarray(ramp()).save(paths[-1])
        if i % 2:
            paths[-1].write_bytes(b"")
    with pytest.raises(
        StudyError, match=r"4 of 8 images cannot be read: .*ä 1.png.*ä 3.png.*ä 5.png.* and 1 more"
    ):
        images.read_all(paths, 8, 1, progress=False)
    assert images.read_all(paths[::2], 8, 1, progress=False).shape == (4, 1, 8, 8)


def test_the_cache_holds_the_images_in_order_and_is_not_made_twice(
    tmp_path, own_store, monkeypatch
):
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((9, 9), 50 * i, np.uint8)).save(path)
    names = [p.name for p in paths]
    first = images.cached(paths, names, images.data_hash(paths, names), 9, 1)
    assert first[:, 0, 0, 0].tolist() == [0, 50, 100, 150, 200]
    monkeypatch.setattr(images, "decode", None)
    again = images.cached(paths, names, images.data_hash(paths, names), 9, 1)
    assert (again == first).all() and isinstance(again, np.memmap) and not again.flags.writeable
    # Asked for in another order they are other rows, not the first ones' cache.
    with pytest.raises(TypeError):
        images.cached(paths[::-1], names[::-1], images.data_hash(paths, names), 9, 1)


def test_the_data_hash_knows_names_and_contents_and_not_order_or_place(tmp_path, own_store):
    def make(folder, contents):
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        return [folder / n for n in contents], list(contents)

    paths, names = make(tmp_path / "one", {"a": b"1", "b": b"2"})
    digest = images.data_hash(paths, names)
    assert images.data_hash(paths[::-1], names[::-1]) == digest
    assert images.data_hash(*make(tmp_path / "moved", {"a": b"1", "b": b"2"})) == digest
    assert images.data_hash(*make(tmp_path / "content", {"a": b"1", "b": b"3"})) != digest
    assert images.data_hash(*make(tmp_path / "name", {"a": b"1", "c": b"2"})) != digest
    assert images.data_hash(*make(tmp_path / "swapped", {"a": b"2", "b": b"1"})) != digest
    paths[0].write_bytes(b"9")
    os.utime(paths[0], (1, 1))
    assert images.data_hash(paths, names) != digest
