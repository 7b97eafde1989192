"""Number of cores that this process may use, by its affinity and its group's limit."""

from __future__ import annotations

import os
from pathlib import Path


def allowed_cores() -> int:
    """Number of cores in the affinity of this process."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_cores() -> int:
    """The same, but no more than the CPU time limit of the control group allows."""
    cores = allowed_cores()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no such limit
        return cores
