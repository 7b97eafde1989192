"""Arrays on the disk: written piece by piece, flushed, and mapped when they are read."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.errors import CannotCreate, WriteFailed
from gptcli.system import durable
from gptcli.system.os_errors import reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BUFFER_BYTES = 1 << 20
_FAILING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@contextmanager
def written(folder: Path) -> Iterator[None]:
    """Turn what goes wrong with writing into CannotCreate and WriteFailed."""
    try:
        yield
    except OSError as error:
        if error.errno in _FAILING:
            hint = "Make room and run it again, or give another folder with -o."
            raise WriteFailed(str(folder), reason(error), hint) from None
        raise CannotCreate(str(folder), reason(error), "Give another folder with -o.") from None


class ArrayFile:
    """A new file of numbers of one type. Methods raise OSError."""

    def __init__(self, path: Path, dtype: str) -> None:
        import numpy as np

        self.path, self.dtype, self.count = path, np.dtype(dtype), 0
        self._hashed = hashlib.sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | durable.OWN
        self._descriptor: int | None = os.open(path, flags, 0o666)
        self._held = bytearray()

    def append(self, values: NDArray[np.integer]) -> None:
        """Write numbers behind the others."""
        self.count += values.size
        self._held += values.astype(self.dtype, copy=False).tobytes()
        if len(self._held) >= BUFFER_BYTES:
            self._write()

    def close(self, kept: bool = True) -> None:
        """Write all; what is kept is flushed to the disk."""
        if self._descriptor is not None:
            self._write()
            if kept:
                durable.flush(self._descriptor)
            self.abandon()

    def abandon(self) -> None:
        """Close it as it is."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def sha256(self) -> str:
        """Of what was written."""
        return self._hashed.hexdigest()

    def _write(self) -> None:
        assert self._descriptor is not None
        self._hashed.update(self._held)
        durable.write_all(self._descriptor, bytes(self._held))
        self._held.clear()


def mapped(path: Path, dtype: str, count: int) -> NDArray[Any]:
    """The numbers of a file, mapped; they cannot be written. Raises OSError, ValueError."""
    import numpy as np

    if path.stat().st_size != count * np.dtype(dtype).itemsize:
        raise ValueError(f"{path.name} has another size")
    if count == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, "r", shape=(count,))


def blocks(path: Path, dtype: str, size: int) -> Iterator[NDArray[Any]]:
    """The numbers of a file, so many at a time, read and not mapped. Raises OSError."""
    import numpy as np

    with path.open("rb") as file:
        while (found := np.fromfile(file, dtype, size)).size:
            yield found
