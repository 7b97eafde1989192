"""How many processors this process may use: by its affinity and by its group's limit."""

from __future__ import annotations

import os
from pathlib import Path


def allowed_cores() -> int:
    """How many cores the system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_cores() -> int:
    """As many, but no more than the time that the group's limit allows at once."""
    cores = allowed_cores()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no such limit
        return cores
