"""Free memory of the machine, and peak memory of this process, in bytes.

Linux tells the peak of what the process has run since its program was started; its `ru_maxrss`
begins with what the parent held. Elsewhere there is only that, in kilobytes, on macOS in bytes.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

# As torch's allocator for CPUs says, and oneDNN, which it computes with.
_NO_MEMORY = ("not enough memory", "can't allocate memory", "could not create a primitive")
RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024  # of `ru_maxrss`


def available() -> int:
    """Bytes of available memory; of total memory where the system does not say."""
    found = _told("/proc/meminfo", "MemAvailable:")
    return found or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory is short: Python's, CUDA's, or that of torch's allocator
    for CPUs, which has no class of its own.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _NO_MEMORY)


def peak() -> int:
    """Peak resident memory of this process, in bytes."""
    import resource

    found = _told("/proc/self/status", "VmHWM:")
    return found or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT_BYTES


def _told(file: str, name: str) -> int:
    """Bytes that Linux tells under a name; 0 where it does not."""
    with suppress(OSError):
        for line in Path(file).read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(name):
                return int(line.split()[1]) << 10
    return 0
