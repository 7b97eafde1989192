"""Durable files on a disk that can be full, in a machine that can stop at any moment.

A file is replaced by a whole one: written beside it, flushed, renamed, and the folder flushed too,
because a rename is only durable with it. The new file has an unguessable name and is created, never
opened, so in a shared folder no other user's file or link is written to. It has a fixed name only
where a later run must find what a killed one left, and a lock keeps other runs out (`making`,
`save_as`). Not here: the caller turns an OSError into a message.
"""

from __future__ import annotations

import errno
import filecmp
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IMODE, S_ISLNK, S_ISREG, S_ISVTX, S_IWOTH

_NO_SYNC = {errno.EINVAL, errno.ENOTSUP}  # of file systems that cannot flush
_MAX_LINKS = 40  # that follow one another, as in Linux
OWN = os.O_CLOEXEC | os.O_NOFOLLOW  # flags for opening a file of our own
_MAX_NAME_BYTES = 200  # of the final name, repeated in the name of the new file; 255 are allowed


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data`: in one call, unless the system takes less. Raises OSError."""
    while data:
        data = data[os.write(descriptor, data) :]


def sync(descriptor: int) -> None:
    """Flush a file's contents, and the metadata that reading them needs. Raises OSError."""
    getattr(os, "fdatasync", os.fsync)(descriptor)  # macOS has only the latter


def flush(descriptor: int) -> None:
    """Flush a file or folder, where its file system can. Raises OSError."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def flush_file(path: Path) -> None:
    """Flush a file that another program wrote. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | OWN)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush the folder that contains `path`: its list of names. Raises OSError."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a folder that may be written but not read
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
        """Create it, with permissions `mode` or the default ones. Raises OSError."""
        self.place = place
        self.path = _beside(place)
        self.descriptor = _created(self.path, mode)
        self._open = self._there = True

    def write(self, data: bytes) -> None:
        """Write all of `data`. Raises OSError."""
        write_all(self.descriptor, data)

    def flush(self) -> None:
        """Flush to the disk, and close. Raises OSError."""
        if self._open:
            try:
                flush(self.descriptor)
            finally:
                self._open = False
                os.close(self.descriptor)

    def put(self) -> None:
        """Replace the file at its place, durably. Raises OSError."""
        self.flush()
        put(self.path, self.place)
        self._there = False

    def put_new(self) -> None:
        """Move it to its place, where no file may be. Raises FileExistsError, OSError.

        After an error it is still there, whole, under its own name.
        """
        self.flush()
        put_new(self.path, self.place)
        self._there = False

    def discard(self) -> None:
        """Remove it, unless it was put in its place. Raises OSError."""
        if self._open:
            self._open = False
            os.close(self.descriptor)
        if self._there:
            self._there = False
            remove(self.path)


@contextmanager
def new_file(place: Path, mode: int | None = None) -> Iterator[NewFile]:
    """A new file to write and to `put` in its place; removed if the block does not put it."""
    file = NewFile(place, mode)
    try:
        yield file
    finally:
        with suppress(OSError):
            file.discard()


@contextmanager
def making(part: Path) -> Iterator[int]:
    """The descriptor of a new file of this name, which is whole and flushed after the block.

    If the block fails, the file is removed. A file that a killed run left under that name is
    replaced. The caller moves it to its place, see `put`. Raises OSError.
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
    """Replace `path` by a flushed file, durably. Raises OSError."""
    os.replace(part, path)  # noqa: PTH105 - every call that changes a disk is one of os
    sync_folder(path)


def put_new(part: Path, path: Path) -> None:
    """Move a flushed file to `path`, where no file may be. Raises FileExistsError, OSError."""
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
    """Whether the file at `path` exists and has the same contents."""
    return path.is_file() and filecmp.cmp(part, path, shallow=False)


def part_of(path: Path) -> Path:
    """The name of a small file while it is written; a later run knows it."""
    return path.with_name(f"{path.name}.part")


def save(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Replace a small file, durably. Raises OSError; then the former file is unchanged."""
    with new_file(path, mode) as file:
        file.write(data)
        file.put()


def save_as(part: Path, path: Path, data: bytes) -> None:
    """As `save`, through the file `part`, whose name a later run knows. Raises OSError."""
    with making(part) as descriptor:
        write_all(descriptor, data)
    try:
        put(part, path)
    except OSError:
        remove(part)
        raise


def rewrite(path: Path, data: bytes, *, new: int | None = None) -> None:
    """As `save`, for a file of the user's: a link stays a link, and permissions stay.

    `new`: permissions of a file that did not exist. Raises OSError.
    """
    place = followed(path)
    try:
        mode = S_IMODE(place.stat().st_mode)
    except FileNotFoundError:
        save(place, data, mode=new)
    else:
        save(place, data, mode=mode)


def followed(path: Path) -> Path:
    """The file that a name leads to, through links: a user's link stays one when it is written.

    In a folder where all may write, such as /tmp, a link of another user is not followed. That is
    the rule of Linux (protected_symlinks), which holds for a file that is opened, but not for one
    whose name is looked up and then replaced. Raises PermissionError.
    """
    place = path
    for _ in range(_MAX_LINKS):
        try:
            found = place.lstat()
        except OSError:
            break
        if not S_ISLNK(found.st_mode):
            break
        folder = place.parent.stat()
        shared = folder.st_mode & S_ISVTX and folder.st_mode & S_IWOTH
        if shared and found.st_uid not in (os.geteuid(), folder.st_uid):
            raise PermissionError(errno.EACCES, f"{place} is a link of another user")
        place = place.parent / os.readlink(place)  # noqa: PTH115 - as above
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return Path(os.path.realpath(path))


def read_small(path: Path, limit: int) -> bytes | None:
    """The contents of a small file, None if it does not exist.

    Raises OSError; ValueError, with the rule, where it is larger or no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | OWN)
    except FileNotFoundError:
        return None
    except OSError as error:
        if path.is_symlink():  # which O_NOFOLLOW refuses, by a number that differs by system
            raise ValueError("a link, which is not followed") from None
        if error.errno == errno.ENXIO:  # a socket
            raise ValueError("not a regular file") from None
        raise
    try:
        if not S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise ValueError(f"larger than {limit} bytes")
    return data


def remove(path: Path) -> None:
    """Remove a file if it exists. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - as above


def _created(path: Path, mode: int | None) -> int:
    """Create a file and return its descriptor. Raises FileExistsError, OSError."""
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
    """An unguessable name in the same folder that shows the final name."""
    shown = os.fsencode(place.name)[:_MAX_NAME_BYTES].decode("utf-8", "ignore")
    return place.with_name(f".{shown}.{os.urandom(8).hex()}.part")
