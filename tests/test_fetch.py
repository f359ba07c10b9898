"""Every data set fetched from a local server: what arrives is the publisher's, whole, in place."""

import hashlib
import lzma
import tarfile

import pytest
from server import MOST, png, server, tar_of  # noqa: F401

from fsl_utils import StudyError
from fsl_utils.data import domains, download, partitions
from fsl_utils.data.datasets import chestxray14, magnetic_tile, pv_cracks, registry, sheet


def test_cracks_arrive_from_the_path_inside_the_repository(server, monkeypatch, tmp_path):
    files = {
        f"train/{part}/EL{n}_1.{end}": f"{part} {n}".encode()
        for n in (1, 2)
        for part, end in (("img", "jpg"), ("ann", "png"))
    }
    listing = tmp_path / "list.sha256.xz"
    lines = "".join(f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in files.items())
    listing.write_bytes(lzma.compress(lines.encode()))
    monkeypatch.setattr(pv_cracks, "SUMS", listing)
    monkeypatch.setattr(pv_cracks, "BYTES", MOST)
    monkeypatch.setattr(pv_cracks, "URL", f"{server.url}/repository")
    inside = "pv-vision-9093c49a/examples/crack_segmentation/img_label_for_training/"
    server.length = "none"  # as GitHub does
    server.files["/repository"] = tar_of(
        {inside + n: c for n, c in files.items()} | {"pv-vision-9093c49a/train/img/EL9_1.jpg": b"x"}
    )
    folder = registry.fetch("pv_cracks")
    assert {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    } == files
    registry.fetch("pv_cracks")
    assert len(server.asked) == 1


def test_the_shipped_list_covers_every_cell_and_its_mask():
    cells = set(partitions.shipped("pv_cracks")["file"])
    masks = {c.replace("/img/", "/ann/").removesuffix(".jpg") + ".png" for c in cells}
    assert set(download.sums(pv_cracks.SUMS)) == cells | masks


TILES = {f"MT_Free/Imgs/exp1_num_{n}.jpg": f"photo {n}".encode() for n in range(4)}


@pytest.fixture
def tiles(server, monkeypatch, tmp_path):
    listing = tmp_path / "list.sha256"
    listing.write_text("".join(f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in TILES.items()))
    monkeypatch.setattr(magnetic_tile, "SUMS", listing)
    monkeypatch.setattr(magnetic_tile, "URL", f"{server.url}/tiles")
    server.files["/tiles"] = tar_of(
        {f"top-cc4/{n}": c for n, c in TILES.items()} | {"top-cc4/README.md": b"x"}
    )
    return server


def test_tiles_arrive_whole_and_only_what_is_wrong_is_mended(tiles, capsys):
    folder = registry.fetch("magnetic_tile")
    assert {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    } == TILES
    assert "4 of 4 files to get" in capsys.readouterr().out
    registry.fetch("magnetic_tile")
    assert len(tiles.asked) == 1
    spoilt = folder / min(TILES)
    spoilt.write_bytes(b"spoilt")
    registry.fetch("magnetic_tile")
    assert spoilt.read_bytes() == TILES[min(TILES)] and len(tiles.asked) == 2


def test_a_changed_tile_is_refused(tiles):
    changed = dict(TILES) | {max(TILES): b"other"}
    tiles.files["/tiles"] = tar_of({f"top/{n}": c for n, c in changed.items()})
    with pytest.raises(StudyError, match="num_3.jpg has not the SHA-256"):
        registry.fetch("magnetic_tile")
    assert not (sheet.data_root() / "magnetic_tile" / max(TILES)).exists()


def test_a_missing_tile_is_named(tiles):
    tiles.files["/tiles"] = tar_of({f"top/{n}": c for n, c in list(TILES.items())[1:]})
    with pytest.raises(StudyError, match="1 files are not in the archive .*num_0.jpg"):
        registry.fetch("magnetic_tile")


@pytest.mark.parametrize("name", ["../evil.jpg", "top/../../../evil.jpg"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(tiles, name, tmp_path):
    tiles.files["/tiles"] = tar_of({name: b"evil"} | {f"top/{n}": c for n, c in TILES.items()})
    with pytest.raises(StudyError, match="not the publisher's archive"):
        registry.fetch("magnetic_tile")
    assert not list(tmp_path.rglob("evil.jpg"))


def test_names_that_are_not_the_publishers_are_never_unpacked(tiles, tmp_path):
    others = [
        str(tmp_path / "evil.jpg"),
        "top/MT_Free/Imgs/evil.jpg",
        "MT_Free/Imgs/exp1_num_9.jpg",
        "top/evil.sh",
    ]
    tiles.files["/tiles"] = tar_of(
        dict.fromkeys(others, b"evil") | {f"top/{n}": c for n, c in TILES.items()}
    )
    folder = registry.fetch("magnetic_tile")
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == set(
        TILES
    )
    assert not list(tmp_path.rglob("evil*"))


def test_links_in_an_archive_are_refused(tiles):
    def link(info):
        info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0

    tiles.files["/tiles"] = tar_of({f"top/{min(TILES)}": b""}, link)
    with pytest.raises(StudyError, match="not the publisher's archive"):
        registry.fetch("magnetic_tile")
    assert not list((sheet.data_root() / "magnetic_tile").iterdir())


@pytest.mark.parametrize(
    "spoil", [lambda c: c[: len(c) // 2], lambda c: b"<html>busy</html>", lambda c: b""]
)
def test_a_damaged_archive_is_refused_and_removed(tiles, spoil):
    tiles.files["/tiles"] = spoil(tiles.files["/tiles"])
    with pytest.raises(StudyError, match="not the publisher's archive|not in the archive"):
        registry.fetch("magnetic_tile")
    assert not (sheet.data_root() / "magnetic_tile" / "magnetic_tile.tar.gz").exists()


@pytest.fixture
def chest(server, monkeypatch):
    names = partitions.shipped("chestxray14")["file"]
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position\n"
    )
    rows = "".join(
        f"{n},{'Effusion' if i % 3 == 0 else 'No Finding'},0,{int(n[:8])},50,F,PA\n"
        for i, n in enumerate(names)
    )
    server.files["/labels"] = (header + rows).encode()
    monkeypatch.setattr(chestxray14, "LABELS_URL", f"{server.url}/labels")
    monkeypatch.setattr(chestxray14, "URL", server.url + "/{}.gz")
    archives = {}
    for n in (1, 2):
        images = {
            f"images/{name}": png(i, "RGBA" if i % 2 else "L")
            for i, name in enumerate(names[(n - 1) * 200 : n * 200])
        }
        server.files[f"/archive{n}.gz"] = content = tar_of(images | {"images/": b""})
        archives[n] = (f"archive{n}", len(content), hashlib.md5(content).hexdigest())
    monkeypatch.setattr(chestxray14, "ARCHIVES", archives)
    return server


def test_chest_archives_arrive_and_the_domain_reads_them(chest, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("FSL_STORE", str(tmp_path / "store"))
    chest.breaks = 1
    folder = registry.fetch("chestxray14", "2")
    assert "1 of 1 archives to get" in capsys.readouterr().out
    assert len(list((folder / "images_002/images").iterdir())) == 200
    registry.fetch("chestxray14", "1,2")
    assert sorted(p.name for p in folder.iterdir()) == [
        "Data_Entry_2017_v2020.csv",
        "images_001",
        "images_002",
    ]
    domain = domains.load("chestxray14")
    assert len(domain.table) == 400 and domain.images(8).shape == (400, 1, 8, 8)


def test_an_image_of_an_archive_that_does_not_decode_stops_it(chest, monkeypatch):
    content = tar_of({"images/00000001_000.png": png(1)[:40], "images/00000001_001.png": png(1)})
    chest.files["/archive1.gz"] = content
    monkeypatch.setitem(
        chestxray14.ARCHIVES, 1, ("archive1", len(content), hashlib.md5(content).hexdigest())
    )
    with pytest.raises(StudyError, match="1 of 2 images cannot be read: .*00000001_000.png"):
        registry.fetch("chestxray14", "1")
    assert not list((sheet.data_root() / "chestxray14").glob("*images_001/"))


def test_a_web_page_in_place_of_the_label_table_is_refused(chest):
    chest.files["/labels"] = b"<!doctype html><p>sign in</p>"
    with pytest.raises(StudyError, match="columns"):
        registry.fetch("chestxray14", "1")
    assert not list((sheet.data_root() / "chestxray14").iterdir())


def test_wrong_names_and_a_full_disk_are_told_before_anything_is_fetched(chest, monkeypatch):
    for name, archives, words in (
        ("chestxray14", "0,13", r"unknown archives \[0, 13\]"),
        ("chestxray14", "1;2", "--archives is '1;2'"),
        ("chestxray14", "", r"12 archives, 45.1 GB in all \(1: 2.0 GB, 2: 4.0 GB.*--archives 1 is"),
        ("magnetic_tile", "1", "one archive"),
        ("elpv", "", "pip install elpv-dataset"),
        ("folder", "", "nothing to fetch"),
        ("moon", "", "unknown domain 'moon'"),
    ):
        with pytest.raises(StudyError, match=words):
            registry.fetch(name, archives)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(StudyError, match="needed, 0 MB free"):
        registry.fetch("chestxray14", "1")
    assert chest.asked == []


def test_the_shipped_list_covers_every_photo_and_its_mask():
    listed = set(download.sums(magnetic_tile.SUMS))
    photos = set(partitions.shipped("magnetic_tile")["file"])
    assert listed == photos | {p.removesuffix(".jpg") + ".png" for p in photos}
