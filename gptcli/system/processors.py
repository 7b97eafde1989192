"""Cores that this process may use, by its affinity and its group's limit, and what they can do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OF_THIS_PROCESS = Path("/proc/self/cgroup")
DESCRIBED = Path("/proc/cpuinfo")
BFLOAT16 = {"amx_bf16", "avx512_bf16"}  # instructions of x86


def allowed_cores() -> int:
    """Number of cores in the affinity of this process."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_cores() -> int:
    """The same, but no more than the CPU time limit of the control group allows, rounded up."""
    return min([allowed_cores(), *_limits()])


def default_threads() -> int:
    """Number of threads without --threads: OMP_NUM_THREADS where it is set, else every core."""
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(text) if text.isdecimal() and int(text) > 0 else usable_cores()


def multiplies_bfloat16() -> bool:
    """Whether the cores have instructions for products in bfloat16; without them it is slow."""
    try:
        text = DESCRIBED.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False  # not Linux
    return not BFLOAT16.isdisjoint(text.partition("flags")[2].partition("\n")[0].split())


def _limits() -> Iterator[int]:
    """How many cores each group around this process may use, where it has a limit."""
    for names in _quotas():
        try:
            text = " ".join(name.read_text(encoding="ascii") for name in names)
            quota, period = map(int, text.split())  # "max" is no number: there is no limit
        except (OSError, ValueError):
            continue
        if quota > 0 and period > 0:  # -1 is no limit
            yield -(-quota // period)


def _quotas() -> Iterator[tuple[Path, ...]]:
    """The files with quota and period of each group, from this process's group up."""
    yield GROUPS / "cpu" / "cpu.cfs_quota_us", GROUPS / "cpu" / "cpu.cfs_period_us"  # version 1
    for group in (_group(), *_group().parents):
        yield (GROUPS / group / "cpu.max",)


def _group() -> Path:
    """The group of version 2 that this process is in, below `GROUPS`; in a container itself."""
    try:
        lines = OF_THIS_PROCESS.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return Path()
    own = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    # A container that sees only a part of the tree is told of a place outside it.
    return Path(own[0]) if own and ".." not in Path(own[0]).parts else Path()
