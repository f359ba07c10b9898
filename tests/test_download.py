"""Downloads from a local server: resume, broken connections, wrong files, hostile archives. The
real servers are never asked.
"""

import hashlib
import io
import lzma
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from fsl_utils import StudyError
from fsl_utils.data import domains, download, partitions
from fsl_utils.data.datasets import chestxray14, magnetic_tile, pv_cracks, registry, sheet

CONTENT = np.random.default_rng(0).bytes(300_000)
MOST = 1_000_000


class Server:
    """Serves `files` by path, with Range. `breaks`: how many replies stop half-way. `ranges`:
    whether Range is honoured. `length`: what it says of a reply's length, the truth if empty,
    'none' for nothing.
    """

    length = ""

    def __init__(self):
        self.files, self.breaks, self.ranges, self.asked = {}, 0, True, []

    def reply(self, request):
        self.asked.append((request.path, request.headers.get("Range")))
        content = self.files.get(request.path)
        if content is None:
            return request.send_error(404)
        start = 0
        if self.ranges and (asked := request.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return request.send_error(416)
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        body = content[start:]
        if self.length != "none":
            request.send_header("Content-Length", self.length or str(len(body)))
        request.end_headers()
        if self.breaks:
            self.breaks -= 1
            body = body[: len(body) // 2]
            request.close_connection = True
        request.wfile.write(body)


@pytest.fixture
def server(monkeypatch, tmp_path):
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.reply(self)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    state.url = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    monkeypatch.setenv("FSL_DATA_DIR", str(tmp_path / "data"))
    yield state
    http.shutdown()
    http.server_close()


def tar_of(members: dict[str, bytes], change=None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if change:
                change(info)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def png(value: int, mode: str = "L") -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((16, 16), value, np.uint8)).convert(mode).save(out, "PNG")
    return out.getvalue()


# -- download
# -----------------------------------------------------------------------------------------


def test_a_download_is_the_file_and_is_not_repeated(server, tmp_path):
    server.files["/a"] = CONTENT
    path = download.download(
        f"{server.url}/a", tmp_path / "a", len(CONTENT), True, hashlib.md5(CONTENT).hexdigest()
    )
    assert path.read_bytes() == CONTENT
    download.download(f"{server.url}/a", tmp_path / "a", MOST)
    assert len(server.asked) == 1 and not list(tmp_path.glob("*.part"))


def test_a_part_left_behind_is_gone_on_from(server, tmp_path):
    server.files["/a"] = CONTENT
    (tmp_path / "a.part").write_bytes(CONTENT[:100_000])
    assert download.download(f"{server.url}/a", tmp_path / "a", MOST).read_bytes() == CONTENT
    assert server.asked == [("/a", "bytes=100000-")]


def test_a_part_is_done_over_where_the_server_cannot_resume(server, tmp_path):
    server.files["/a"], server.ranges = CONTENT, False
    (tmp_path / "a.part").write_bytes(b"something else")
    assert download.download(f"{server.url}/a", tmp_path / "a", MOST).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_done_over(server, tmp_path):
    server.files["/a"] = CONTENT
    (tmp_path / "a.part").write_bytes(CONTENT + b"more")
    assert download.download(f"{server.url}/a", tmp_path / "a", MOST).read_bytes() == CONTENT


def test_broken_connections_are_resumed_within_a_run(server, tmp_path):
    server.files["/a"], server.breaks = CONTENT, 7  # more than TRIES, but each brings new bytes
    assert download.download(f"{server.url}/a", tmp_path / "a", MOST).read_bytes() == CONTENT
    starts = [0 if r is None else int(r[6:-1]) for _, r in server.asked]
    assert len(starts) == 8 and starts == sorted(set(starts))


def test_a_server_that_is_gone_keeps_the_part_for_the_next_run(server, tmp_path):
    server.files["/a"] = CONTENT
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    with pytest.raises(StudyError, match="after 1000 bytes; run again"):
        download.download("http://127.0.0.1:9/a", tmp_path / "a", MOST)
    assert (tmp_path / "a.part").read_bytes() == CONTENT[:1000]
    with pytest.raises(StudyError, match="404"):
        download.download(f"{server.url}/none", tmp_path / "b", MOST)


def test_a_wrong_checksum_or_size_is_refused_and_removed(server, tmp_path):
    server.files["/a"] = CONTENT
    with pytest.raises(StudyError, match="MD5 is .* expected 0000"):
        download.download(f"{server.url}/a", tmp_path / "a", MOST, md5="0000")
    with pytest.raises(StudyError, match="offers 300000 bytes, expected 17"):
        download.download(f"{server.url}/a", tmp_path / "a", 17, exact=True)
    assert list(tmp_path.iterdir()) == []


def test_what_lies_there_already_is_checked_too(server, tmp_path):
    server.files["/a"] = CONTENT
    md5 = hashlib.md5(CONTENT).hexdigest()
    for there in (b"something else", CONTENT[:-1] + b"x", CONTENT + b"x"):
        (tmp_path / "a").write_bytes(there)
        path = download.download(f"{server.url}/a", tmp_path / "a", len(CONTENT), True, md5)
        assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("length", ["abc", "-5", "1e6", "9" * 5000])
def test_a_length_that_is_no_number_is_told_in_one_line(server, tmp_path, length):
    server.files["/a"], server.length = CONTENT, length
    with pytest.raises(StudyError, match="Content-Length is") as caught:
        download.download(f"{server.url}/a", tmp_path / "a", MOST)
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_a_download_without_a_length_has_an_end(server, tmp_path):
    server.files["/a"], server.length = CONTENT, "none"
    path = download.download(f"{server.url}/a", tmp_path / "a", len(CONTENT))
    assert path.read_bytes() == CONTENT
    with pytest.raises(StudyError, match="sent more than 299999 bytes"):
        download.download(f"{server.url}/a", tmp_path / "b", len(CONTENT) - 1)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("members", [[200 << 20], [1 << 20] * 5])
def test_members_that_an_archive_cannot_hold_are_refused(tmp_path, members):
    """Zeros shrink a thousandfold, photos do not: the archive of 200 KB would fill 200 MB."""
    archive = tmp_path / "bomb.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for i, size in enumerate(members):
            info = tarfile.TarInfo(f"top/{i}.png")
            info.size = size
            tar.addfile(info, Zeros())
    with pytest.raises(StudyError, match="more than an archive of .* can hold") as caught:
        for _ in download.members(archive, r"top/(.*)"):
            pass
    assert "\n" not in str(caught.value) and not archive.exists()


class Zeros:
    """A file of zeros without an end."""

    def read(self, size):
        return bytes(size)


# -- pv_cracks
# ----------------------------------------------------------------------------------------


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


# -- magnetic_tile
# ------------------------------------------------------------------------------------

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


# -- chestxray14
# --------------------------------------------------------------------------------------


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
