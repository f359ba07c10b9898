"""From decoded pictures to arrays, and a cache that is read back and notices what has changed."""

import os
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from fsl_utils import StudyError
from fsl_utils.data import cache, decoding, images


def ramp(shape=(20, 30)) -> np.ndarray:
    return np.linspace(0, 255, shape[0] * shape[1]).reshape(shape).astype(np.uint8)


def test_resizing_is_pils_antialiased_bicubic(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    Image.fromarray(stripes).save(tmp_path / "a.png")
    small = images.to_array(decoding.decode(tmp_path / "a.png", 1), 8)
    assert np.abs(small.astype(int) - 127).max() < 8  # without antialiasing it would be 0 or 255


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
    first = cache.pixels(paths, names, cache.data_hash(paths, names), 9, 1)
    assert first[:, 0, 0, 0].tolist() == [0, 50, 100, 150, 200]
    monkeypatch.setattr(decoding, "decode", None)
    again = cache.pixels(paths, names, cache.data_hash(paths, names), 9, 1)
    assert (again == first).all() and isinstance(again, np.memmap) and not again.flags.writeable
    # Asked for in another order they are other rows, not the first ones' cache.
    with pytest.raises(TypeError):
        cache.pixels(paths[::-1], names[::-1], cache.data_hash(paths, names), 9, 1)


def test_the_data_hash_knows_names_and_contents_and_not_order_or_place(tmp_path, own_store):
    def make(folder, contents):
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        return [folder / n for n in contents], list(contents)

    paths, names = make(tmp_path / "one", {"a": b"1", "b": b"2"})
    digest = cache.data_hash(paths, names)
    assert cache.data_hash(paths[::-1], names[::-1]) == digest
    assert cache.data_hash(*make(tmp_path / "moved", {"a": b"1", "b": b"2"})) == digest
    assert cache.data_hash(*make(tmp_path / "content", {"a": b"1", "b": b"3"})) != digest
    assert cache.data_hash(*make(tmp_path / "name", {"a": b"1", "c": b"2"})) != digest
    assert cache.data_hash(*make(tmp_path / "swapped", {"a": b"2", "b": b"1"})) != digest
    paths[0].write_bytes(b"9")
    os.utime(paths[0], (1, 1))
    assert cache.data_hash(paths, names) != digest


def in_place(path, other):
    path.write_bytes(other.read_bytes())


def swapped(path, other):
    aside = path.with_name("aside")
    path.rename(aside), other.rename(path), aside.rename(other)


def replaced(path, other):
    shutil.copy2(other, path.with_name("new")), path.with_name("new").rename(path)


@pytest.mark.parametrize("change", [in_place, swapped, replaced])
def test_other_content_under_the_same_name_size_and_time_is_noticed(
    tmp_path, own_store, monkeypatch, change
):
    monkeypatch.setattr(cache, "_TICK", 20_000_000)
    paths = [tmp_path / name for name in ("a.bmp", "b.bmp")]
    for path, grey in zip(paths, (10, 200)):
        Image.fromarray(np.full((9, 9), grey, np.uint8)).save(path)
        os.utime(path, (1_700_000_000, 1_700_000_000))
    names = [p.name for p in paths]
    for _ in range(2):  # fresh, and when the first reading has been remembered
        before = cache.data_hash(paths, names)
        time.sleep(0.05)
    assert list((own_store / "hashes").iterdir())
    change(*paths)
    for path in paths:
        os.utime(path, (1_700_000_000, 1_700_000_000))
    after = cache.data_hash(paths, names)
    assert after != before
    assert cache.pixels(paths, names, after, 9, 1)[0, 0, 0, 0] == 200


def test_a_damaged_memo_is_not_believed(tmp_path):
    cache.remember(tmp_path / "memo", ["one", 2])
    text = (tmp_path / "memo").read_bytes()
    assert cache.recall(tmp_path / "memo") == ["one", 2] and cache.recall(tmp_path / "none") is None
    for i in range(len(text)):
        (tmp_path / "memo").write_bytes(text[:i] + bytes([text[i] ^ 4]) + text[i + 1 :])
        assert cache.recall(tmp_path / "memo") is None, i
