"""Open what must be a regular file, and write to a named pipe, without waiting for a stranger.

Opening a named pipe waits until another process opens its other end; reading a device may never
end. Both can lie where a file is meant. So the file is opened without waiting, and judged when it
is open: nobody can exchange it in between. An input that is read once from its beginning may be a
pipe: see `open_stream`. Not here: files of our own, where no link is followed, are read by
`gptcli.system.durable.read_small`; those of a model, with errors of ours, by
`gptcli.system.strict_json.open_model_file`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from pathlib import Path
from typing import BinaryIO

PATIENCE_SECONDS = 2.0  # seconds that the reader of a named pipe is given to open it
_POLL_SECONDS = 0.02
_OPEN_ALREADY = re.compile(r"/dev/stdin|/dev/fd/\d+|/proc/(self|\d+)/fd/\d+")
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class NotRegular(OSError):
    """A named pipe, a device or a socket lies where a regular file is meant."""


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file, or a link to one, to read bytes.

    Raises NotRegular, IsADirectoryError for a folder; OSError, ValueError (a NUL character in the
    name).
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device that nobody serves
            raise _refused(Path(path).stat().st_mode) from None
        raise
    try:
        status = os.fstat(descriptor)
        _check(status.st_mode)
        if status.st_size == 0:
            _check_ready(descriptor)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def open_once(path: str | os.PathLike[str]) -> BinaryIO:
    """As `open_regular`, but also what the shell opened already: `<(command)`, /dev/stdin."""
    if _OPEN_ALREADY.fullmatch(os.fspath(path)):
        return Path(path).open("rb")
    return open_regular(path)


def open_stream(path: str | os.PathLike[str]) -> BinaryIO:
    """Open an input that is read once: a file, a pipe, a terminal or /dev/null.

    Opening a named pipe waits for its writer, as `cat` does. Raises NotRegular for another device,
    which need not end; IsADirectoryError, OSError, ValueError.
    """
    file = Path(path).open("rb")  # noqa: SIM115 - handed on
    status = os.fstat(file.fileno())
    device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    if device and not file.isatty() and not os.path.samestat(status, Path(os.devnull).stat()):
        file.close()
        raise _refused(status.st_mode)
    return file


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raises as `open_regular` for what lies at a path; it is not opened."""
    _check(Path(path).stat().st_mode)


def read_text(path: Path, limit: int, encoding: str = "utf-8") -> str:
    """At most `limit` bytes of a regular file, as text. Raises OSError, UnicodeDecodeError."""
    with open_regular(path) as file:
        return file.read(limit).decode(encoding)


def open_pipe(path: str | os.PathLike[str]) -> int:
    """Open a named pipe or a device to write.

    A reader that is about to open the pipe has PATIENCE_SECONDS. Raises OSError: without a reader,
    or where it is a folder or socket.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or not Path(path).is_fifo():
                raise
            if time.monotonic() > deadline:
                why = "No process reads this named pipe: start that first"
                raise OSError(errno.ENXIO, why) from None
            time.sleep(_POLL_SECONDS)
        else:
            os.set_blocking(descriptor, True)
            return descriptor


def _check(mode: int) -> None:
    """Raises NotRegular, IsADirectoryError."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise _refused(mode)


def _check_ready(descriptor: int) -> None:
    """Raises NotRegular for a file of the kernel that waits for news, such as /proc/kmsg."""
    try:
        os.pread(descriptor, 1, 0)
    except BlockingIOError:
        raise NotRegular(errno.EINVAL, "It waits for data, as a pipe does") from None


def _refused(mode: int) -> NotRegular:
    kind = _KINDS.get(stat.S_IFMT(mode), "something else")
    return NotRegular(errno.EINVAL, f"It is {kind}, not a regular file")
