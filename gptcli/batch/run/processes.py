"""A worker's process: how it is started, what it may use, what it has, and how it ended.

It starts as `python -c` with one end of a socket; messages are pickled. A fork would copy torch's
threads in an undefined state, and multiprocessing's spawn would import the command line again. The
worker has its own process group, so that Ctrl-C reaches only the parent, which stops the worker. If
the parent was killed, the worker sees the closed socket and exits. Not here: which rows it gets is
in `gptcli.batch.run.workers`, what it does with them in `gptcli.batch.run.child`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from gptcli.batch.input.row import Row
from gptcli.batch.run.child import Flush, Orders
from gptcli.batch.run.work import Work
from gptcli.errors import Unavailable
from gptcli.options import Load
from gptcli.system.os_errors import reason
from gptcli.system.processors import usable_cores

START = (
    "import sys; sys.path[:] = sys.argv[2:]; from gptcli.batch.run.child import serve;"
    " serve(int(sys.argv[1]))"
)


def shared(work: Work, count: int) -> Work:
    """The same with each worker's share of the processors, unless the user has said otherwise."""
    if work.load.threads is not None or "OMP_NUM_THREADS" in os.environ:
        return work
    return replace(work, load=replace(work.load, threads=max(1, usable_cores() // count)))


def environment(load: Load, place: int) -> dict[str, str]:
    """The environment of the worker with this number: where there are several GPUs, one is its."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        found = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
        devices = [str(number) for number in range(found)]
    else:
        devices = [name for name in named.split(",") if name.strip()]
    if load.device not in ("auto", "cuda") or len(devices) < 2:
        return dict(os.environ)
    return {**os.environ, "CUDA_VISIBLE_DEVICES": devices[place % len(devices)]}


@dataclass(eq=False)
class Worker:
    """A process, and the rows that it has."""

    place: int  # 0 to count - 1
    process: subprocess.Popen[bytes]
    connection: Connection[object, object]
    ready: bool = False
    room: int = 0  # how many rows it may have
    flushed: bool = True  # whether it gives out what it holds back
    alone: bool = False  # whether what it has must have no company
    rows: dict[int, Row] = field(default_factory=dict)

    @property
    def free(self) -> int:
        """How many more rows it may have."""
        return 0 if self.alone and self.rows else self.room - len(self.rows)

    def give(self, row: Row, alone: bool = False) -> None:
        """Send it a row; should it be dead, that shows when its answer is waited for."""
        self.rows[row.number] = row
        self.flushed, self.alone = False, alone
        with suppress(OSError):
            self.connection.send(row)

    def flush(self) -> None:
        """Have it give out what it holds back."""
        if not self.flushed:
            self.flushed = True
            with suppress(OSError):
                self.connection.send(Flush())


def started(place: int, orders: Orders) -> Worker:
    """A new process. Raises Unavailable where the system has no more."""
    ours, theirs = Pipe()
    descriptor = theirs.fileno()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, str(descriptor), *sys.path],
            stdin=subprocess.DEVNULL,  # the parent's has the rows
            stdout=subprocess.DEVNULL,  # the parent's is for answers
            pass_fds=[descriptor],
            env=environment(orders.work.load, place),
            process_group=0,
        )
    except OSError as error:
        ours.close()
        raise Unavailable(
            "workers", f"cannot start a process: {reason(error)}", "Try fewer --workers."
        ) from None
    finally:
        theirs.close()
    worker = Worker(place, process, ours)
    with suppress(OSError):
        ours.send(orders)
    return worker


def fate(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
