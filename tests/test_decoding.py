"""Decoding: one picture for every kind of file, clear words for every kind of bad one."""

import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from fsl_utils import StudyError
from fsl_utils.data import decoding, images


def ramp(shape=(20, 30)) -> np.ndarray:
    return np.linspace(0, 255, shape[0] * shape[1]).reshape(shape).astype(np.uint8)


def grey(path, levels=None) -> np.ndarray:
    return np.asarray(decoding.decode(path, 1, levels)).astype(int)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_grey_survives_unchanged_and_a_square_is_not_resized(tmp_path, suffix):
    array = ramp((16, 16))
    Image.fromarray(array).save(tmp_path / f"a.{suffix}")
    assert (images.to_array(decoding.decode(tmp_path / f"a.{suffix}", 1), 16) == array).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_gives_grey_and_colour(tmp_path, mode):
    path = tmp_path / "a.tif"
    grey = Image.fromarray(ramp())
    image = (
        Image.fromarray(ramp().astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    )
    image.save(path)
    for channels in (1, 3):
        out = images.to_array(decoding.decode(path, channels), 16)
        assert out.shape == (channels, 16, 16) and out.dtype == np.uint8
    if mode not in ("1", "P"):
        assert np.abs(np.asarray(decoding.decode(path, 1)).astype(int) - ramp()).max() <= 2


def test_sixteen_bits_are_scaled_by_their_range_and_not_by_their_contrast(tmp_path):
    wide = np.array([[0, 257, 100 * 257, 65535]], np.uint16)
    for name, array in (("bright", wide), ("dark", wide // 257)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    assert np.asarray(decoding.decode(tmp_path / "bright.png", 1)).tolist() == [[0, 1, 100, 255]]
    assert np.asarray(decoding.decode(tmp_path / "dark.png", 1)).tolist() == [[0, 0, 0, 1]]
    Image.fromarray(wide.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(StudyError, match=r"float\.tif: 32 bits a pixel"):
        decoding.decode(tmp_path / "float.tif", 1)


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
        decoding.decode(tmp_path / name, 1)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_may_not_be_read_are_told(tmp_path, monkeypatch):
    ramp_file = tmp_path / "a.png"
    Image.fromarray(ramp()).save(ramp_file)
    ramp_file.chmod(0)
    if os.access(ramp_file, os.R_OK):  # an administrator may read all
        monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(PermissionError()))
    with pytest.raises(StudyError, match=r"a\.png: no permission to read it"):
        decoding.decode(ramp_file, 1)


# -- What a viewer shows is what is read ---------------------------------------------------------

UPRIGHT = {  # what the stored array must become, by EXIF orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a),
}
LOSSLESS = {
    "png": {},
    "raw.tif": {},
    "lzw.tif": {"compression": "tiff_lzw"},
    "webp": {"lossless": True},
    "jpg": {"quality": 100},
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", LOSSLESS)
def test_orientation_is_honoured_in_every_format(tmp_path, suffix, orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.fromarray(ramp()).save(tmp_path / f"a.{suffix}", exif=tags, **LOSSLESS[suffix])
    expected = UPRIGHT[orientation](ramp()).astype(int)
    assert np.abs(grey(tmp_path / f"a.{suffix}") - expected).max() <= 2
    assert decoding.size(tmp_path / f"a.{suffix}") == expected.shape[::-1]
    assert decoding.picture(tmp_path / f"a.{suffix}").turned == (orientation != 1)


def test_orientation_of_sixteen_bits(tmp_path):
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(ramp().astype(np.uint16) * 257).save(tmp_path / "a.png", exif=tags)
    assert (grey(tmp_path / "a.png") == UPRIGHT[6](ramp())).all()


def transparent(mode, hidden):
    """A ramp whose left half is see-through, with `hidden` as the grey below."""
    shown = ramp((20, 30)).astype(int) // 2 + 20
    shown[:, :15] = hidden
    alpha = np.full(shown.shape, 255, np.uint8)
    alpha[:, :15] = 0
    layers = [shown.astype(np.uint8)] * (3 if mode == "RGBA" else 1)
    image = Image.fromarray(np.dstack([*layers, alpha]))
    if mode in ("LA", "RGBA"):
        return image, {}
    flat = Image.fromarray(shown.astype(np.uint8))  # its hidden grey stands nowhere else
    if mode == "P":
        palette = flat.convert("P")
        return palette, {"transparency": palette.getpixel((0, 0))}
    if mode == "I;16":
        return Image.fromarray(shown.astype(np.uint16) * 257), {"transparency": hidden * 257}
    return flat.convert(mode), {"transparency": hidden if mode == "L" else (hidden,) * 3}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB", "I;16"])
def test_what_lies_under_alpha_is_never_seen(tmp_path, mode):
    read = []
    for name, hidden in (("black", 0), ("white", 255)):
        image, options = transparent(mode, hidden)
        image.save(tmp_path / f"{name}.png", **options)
        read.append(grey(tmp_path / f"{name}.png"))
    assert (read[0] == read[1]).all() and (read[0][:, :15] == 255).all()
    assert np.abs(read[0][:, 15:] - (ramp()[:, 15:].astype(int) // 2 + 20)).max() <= 1


def test_opaque_alpha_changes_nothing(tmp_path):
    Image.fromarray(ramp()).convert("RGBA").save(tmp_path / "a.png")
    assert (grey(tmp_path / "a.png") == ramp()).all()
    assert not decoding.picture(tmp_path / "a.png").see_through


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_several_frames_are_refused(tmp_path, suffix):
    frames = [Image.fromarray(np.full((8, 8), 40 * i, np.uint8)) for i in range(4)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(StudyError, match=f"a.{suffix}: 4 pages or frames, and which is the image"):
        decoding.decode(tmp_path / f"a.{suffix}", 1)


def test_a_thumbnail_page_is_not_taken_for_the_image(tmp_path):
    thumbnail, photo = Image.fromarray(np.zeros((4, 4), np.uint8)), Image.fromarray(ramp())
    thumbnail.encoderinfo, photo.encoderinfo = {"tiffinfo": {254: 1}}, {"tiffinfo": {254: 0}}
    thumbnail.save(tmp_path / "a.tif", save_all=True, append_images=[photo], tiffinfo={254: 1})
    assert (grey(tmp_path / "a.tif") == ramp()).all()


def test_the_first_picture_of_a_phones_jpeg_is_the_photo(tmp_path):
    photo = Image.fromarray(ramp()).convert("RGB")
    photo.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[photo.reduce(2)])
    assert grey(tmp_path / "a.jpg").shape == ramp().shape


# -- Sixteen bits that are not full --------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_levels_scale_what_the_files_hold(tmp_path, bits):
    white = 2**bits - 1
    wide = np.rint(ramp() / 255 * white).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / "a.png")
    assert np.abs(grey(tmp_path / "a.png", decoding.Levels(0, white)) - ramp()).max() <= 1


def test_white_is_zero_is_inverted_at_every_depth(tmp_path):
    for name, array in (("8", ramp()), ("16", ramp().astype(np.uint16) * 257)):
        top = np.iinfo(array.dtype).max
        Image.fromarray(top - array).save(tmp_path / f"{name}.tif", tiffinfo={262: 0})
        stored = Image.open(tmp_path / f"{name}.tif")
        assert stored.tag_v2[262] == 0
    assert (grey(tmp_path / "16.tif") == ramp()).all()


def test_signed_sixteen_bits_are_sixteen(tmp_path):
    Image.fromarray(ramp().astype(np.uint16) * 16).save(tmp_path / "a.tif", tiffinfo={339: 2})
    assert np.abs(grey(tmp_path / "a.tif", decoding.Levels(0, 4095)) - ramp()).max() <= 1
    below = (ramp().astype(np.int16) * 16 - 1000).view(np.uint16)
    Image.fromarray(below).save(tmp_path / "b.tif", tiffinfo={339: 2})
    assert np.abs(grey(tmp_path / "b.tif", decoding.Levels(-1000, 3095)) - ramp()).max() <= 1


def test_a_declared_range_is_used(tmp_path):
    (tmp_path / "a.pgm").write_bytes(
        b"P5 30 20 4095\n" + (ramp().astype(np.uint16) * 16).astype(">u2").tobytes()
    )
    assert np.abs(grey(tmp_path / "a.pgm") - ramp()).max() <= 1


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is read there")
def test_a_large_sixteen_bit_image_takes_little_more_than_its_file(tmp_path):
    """81 megapixels: half a gigabyte, not one and a half."""
    path = tmp_path / "large.tif"
    Image.new("I;16", (9000, 9000), 4000).save(path, compression="tiff_adobe_deflate")
    code = (
        f"from fsl_utils.data import decoding; decoding.decode({str(path)!r}, 1);"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    peak = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(peak.stdout) < 500_000  # KiB


# -- Formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["gif", "webp", "jp2", "pgm", "avif", "jfif", "dib"])
def test_formats_that_are_read(tmp_path, suffix):
    Image.fromarray(ramp()).save(tmp_path / f"a.{suffix}")
    assert np.abs(grey(tmp_path / f"a.{suffix}") - ramp()).mean() < 4
    assert f".{suffix}" in decoding.SUFFIXES


def test_no_other_program_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 96\nshowpage\n")
    with pytest.raises(decoding.OtherFormat, match=r"a\.png: EPS, which is not read"):
        decoding.decode(path, 1)
