"""Getting data from their publishers: resumable, every file checked, nothing written outside.

Nothing here knows a data set: each says in its own file what is fetched from where.
"""

import hashlib
import http.client
import lzma
import os
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tqdm.auto import tqdm

from fsl_utils import StudyError, files

TRIES = 5  # in a row without a single new byte
PAUSE = 2.0  # seconds before another try
TIMEOUT = 60.0  # seconds without a byte
CHUNK = 1 << 20
SLACK = 1 << 20  # bytes that a member of a small archive may be larger than the archive
TIMES = 4  # all members together are at most so many times as large as their archive


def sums(path: Path) -> dict[str, str]:
    """A list as `sha256sum` writes it, plain or `.xz`: file name -> hex SHA-256."""
    content = path.read_bytes()
    text = (lzma.decompress(content) if path.suffix == ".xz" else content).decode()
    return {name: digest for digest, name in (line.split("  ", 1) for line in text.splitlines())}


def listed_files(folder: Path, url: str, most: int, listing: Path, pattern: str) -> None:
    """The files of `listing` (see `sums`) out of the .tar.gz at `url`, of at most `most` bytes.

    `pattern` matches a member's whole name; its first group is the file's name in `folder`. Files
    that are there and right stay. Raises StudyError where a file is missing or has another SHA-256.
    """
    expected = sums(listing)
    missing = {
        name
        for name, digest in expected.items()
        if not (folder / name).is_file() or files.sha256(folder / name) != digest
    }
    if not missing:
        print(f"{folder}: all {len(expected)} files are there and right")
        return
    print(
        f"{folder.name}: {len(missing)} of {len(expected)} files to get, one archive of at most "
        f"{size_text(most)}"
    )
    need_space(folder, most)
    archive = download(url, folder / f"{folder.name}.tar.gz", most)
    for name, content in members(archive, pattern):
        if name not in missing:
            continue
        if hashlib.sha256(content).hexdigest() != expected[name]:
            archive.unlink()
            raise StudyError(
                f"{url}: {name} has not the SHA-256 of {listing.name}: the publisher's file "
                "changed or was tampered with"
            )
        files.write_whole(
            folder / name, lambda partial, content=content: partial.write_bytes(content)
        )
        missing.discard(name)
    archive.unlink()
    if missing:
        raise StudyError(
            f"{url}: {len(missing)} files are not in the archive (first: {min(missing)})"
        )


def members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield (first group of `pattern`, content) of a .tar.gz's regular files whose name matches.

    Nothing is unpacked here, and the caller takes no path from the archive but what `pattern`
    allows. Raises StudyError at a link, a member that leads outside the folder, one larger than the
    archive (photos and their masks do not shrink), or damage; the archive is removed.
    """
    packed = archive.stat().st_size
    unpacked = 0
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tqdm(tar, desc=archive.name, unit="file", mininterval=1):
                # Raises at paths out of the folder and devices.
                tarfile.data_filter(member, str(archive.parent))
                if member.issym() or member.islnk():
                    raise tarfile.TarError(f"{member.name} is a link")
                unpacked += member.size
                if member.size > packed + SLACK or unpacked > TIMES * packed + SLACK:
                    raise tarfile.TarError(
                        f"{member.name} has {size_text(member.size)}, more than an archive of "
                        f"{size_text(packed)} can hold"
                    )
                match = re.fullmatch(pattern, member.name)
                if member.isreg() and match:
                    yield match[1], tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError) as error:
        archive.unlink(missing_ok=True)
        raise StudyError(
            f"{archive}: not the publisher's archive ({error}); it was removed, run again"
        ) from error


def download(url: str, path: Path, most: int, exact: bool = False, md5: str = "") -> Path:
    """Download to `path` through `<path>.part`, which a broken run leaves for the next to go on.

    most: bytes at most, or just so many where `exact`. What lies at `path` already must be of that
    size and MD5 too, or it is fetched anew. Tries again on a broken connection.
    Raises StudyError where size or MD5 differ, the server fails, or the disk is full.
    """
    if path.is_file():
        if not _fault(path, most, exact, md5):
            return path
        path.unlink()
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    _persist(url, part, most, exact)
    if fault := _fault(part, most, exact, md5):
        part.unlink()
        raise StudyError(f"{url}: {fault}; the download was removed, run again")
    os.replace(part, path)
    return path


def _fault(path: Path, most: int, exact: bool, md5: str) -> str:
    """What is wrong with a downloaded file, '' where nothing is."""
    size = path.stat().st_size
    if size > most or (exact and size != most):
        return f"{size} bytes came, expected {'' if exact else 'at most '}{most}"
    if md5:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        if digest.hexdigest() != md5:
            return f"MD5 is {digest.hexdigest()}, expected {md5}"
    return ""


def _persist(url: str, part: Path, most: int, exact: bool) -> None:
    """Requests until `part` is whole, or none of TRIES in a row brought a byte."""
    failures = 0
    while True:
        before = _length(part)
        try:
            return _continue(url, part, most, exact)
        except urllib.error.HTTPError as error:
            if error.code == 416 and before:  # more is here than there: the file there is another
                part.unlink()
                continue
            fault = error
        except (OSError, http.client.HTTPException) as error:
            fault = error
        here = _length(part)
        failures = failures + 1 if here <= before else 1
        if failures >= TRIES or (isinstance(fault, urllib.error.HTTPError) and fault.code < 500):
            raise StudyError(
                f"{url}: {fault} after {here} bytes; run again to go on from there"
            ) from fault
        time.sleep(PAUSE)


def _continue(url: str, part: Path, most: int, exact: bool) -> None:
    """One request for what `part` still lacks.

    Raises what urllib raises, IncompleteRead where the stream ends early, and StudyError where the
    server offers or sends more than `most`.
    """
    have = _length(part)
    if exact and have == most:
        return
    headers = {"User-Agent": "fsl-utils", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
        if reply.status != 206:  # the server does not resume
            have = 0
        elif not reply.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise ConnectionError("the server resumed at the wrong place")
        total = _offered(url, reply.headers.get("Content-Length"), have)
        if total is not None and (total > most or (exact and total != most)):
            part.unlink(missing_ok=True)
            raise StudyError(
                f"{url}: the server offers {total} bytes, expected {'' if exact else 'at most '}"
                f"{most}; the publisher's file changed"
            )
        total = most if exact else total
        _write(reply, part, have, most, total)
    if total is not None and _length(part) < total:
        raise http.client.IncompleteRead(b"", total - _length(part))


def _offered(url: str, length: str | None, have: int) -> int | None:
    """Bytes of the whole file by the header Content-Length, None where there is none."""
    if not length:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", length.strip()):
        raise StudyError(f"{url}: the server's Content-Length is {length[:40]!r}, not a number")
    return have + int(length)


def _write(reply, part: Path, have: int, most: int, total: int | None) -> None:
    """Append the reply to the `have` bytes of `part`; raises StudyError beyond `most` bytes."""
    progress = {"unit": "B", "unit_scale": True, "desc": part.stem, "mininterval": 1}
    with (
        open(part, "ab" if have else "wb") as file,
        files.explained(part.parent),
        tqdm(total=total, initial=have, **progress) as bar,
    ):
        while block := reply.read(CHUNK):
            have += len(block)
            if have > most:
                file.close()
                part.unlink()
                raise StudyError(
                    f"{part.stem}: the server sent more than {most} bytes; it was stopped, and "
                    "what came was removed"
                )
            file.write(block)
            bar.update(len(block))


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def need_space(folder: Path, needed: int) -> None:
    """Make `folder`. Raises StudyError where it cannot be written or has no `needed` bytes free."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"{folder}: cannot be written ({error.strerror}); point FSL_DATA_DIR to a folder of "
            "yours"
        ) from error
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StudyError(
            f"{folder}: {size_text(needed)} needed, {size_text(free)} free; free some space or "
            "point FSL_DATA_DIR elsewhere"
        )


def size_text(n: int) -> str:
    """Bytes in words, as '4.0 GB'."""
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"
