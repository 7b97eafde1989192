"""The right to write to a place, held by one process at a time.

The kernel frees it however the process ends, so a kill leaves nothing to clean up.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from gptcli.errors import Busy, CannotCreate
from gptcli.system.durable import OWN, remove, write_all

_PATIENCE_SECONDS = 0.3  # seconds that a new holder of the lock is given to write its number


class FileLock:
    """A lock, held until `release` or the end of the process.

    The file holds the process's number for others to name, and is removed by its holder; whoever
    locked a removed file begins again.
    """

    def __init__(self, path: Path, name: str) -> None:
        """Take it; `name` is what the user calls the place.

        Raises Busy, naming the holder; CannotCreate where something else lies there; OSError.
        """
        self._path = path
        self._released = False
        self._descriptor = self._take(name)
        try:
            os.ftruncate(self._descriptor, 0)
            write_all(self._descriptor, f"{os.getpid()}\n".encode())
        except OSError:
            self.release()
            raise

    def _take(self, name: str) -> int:
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | OWN, 0o666)
            try:
                found = os.fstat(descriptor)
                if not S_ISREG(found.st_mode) or found.st_nlink > 1:  # laid there to be emptied
                    raise CannotCreate(str(self._path), "it is no lock of ours", "Remove it.")
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), self._path.lstat()):
                        return descriptor
            except BlockingIOError:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise Busy(
                    name, f"{holder} writes to it", "Wait for its end, or write elsewhere with -o."
                ) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def release(self) -> None:
        """Let others write. Never fails: what matters is that the descriptor is closed."""
        if self._released:
            return
        self._released = True
        with suppress(OSError):
            remove(self._path)
        with suppress(OSError):
            os.close(self._descriptor)


def _holder(descriptor: int) -> str:
    """`process 123`, as the lock file says; its holder may be about to write it."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        number = os.pread(descriptor, 20, 0).strip()
        if number.isdigit():
            return f"process {int(number)}"
        time.sleep(0.01)
    return "another process"
