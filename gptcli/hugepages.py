"""Large pages for the weights: a process of our own starts again with glibc told to ask for them.

A step reads every weight, and with pages of 4 KB the processor spends a third of that time looking
up addresses. Packed weights lie in memory that libraries take with malloc, so malloc itself has to
ask for large pages: a tunable of glibc (2.35 or later), which it reads when a process begins. Linux
grants them to those who ask where /sys/kernel/mm/transparent_hugepage/enabled says `madvise`; under
`always` all have them, under `never` nobody. Measured on two cores with a GPT-2 of 124M in 16 bits:
one row takes 14 ms a step instead of 20; to start again takes 30 to 50 ms, once. GPTCLI_HUGEPAGES=0
leaves it. Left out: programs that use gptcli as a library; they can set the tunable themselves.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb"
VARIABLE = "GPTCLI_HUGEPAGES"
SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def ask() -> None:
    """Start this process again with large pages, where that is possible and was not done yet.

    To be called before anything is read or started; it does not return if it succeeds.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if TUNABLE in tunables or os.environ.get(VARIABLE) == "0" or not _granted():
        return
    given = [tunables] if tunables else []
    environment = os.environ | {"GLIBC_TUNABLES": ":".join([*given, f"{TUNABLE}=1"])}
    command = [sys.executable, *sys.orig_argv[1:]]
    try:
        os.execve(sys.executable, command, environment)
    except OSError:
        return  # as it was, it only takes longer


def _granted() -> bool:
    """Whether large pages are given to those, and only those, who ask; a glibc must be there."""
    try:
        return "[madvise]" in SWITCH.read_text(encoding="ascii") and _can_be_told()
    except (OSError, ValueError):
        return False


def _can_be_told() -> bool:
    """Whether the C library is a glibc that has the tunable."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (OSError, ValueError, AttributeError):  # another system
        return False
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    return name == "glibc" and numbers >= [2, 35]
