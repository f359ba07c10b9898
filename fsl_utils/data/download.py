"""Getting the data from its publishers: resumable, every file checked, nothing written outside its folder."""

import hashlib
import http.client
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

from fsl_utils import StudyError, files, store
from fsl_utils.data import images, partitions
from fsl_utils.data.datasets import readers, sheets

TRIES = 5  # in a row without a single new byte
PAUSE = 2.0  # seconds before another try
TIMEOUT = 60.0  # seconds without a byte
CHUNK = 1 << 20

TILES_COMMIT = "cc4eb530b57b9cb7225bf76023873043ffd50655"
TILES_URL = (
    f"https://codeload.github.com/abin24/Magnetic-tile-defect-datasets./tar.gz/{TILES_COMMIT}"
)
TILES_BYTES = 60_000_000  # about; the server does not tell
TILES_LIST = partitions.SHIPPED / "magnetic_tile.sha256"

# Links of NIH's batch_download_zips.py, MD5 of its FAQ_CHESTXRAY.pdf, sizes as the server told them in 2026.
CHEST_LABELS_URL = "https://nihcc.app.box.com/index.php?rm=box_download_shared_file&vanity_name=ChestXray-NIHCC&file_id=f_219760887468"
CHEST_URL = "https://nihcc.box.com/shared/static/{}.gz"
CHEST_ARCHIVES = {  # number: (link, bytes, MD5)
    1: ("vfk49d74nhbxq3nqjg0900w5nvkorp5c", 2008470987, "fe8ed0a6961412fddcbb3603c11b3698"),
    2: ("i28rlmbvmfjbl8p2n3ril0pptcmcu9d1", 3952623504, "ab07a2d7cbe6f65ddd97b4ed7bde10bf"),
    3: ("f1t00wrtdk94satdfb9olcolqx20z2jp", 3929234850, "2301d03bde4c246388bad3876965d574"),
    4: ("0aowwzs5lhjrceb3qp67ahp0rd1l1etg", 3838903983, "9f1b7f5aae01b13f4bc8e2c44a4b8ef6"),
    5: ("v5e3goj22zr6h8tzualxfsqlqaygfbsn", 3935496531, "1861f3cd0ef7734df8104f2b0309023b"),
    6: ("asi7ikud9jwnkrnkj99jnpfkjdes7l6l", 3986301172, "456b53a8b351afd92a35bc41444c58c8"),
    7: ("jn1b4mw4n6lnh74ovmcjb8y48h8xj07n", 4016328426, "1075121ea20a137b87f290d6a4a5965e"),
    8: ("tvpxmn7qyrgl0w8wfh9kqfjskv6nmm1j", 4018347353, "b61f34cec3aa69f295fbb593cbd9d443"),
    9: ("upyy3ml7qdumlgk2rfcvlb9k6gvqq2pj", 4111327929, "442a3caa61ae9b64e61c561294d1e183"),
    10: ("l6nilvfa9cg3s28tqv1qc1olm3gnz54p", 4181556296, "09ec81c4c31e32858ad8cf965c494b74"),
    11: ("hhq8fkdgvcari67vfhs7ppg2w6ni4jze", 4187084020, "499aefc67207a5a97692424cf5dbeed5"),
    12: ("ioqwiy20ihqwyr8pf4c24eazhh281pbu", 2914187733, "dc9fda1757c2de0032b63347a7d2895c"),
}


def fetch(name: str, archives: tuple[int, ...] = ()) -> Path:
    """Fetch a domain into `sheets.data_root()/<name>` and return that folder; what is there and right is not fetched again.

    `archives` (chestxray14 alone): which of the twelve, all if empty. Prints the sizes before it starts.
    Raises StudyError where a download breaks off (run again: it goes on from there), is not the
    publisher's file, or the disk is too small.
    """
    folder = sheets.data_root() / name
    if name == "magnetic_tile":
        if archives:
            raise StudyError("magnetic_tile is one archive: --archives is for chestxray14 alone")
        _magnetic_tile(folder)
    elif name == "chestxray14":
        unknown = [n for n in archives if n not in CHEST_ARCHIVES]
        if unknown:
            raise StudyError(
                f"unknown archives {unknown}: chestxray14 has {min(CHEST_ARCHIVES)} to {max(CHEST_ARCHIVES)}"
            )
        _chestxray14(folder, sorted(set(archives)) or list(CHEST_ARCHIVES))
    elif name in sheets.SHEETS:
        raise StudyError(f"nothing to fetch for {name}: {sheets.SHEETS[name].get}")
    else:
        raise StudyError(f"unknown domain '{name}': magnetic_tile and chestxray14 can be fetched")
    return folder


def _magnetic_tile(folder: Path) -> None:
    """The publisher's photos and masks at one commit, each compared with the shipped list of SHA-256."""
    expected = {
        path: digest
        for digest, path in (line.split("  ", 1) for line in TILES_LIST.read_text().splitlines())
    }
    wanted = {
        path
        for path, digest in expected.items()
        if not (folder / path).is_file() or store.sha256(folder / path) != digest
    }
    if not wanted:
        print(f"{folder}: all {len(expected)} files are there and right")
        return
    print(
        f"magnetic_tile: {len(wanted)} of {len(expected)} files to get, one archive of about {_size(TILES_BYTES)}"
    )
    _need_space(folder, 2 * TILES_BYTES)
    archive = folder / "magnetic_tile.tar.gz"
    download(TILES_URL, archive)
    for path, content in _members(archive, r"[^/]+/(MT_\w+/Imgs/[^/]+)"):
        if path in wanted:
            if hashlib.sha256(content).hexdigest() != expected[path]:
                archive.unlink()
                raise StudyError(
                    f"{TILES_URL}: {path} has not the SHA-256 of {TILES_LIST.name}: the publisher's file changed or was tampered with"
                )
            store.write_whole(folder / path, lambda partial: partial.write_bytes(content))
            wanted.discard(path)
    archive.unlink()
    if wanted:
        raise StudyError(
            f"{TILES_URL}: {len(wanted)} files are not in the archive (first: {min(wanted)})"
        )


def _chestxray14(folder: Path, numbers: list[int]) -> None:
    """The label table, then each archive into `images_0NN/images/`, every image decoded before it counts."""
    todo = [n for n in numbers if not (folder / f"images_{n:03d}").is_dir()]
    sizes = {n: CHEST_ARCHIVES[n][1] for n in todo}
    for n, size in sizes.items():
        print(f"images_{n:03d}.tar.gz  {_size(size)}")
    print(
        f"chestxray14: {len(todo)} of {len(numbers)} archives to get, {_size(sum(sizes.values()))} in all"
    )
    # What is unpacked is about as large as its archive, which goes when it is unpacked.
    _need_space(folder, sum(sizes.values()) + max(sizes.values(), default=0))
    if not list(folder.glob("Data_Entry_2017*.csv")):
        _chest_labels(folder)
    for n in todo:
        link, size, md5 = CHEST_ARCHIVES[n]
        archive = folder / f"images_{n:03d}.tar.gz"
        download(CHEST_URL.format(link), archive, size, md5)
        unpacked = folder / f".images_{n:03d}"
        shutil.rmtree(unpacked, ignore_errors=True)
        try:
            with files.explained(folder):
                (unpacked / "images").mkdir(parents=True)
                for name, content in _members(archive, r"(?:\./)?images/(\d{8}_\d{3}\.png)"):
                    (unpacked / "images" / name).write_bytes(content)
            paths = sorted((unpacked / "images").iterdir())
            if not paths:
                raise StudyError(f"{archive}: holds no images/*.png; not the official archive")
            images.each(lambda path: images.decode(path, 1), paths, f"checking images_{n:03d}")
            os.rename(unpacked, folder / f"images_{n:03d}")
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
        archive.unlink()


def _chest_labels(folder: Path) -> None:
    """The official label table. NIH publishes no checksum, so its image names are compared with the shipped partition's."""
    aside = folder / ".labels"
    path = aside / "Data_Entry_2017_v2020.csv"
    try:
        download(CHEST_LABELS_URL, path)
        if set(readers.read_chest_labels(aside)["image"]) != set(
            partitions.shipped("chestxray14")["file"]
        ):
            raise StudyError(
                f"{CHEST_LABELS_URL}: the images named there are not ChestX-ray14's; "
                f"get Data_Entry_2017_v2020.csv by hand from {sheets.SHEETS['chestxray14'].source}"
            )
        os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield (first group of `pattern`, content) of an archive's regular files whose name matches.

    Nothing is unpacked here, and the caller takes no path from the archive but what `pattern` allows.
    Raises StudyError at a link, a member that leads outside the folder, or damage; the archive is removed.
    """
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tqdm(tar, desc=archive.name, unit="file", mininterval=1):
                tarfile.data_filter(
                    member, str(archive.parent)
                )  # raises at paths out of the folder and devices
                if member.issym() or member.islnk():
                    raise tarfile.TarError(f"{member.name} is a link")
                match = re.fullmatch(pattern, member.name)
                if member.isreg() and match:
                    yield match[1], tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError) as error:
        archive.unlink(missing_ok=True)
        raise StudyError(
            f"{archive}: not the publisher's archive ({error}); it was removed, run again"
        ) from error


def download(url: str, path: Path, size: int | None = None, md5: str = "") -> Path:
    """Download to `path` through `<path>.part`, which a broken run leaves behind and the next one goes on from.

    Tries again on a broken connection; checks the length the server tells (or `size`) and the MD5.
    Raises StudyError.
    """
    if path.is_file():
        return path
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            _continue(url, part, size)
            break
        except urllib.error.HTTPError as error:
            if (
                error.code == 416 and before
            ):  # more is here than there: the file there is another one
                part.unlink()
                continue
            fault = error
        except (OSError, http.client.HTTPException) as error:
            fault = error
        here = part.stat().st_size if part.is_file() else 0
        failures = failures + 1 if here <= before else 1
        if failures >= TRIES or (isinstance(fault, urllib.error.HTTPError) and fault.code < 500):
            raise StudyError(
                f"{url}: {fault} after {here} bytes; run again to go on from there"
            ) from fault
        time.sleep(PAUSE)
    if md5:
        with open(part, "rb") as file:
            found = hashlib.file_digest(
                file, lambda: hashlib.md5(usedforsecurity=False)
            ).hexdigest()
        if found != md5:
            part.unlink()
            raise StudyError(
                f"{url}: MD5 is {found}, expected {md5}; the download was removed, run again"
            )
    os.replace(part, path)
    return path


def _continue(url: str, part: Path, size: int | None) -> None:
    """One request for what `part` still lacks. Raises what urllib raises, and IncompleteRead where the stream ends early."""
    have = part.stat().st_size if part.is_file() else 0
    if size is not None and have == size:
        return
    headers = {"User-Agent": "fsl-utils", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=TIMEOUT
    ) as reply:
        if reply.status != 206:  # the server does not resume
            have = 0
        elif not reply.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise ConnectionError("the server resumed at the wrong place")
        length = reply.headers.get("Content-Length")
        total = have + int(length) if length else size
        if size is not None and total != size:
            part.unlink(missing_ok=True)
            raise StudyError(
                f"{url}: the server offers {total} bytes, expected {size}; the publisher's file changed"
            )
        with (
            open(part, "ab" if have else "wb") as file,
            files.explained(part.parent),
            tqdm(
                total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, mininterval=1
            ) as bar,
        ):
            while block := reply.read(CHUNK):
                file.write(block)
                bar.update(len(block))
    if total is not None and part.stat().st_size < total:
        raise http.client.IncompleteRead(b"", total - part.stat().st_size)


def _need_space(folder: Path, needed: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"{folder}: cannot be written ({error.strerror}); point FSL_DATA_DIR to a folder of yours"
        ) from error
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StudyError(
            f"{folder}: {_size(needed)} needed, {_size(free)} free; free some space or point FSL_DATA_DIR elsewhere"
        )


def _size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"
