"""What is taken from a process before it reads files that nobody vouches for.

Weights of other programs are pickles, which are programs, or containers that C libraries read.
Should such a reader ever fail, little is left to reach: no network where the system allows to leave
it, no other process, no file outside the model's folder to read and none but the output to write,
limits of memory, time and size. Each of these holds as far as the system has it.
"""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gptcli.checkpoints.formats.locked.source import Refused

# What a reader of tensors never does, as Python's audit hooks name it.
FORBIDDEN = re.compile(
    r"socket\.(?!gethostname).*|subprocess\..*|os\.(system|exec|fork|forkpty|spawn|posix_spawn|kill"
    r"|killpg|startfile|remove|rename|rmdir|mkdir|chmod|chown|link|symlink|truncate|putenv|setxattr"
    r"|removexattr|chflags|lockf|add_dll_directory)|shutil\..*|pty\..*|ctypes\..*|tempfile\..*"
    r"|pickle\..*|urllib\..*|http\..*|ftplib\..*|smtplib\..*|webbrowser\..*|sqlite3\..*|signal\..*"
)
MEGA = 2**20
SLACK_BYTES = 1024 * MEGA  # bytes of address space beyond what the weights take
PATIENCE, SPEED = 120, 5 * MEGA  # seconds of computing, and bytes a second beyond


def leave_the_network() -> None:
    """On Linux: go into a network without any way out, where one may; end with the parent."""
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        new_net, new_user = 0x40000000, 0x10000000
        # Only root may do the first; who may not becomes nobody in a space of its own.
        if libc.unshare(new_net) != 0:
            libc.unshare(new_net | new_user)


def limit(size: int, written: int) -> None:
    """Bound memory, time and files, for `size` bytes that are read and `written` ones that come."""
    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": PATIENCE + max(size, written) // SPEED,
        "RLIMIT_FSIZE": written,
    }
    with suppress(OSError, ValueError):  # what the libraries themselves take is known from /proc
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        wanted["RLIMIT_AS"] = pages * resource.getpagesize() + 3 * size + SLACK_BYTES
    for name, value in wanted.items():
        with suppress(OSError, ValueError, AttributeError):
            number = getattr(resource, name)
            hard = resource.getrlimit(number)[1]
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (bound, bound))


def watch(folders: Sequence[Path]) -> None:
    """Refuse, from here on, whatever a reader of tensors never does. It cannot be taken back."""
    own = (*folders, sys.prefix, sys.base_prefix, *filter(None, sys.path))
    roots = tuple(os.path.realpath(str(folder)) + os.sep for folder in own)

    def hook(event: str, args: Any) -> None:
        if event == "open":
            path, mode, flags = args
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR)) or any(
                c in (mode or "") for c in "wax+"
            )
            inside = isinstance(path, int) or os.path.realpath(os.fsdecode(path)).startswith(roots)
            if writes or not inside:
                raise PermissionError(1, "may not be opened while a model is read", str(path))
        elif FORBIDDEN.fullmatch(event):
            raise Refused(f"it tried {event}")

    sys.addaudithook(hook)
