"""Files on a disk that can be full, and a machine that can stop at any moment.

A file is replaced by one that is whole: written beside it, flushed, renamed, and the folder flushed
too, since a rename is only durable with it. The new file has a name that nobody can guess and is
created, never opened, so that in a shared folder no stranger's file or link is written to. Only
where a later run must find what a killed one left, and a lock keeps others out, has it a fixed name
(`making`, `save_as`). What is told to the user when it fails is the caller's to say.
"""

from __future__ import annotations

import errno
import filecmp
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IMODE, S_ISREG

_NO_SYNC = {errno.EINVAL, errno.ENOTSUP}  # what some file systems say of flushing
OWN = os.O_CLOEXEC | os.O_NOFOLLOW  # how a file is opened that nobody else should have made
_LONGEST = 200  # bytes of a name that a new file's own name repeats: 255 are allowed


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it: in one call, unless the disk takes less. Raises OSError."""
    while data:
        data = data[os.write(descriptor, data) :]


def sync(descriptor: int) -> None:
    """Flush a file's contents, and of its metadata what reading them needs. Raises OSError."""
    getattr(os, "fdatasync", os.fsync)(descriptor)  # macOS has only the latter


def flush(descriptor: int) -> None:
    """Flush a file or folder, where its file system can. Raises OSError."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def flush_file(path: Path) -> None:
    """Flush a file that others have written. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | OWN)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush the folder that `path` is in: which names there are. Raises OSError."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # it may be written, but not read
        return
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


class NewFile:
    """A file that is being written beside its place, under a name of its own.

    It gets there by `put` or `put_new`; until then `discard` removes it.
    """

    def __init__(self, place: Path, mode: int | None = None) -> None:
        """Create it, with permissions `mode` or those of any new file. Raises OSError."""
        self.place = place
        self.path = _beside(place)
        self.descriptor = _created(self.path, mode)
        self._open = self._there = True

    def write(self, data: bytes) -> None:
        """Write all of it. Raises OSError."""
        write_all(self.descriptor, data)

    def flush(self) -> None:
        """Bring what was written to the disk, and close. Raises OSError."""
        if self._open:
            try:
                flush(self.descriptor)
            finally:
                self._open = False
                os.close(self.descriptor)

    def put(self) -> None:
        """Move it over what is at its place, for good. Raises OSError."""
        self.flush()
        put(self.path, self.place)
        self._there = False

    def put_new(self) -> None:
        """Move it to its place, where nothing may be. Raises FileExistsError, OSError.

        Then it is still there, whole, by its own name.
        """
        self.flush()
        put_new(self.path, self.place)
        self._there = False

    def discard(self) -> None:
        """Remove it, unless it has its place. Raises OSError."""
        if self._open:
            self._open = False
            os.close(self.descriptor)
        if self._there:
            self._there = False
            remove(self.path)


@contextmanager
def new_file(place: Path, mode: int | None = None) -> Iterator[NewFile]:
    """A new file to write and to `put` in its place; removed where the block does neither."""
    file = NewFile(place, mode)
    try:
        yield file
    finally:
        with suppress(OSError):
            file.discard()


@contextmanager
def making(part: Path) -> Iterator[int]:
    """The descriptor of a new file of this name; it is whole and flushed after the block.

    If the block fails it is removed. What a killed run left by that name is replaced. Moving it to
    its place is the caller's: see `put`. Raises OSError.
    """
    remove(part)
    descriptor = _created(part, None)
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
    sync_folder(path)


def same(part: Path, path: Path) -> bool:
    """Whether there is a file at `path` with these very contents."""
    return path.is_file() and filecmp.cmp(part, path, shallow=False)


def part_of(path: Path) -> Path:
    """A small file while it is written, by a name that a later run knows."""
    return path.with_name(f"{path.name}.part")


def save(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Replace a small file, for good. Raises OSError; then the former one is still there."""
    with new_file(path, mode) as file:
        file.write(data)
        file.put()


def save_as(part: Path, path: Path, data: bytes) -> None:
    """As `save`, by way of a file that a later run knows by its name. Raises OSError."""
    with making(part) as descriptor:
        write_all(descriptor, data)
    try:
        put(part, path)
    except OSError:
        remove(part)
        raise


def rewrite(path: Path, data: bytes, *, new: int | None = None) -> None:
    """As `save`, of a file that its owner keeps: a link stays a link, the permissions stay.

    `new`: the permissions of a file that was not there. Raises OSError.
    """
    place = Path(os.path.realpath(path))
    try:
        mode = S_IMODE(place.stat().st_mode)
    except FileNotFoundError:
        save(place, data, mode=new)
    else:
        save(place, data, mode=mode)


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


def _created(path: Path, mode: int | None) -> int:
    """The descriptor of a file that was not there before. Raises FileExistsError, OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | OWN
    descriptor = os.open(path, flags, 0o666 if mode is None else 0o600)
    try:
        if mode is not None:
            os.fchmod(descriptor, mode)
    except BaseException:
        os.close(descriptor)
        remove(path)
        raise
    return descriptor


def _beside(place: Path) -> Path:
    """A name in the same folder that nobody can guess, and that shows what it will become."""
    shown = os.fsencode(place.name)[:_LONGEST].decode("utf-8", "ignore")
    return place.with_name(f".{shown}.{os.urandom(8).hex()}.part")
