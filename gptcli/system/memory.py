"""How much memory there is, and how much this process and its children have taken.

Measured in bytes. The kernel counts what a process took in kilobytes, on macOS in bytes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of the kernel's `ru_maxrss`


def available() -> int:
    """Bytes of memory that can be taken; all there is where that cannot be told."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
