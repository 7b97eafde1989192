"""Where a batch's output is, the files beside it, and the right to write them.

A failing disk (full, over quota, broken) ends in exit code 74 wherever it shows, even when a file
is only being opened: the way out is the same. Hidden files are named after the output.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from gptcli.errors import Busy, CannotCreate, UsageError, WriteFailed
from gptcli.system.durable import OWN, followed
from gptcli.system.file_lock import FileLock
from gptcli.system.os_errors import reason

ELSEWHERE = "Choose another file with -o."
AGAIN = "Make room, then run the same command again (without --force): it goes on from there."
MAX_NAME_BYTES = 240  # bytes: most file systems take 255, and a partial file's name is longer

_FAILING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@dataclass(frozen=True)
class OutputFiles:
    """An output and the files beside it; `name` is what the user called it.

    The rows are written to the output itself, or where that has another format to a hidden file.
    """

    name: str
    output: Path  # through all links, so that a link stays one
    hidden: bool

    @property
    def rows(self) -> Path:
        """The file that holds the rows as JSON lines."""
        return self.beside("journal.jsonl") if self.hidden else self.output

    @property
    def rewritten(self) -> Path:
        """The file that is to replace `rows`."""
        return self.beside("retry.jsonl")

    @property
    def manifest(self) -> Path:
        """What the output was made from."""
        return self.beside("manifest.json")

    @property
    def part(self) -> Path:
        """The output while it is made from the rows."""
        return self.beside("part")

    @property
    def lock(self) -> Path:
        """Held by the process that writes."""
        return self.beside("lock")

    def beside(self, ending: str) -> Path:
        """The hidden file `.NAME.ending`; of a very long name only its beginning and a digest."""
        name = os.fsencode(self.output.name)
        room = MAX_NAME_BYTES - len(ending) - 2
        if len(name) > room:
            short = name[: room - 17].decode("utf-8", "ignore")
            return self.output.with_name(
                f".{short}.{hashlib.sha256(name).hexdigest()[:16]}.{ending}"
            )
        return self.output.with_name(f".{self.output.name}.{ending}")


def locate(output: Path, hidden: bool) -> OutputFiles:
    """The files of an output. Raises CannotCreate (a folder, a device), UsageError (its name)."""
    name = str(output)
    if "\0" in name:
        raise UsageError("--output", "the name holds a NUL character", "Give another name.")
    with creating(name):
        place = followed(output)
        with suppress(FileNotFoundError):
            mode = place.stat().st_mode
            if S_ISDIR(mode):
                raise CannotCreate(name, "it is a folder", "Name a file in it.")
            if not S_ISREG(mode):
                raise CannotCreate(name, "it is no regular file", ELSEWHERE)
    return OutputFiles(name, place, hidden)


@contextmanager
def creating(name: str) -> Iterator[None]:
    """Turn what the system refuses into CannotCreate, a failing disk into WriteFailed."""
    try:
        yield
    except OSError as error:
        if error.errno in _FAILING:
            raise WriteFailed(name, f"{reason(error)}, nothing was written", AGAIN) from None
        raise CannotCreate(name, reason(error), ELSEWHERE) from None


def open_rows(path: Path, fresh: bool = False) -> int:
    """Open a file of rows to append to, made if missing; it must be missing where `fresh`.

    Raises OSError; CannotCreate where it is no regular file; Busy where it is locked under another
    name, such as a hard link.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | OWN | (os.O_EXCL if fresh else 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        if not S_ISREG(os.fstat(descriptor).st_mode):
            raise CannotCreate(str(path), "it is no regular file", ELSEWHERE)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Busy(str(path), "another process writes to it", "Wait for its end.") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class Lock(FileLock):
    """The right to write to an output, held until `release` or the end of the process."""

    def __init__(self, files: OutputFiles) -> None:
        """Take it. Raises Busy, naming the holder; CannotCreate; WriteFailed."""
        with creating(files.name):
            super().__init__(files.lock, files.name)
