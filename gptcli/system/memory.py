"""Free memory of the machine, and peak memory of this process, in bytes.

The kernel reports the peak in kilobytes, on macOS in bytes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# As torch's allocator for CPUs says, and oneDNN, which it computes with.
_NO_MEMORY = ("not enough memory", "can't allocate memory", "could not create a primitive")
RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024  # of `ru_maxrss`


def available() -> int:
    """Bytes of available memory; of total memory where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


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

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT_BYTES
