"""Files that are written whole or not at all, and what a disk can say against it, in one line.

Content reaches the disk (fsync) before a name points to it. Only plain files are read: a FIFO or a
device in a file's place is an error, not a wait without end.
"""

import errno
import hashlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from fsl_utils import StudyError

PARTIAL = re.compile(r"\.[0-9a-f]{8}\..+")  # what a killed `write_whole` leaves behind
FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
IN_THE_WAY = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.EXDEV)


def absolute(path: str | Path) -> Path:
    """A path that a person gave, made absolute, `~` written out. Raises StudyError where nobody has
    the name after `~`.
    """
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise StudyError(f"{path}: no user of this name; write the path out") from error


def plain(path: Path) -> BufferedReader:
    """Open a file to read its bytes. Raises OSError where it is missing or not a plain file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO would block
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return os.fdopen(descriptor, "rb")


def sha256(path: Path) -> str:
    """Hex SHA-256 of a plain file's content."""
    with plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have a file's content, or a folder's list of names, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_whole(path, lambda partial: partial.write_text(text))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(partial_path)` and move the result into place: a reader never sees half a file.

    A link in the file's place is replaced, never followed. Raises StudyError as `explained` says.
    """
    partial = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    with explained(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(partial)
            sync(partial)
            os.replace(partial, path)
        finally:
            if partial.is_file():
                partial.unlink()


def writable(folder: Path) -> None:
    """Make a folder for results. Raises StudyError where it cannot be made or written to."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise StudyError(f"{folder} is not yours to write to: say where with --out")


def discard(path: Path) -> None:
    """Remove a file, a link (never what it points to) or a folder; what cannot go stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """What a disk says while something is written to `folder`, as a StudyError of one line.

    That is a full disk, whoever meets it, and for a path inside `folder` a lack of permission, a
    file in a folder's place, a folder in a file's; and a `folder` that cannot be. All other errors
    pass.
    """
    try:
        yield
    except Exception as error:
        if reason := _reason(error, folder):
            raise StudyError(reason) from error
        raise


def _reason(error: Exception, folder: Path) -> str:
    number = getattr(error, "errno", None)
    # safetensors has an error of its own, which carries the system's words
    if number in FULL or "No space left" in str(error):
        return (
            f"disk full while writing to {folder}: free some space or point FSL_STORE "
            "(FSL_DATA_DIR for data) elsewhere, then run again; finished work is kept"
        )
    named = [getattr(error, name, None) for name in ("filename2", "filename")]
    path = next((Path(os.fsdecode(name)) for name in named if name), None)
    if not isinstance(error, OSError) or path is None or not _around(path, folder):
        return ""
    if number in NOT_ALLOWED:
        return f"{path} cannot be written ({error.strerror}): take a folder of your own"
    if number in IN_THE_WAY:
        return f"{path} cannot be written ({error.strerror}): move away what stands in its place"
    if number == errno.ENOENT and folder.is_relative_to(path):  # as below /proc
        return f"{path} cannot be made ({error.strerror}): take another folder"
    return ""


def _around(path: Path, folder: Path) -> bool:
    """Whether a path is the folder, inside it, or on the way to it."""
    return path.is_relative_to(folder) or folder.is_relative_to(path)
