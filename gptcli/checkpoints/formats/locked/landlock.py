"""Landlock: on Linux, a process gives up all files but those that it names, for good.

Python's audit hooks see what Python opens. A library in C, such as HDF5, opens files by itself: so
the kernel must hold the line. See landlock(7) and
https://docs.kernel.org/userspace-api/landlock.html; the numbers here are those of
linux/landlock.h. Kernels before 5.13, and those that were built or started without it, lack it.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # on every processor but Alpha
VERSION = 1  # flag: say which version the kernel has
PATH_BENEATH = 1
NO_NEW_PRIVS = 38  # of prctl
WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
REMOVE_FILE, MAKE_REG, TRUNCATE = 1 << 5, 1 << 8, 1 << 14
ACCESSES = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many kinds of access a version knows
NET_VERSION, SCOPE_VERSION = 4, 6  # since when TCP, and signals and abstract sockets, are known
ALL_TCP, ALL_SCOPES = 3, 3
SYSTEM = (  # what Python, libc and numpy read by themselves
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"),
    *("/etc/localtime", "/usr/share/zoneinfo", "/dev/null", "/dev/zero", "/dev/urandom"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system/cpu"),
)


def version() -> int:
    """The version of Landlock that the kernel has; 0 where it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, _call(CREATE_RULESET, None, 0, VERSION))


def restrict(readable: Iterable[Path], writable: Path) -> bool:
    """Leave this thread, and what it starts, nothing but these files; whether the kernel can.

    readable: files and folders that may be read, with all in them, beside those of Python and of
    the system's libraries. writable: a file, or a folder of files, that may be written and read.
    Files that are open stay open. Threads that run already stay as they are: call it early. TCP,
    and signals to others, are given up where the kernel can. It cannot be taken back. Raises
    OSError where a file that must be there is not.
    """
    known = version()
    if not known:
        return False
    rules = _new_ruleset(known)
    if rules < 0:
        return False
    try:
        everything = (1 << _accesses(known)) - 1
        for path in readable:
            _allow(rules, path, READ_FILE | READ_DIR, everything)
        for own in {*SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(None, sys.path)}:
            with suppress(OSError):  # not every system has all of them
                _allow(rules, Path(own), READ_FILE | READ_DIR, everything)
        written = WRITE_FILE | READ_FILE | READ_DIR | TRUNCATE | MAKE_REG | REMOVE_FILE
        _allow(rules, writable, written, everything)
        _prctl(NO_NEW_PRIVS)
        return _call(RESTRICT_SELF, rules, 0) == 0
    finally:
        os.close(rules)


def _accesses(known: int) -> int:
    return ACCESSES.get(known, max(ACCESSES.values()))


def _new_ruleset(known: int) -> int:
    """A set of rules that so far allows nothing."""
    numbers = [(1 << _accesses(known)) - 1]
    numbers += [ALL_TCP] if known >= NET_VERSION else []
    numbers += [ALL_SCOPES] if known >= SCOPE_VERSION else []
    attributes = b"".join(number.to_bytes(8, sys.byteorder) for number in numbers)
    return _call(CREATE_RULESET, attributes, len(attributes), 0)


def _allow(rules: int, path: Path, access: int, known: int) -> None:
    """Allow an access to a file, or to all in a folder. Raises OSError."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)  # type: ignore[attr-defined,unused-ignore]
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            access &= READ_FILE | WRITE_FILE | TRUNCATE
        rule = (access & known).to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
        if _call(ADD_RULE, rules, PATH_BENEATH, rule, 0) != 0:
            raise OSError(f"{path} cannot be allowed")
    finally:
        os.close(place)


def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *values: object) -> int:
    """A system call that the C library has no function for; -1 where it fails."""
    import ctypes

    given = [ctypes.c_long(value) if isinstance(value, int) else value for value in values]
    function = _libc().syscall
    function.restype = ctypes.c_long
    return int(function(ctypes.c_long(number), *given))


def _prctl(option: int) -> None:
    _libc().prctl(option, 1, 0, 0, 0)
