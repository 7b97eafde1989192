"""Files on a disk that can be full, and a machine that can stop at any moment.

A file is replaced by one that is whole: written beside it, flushed, renamed, and the folder flushed
too, since a rename is only durable with it. Links are never followed to a file that is written, for
a shared folder may hold one that a stranger put there. Left out: what the files say, and what is
told to the user when it fails.
"""

from __future__ import annotations

import errno
import filecmp
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG

_NO_SYNC = {errno.EINVAL, errno.ENOTSUP}  # what some file systems say of flushing a folder
OWN = os.O_CLOEXEC | os.O_NOFOLLOW  # how a file is opened that nobody else should have made


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it: in one call, unless the disk takes less. Raises OSError."""
    while data:
        data = data[os.write(descriptor, data) :]


def sync(descriptor: int) -> None:
    """Flush a file's contents, and of its metadata what reading them needs. Raises OSError."""
    getattr(os, "fdatasync", os.fsync)(descriptor)  # macOS has only the latter


def sync_folder(path: Path) -> None:
    """Flush the folder that `path` is in: which names there are. Raises OSError."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def making(part: Path) -> Iterator[int]:
    """The descriptor of a new file; it is whole and flushed after the block, else removed.

    Moving it to its place is the caller's: see `put`. Raises OSError.
    """
    remove(part)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | OWN, 0o666)
    try:
        yield descriptor
        os.fsync(descriptor)
    except BaseException:
        remove(part)
        raise
    finally:
        os.close(descriptor)


def put(part: Path, path: Path) -> None:
    """Move a flushed file over `path`, for good. Raises OSError."""
    os.replace(part, path)  # noqa: PTH105 - every call that changes a disk is one of os
    sync_folder(path)


def put_new(part: Path, path: Path) -> None:
    """Move a flushed file where there is none, for good. Raises FileExistsError, OSError."""
    move_new(part, path)
    sync_folder(path)


def move_new(part: Path, path: Path) -> None:
    """Move a file where there is none. Raises FileExistsError, OSError."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError from None
        os.replace(part, path)  # noqa: PTH105 - as above
    else:
        remove(part)


def same(part: Path, path: Path) -> bool:
    """Whether there is a file at `path` with these very contents."""
    return path.is_file() and filecmp.cmp(part, path, shallow=False)


def part_of(path: Path) -> Path:
    """A small file while it is written; a killed run leaves it."""
    return path.with_name(f"{path.name}.part")


def save(path: Path, data: bytes) -> None:
    """Replace a small file, for good. Raises OSError; then the former one is still there."""
    part = part_of(path)
    with making(part) as descriptor:
        write_all(descriptor, data)
    try:
        put(part, path)
    except OSError:
        remove(part)
        raise


def read_small(path: Path, limit: int) -> bytes | None:
    """A small file's contents, None where there is none.

    Raises OSError; ValueError, with the rule, where it is larger or no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | OWN)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"larger than {limit} bytes")
    return data


def remove(path: Path) -> None:
    """Remove a file if it is there. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - as above
