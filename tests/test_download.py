"""Downloads from a local server: resume, broken connections, wrong files, hostile archives. The
real servers are never asked.
"""

import hashlib
import tarfile

import pytest
from server import CONTENT, MOST, png, server  # noqa: F401

from fsl_utils import StudyError
from fsl_utils.data import download


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
