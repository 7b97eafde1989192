"""Whole processes, measured from outside: wall seconds and peak memory.

Start-up needs a new process each time. Whatever may need torch before that, such as a peer's
conversion of the checkpoint, runs in a child too: the peak memory of a child is at least what its
parent holds. The disk cache is warm: only the system's owner can empty it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from subprocess import DEVNULL, PIPE
from typing import Any

from gptcli.bench.entrants import Rival, label, open_ours, written
from gptcli.bench.figures import Figure
from gptcli.bench.peers.peer import PeerSetting
from gptcli.bench.peers.roster import Contender, open_peer
from gptcli.bench.rounds import EngineTurn, Say, figure, in_turn
from gptcli.bench.workloads import SENTENCE, SLOTS, mixed
from gptcli.engines.bandwidth import Machine
from gptcli.errors import Unavailable
from gptcli.options import Load

_running: list[subprocess.Popen[Any]] = []
IMPORTS = """
from pathlib import Path, PosixPath
from gptcli.bench import learning, processes
from gptcli.bench.learning import Lesson
from gptcli.engines.bandwidth import machine
from gptcli.options import Load
from gptcli.bench.peers.peer import PeerSetting
from gptcli.bench.peers.roster import Contender, prepare
"""


def child(expression: str) -> list[str]:
    """The command of a process that evaluates an expression over the names of `IMPORTS`."""
    return [sys.executable, "-c", f"{IMPORTS}\n{expression}"]


def cold(load: Load, rivals: Sequence[Rival], runs: int, say: Say) -> Iterator[Figure]:
    """Processes that write one token, and processes that write 16 mixed rows.

    Raises Unavailable where one of ours fails.
    """
    turns = [
        _turn(label(load.dtype), _ours(load)),
        *(_turn(r.contender.label, _theirs(r)) for r in rivals),
    ]
    times, memory = in_turn(turns, runs, say)
    yield figure("cold process to 1 token", "s", times, more_is_better=False)
    yield figure("peak memory of that process", "MB", memory, more_is_better=False)
    turns = [_turn(label(load.dtype), child(f"processes.rehearse({load!r})"))]
    for rival in rivals:
        script = f"processes.rehearse_peer({rival.contender!r}, {rival.setting!r})"
        turns.append(_turn(rival.contender.label, child(script)))
    _, memory = in_turn(turns, 1, say, warm=0)
    name = f"peak memory, {SLOTS} mixed rows at once"
    yield figure(name, "MB", memory, more_is_better=False)


def machine_of(load: Load) -> Machine:
    """The device and threads that our engine would use, without importing torch here.

    Raises Unavailable where that fails.
    """
    script = child(f"place = machine({load!r})\nprint(place.device, place.threads)")
    device, threads = answer(script, "Try: gptcli generate Hello").split()
    return Machine(device, int(threads))


def answer(command: Sequence[str], hint: str = "Run it by hand") -> str:
    """The last line that a process prints. Raises Unavailable with that of its stderr; with its
    status where it says nothing, as if Linux ends it (-9) because memory is short.
    """
    process = subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True)
    with _stoppable(process):
        out, errors = process.communicate()
    if process.returncode:
        why = errors.strip().split("\n")[-1] or f"status {process.returncode}"
        raise Unavailable("benchmark", f"a process fails ({why})", hint)
    return out.strip().split("\n")[-1]


def stop() -> None:
    """End the processes that run now: for a signal that ends this one."""
    for process in list(_running):
        process.kill()


@contextmanager
def _stoppable(process: subprocess.Popen[Any]) -> Iterator[None]:
    _running.append(process)
    try:
        yield
    finally:
        _running.remove(process)


def rehearse(load: Load) -> None:
    """Run the mixed rows once in our engine: a process whose memory is measured from outside."""
    engine, _ = open_ours(load)
    written(engine, mixed(SLOTS))


def rehearse_peer(contender: Contender, setting: PeerSetting) -> None:
    """The same in a peer."""
    open_peer(contender, setting).write(mixed(SLOTS))


def measured(command: Sequence[str]) -> tuple[float, float]:
    """Wall seconds and peak resident megabytes of a process that must succeed.

    The peak is at least what this process holds when it forks: to be called while it is small.
    Raises Unavailable with the last line of its stderr.
    """
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=DEVNULL, stderr=errors)
        with _stoppable(process):
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().split("\n")[-1]
            raise Unavailable("benchmark", f"a measured process failed ({last})", "Run it by hand")
    scale = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    return seconds, usage.ru_maxrss / scale


def _turn(name: str, command: Sequence[str]) -> EngineTurn:
    return EngineTurn(name, lambda run: measured(command))


def _ours(load: Load) -> list[str]:
    command = [sys.executable, "-m", "gptcli", "generate", "--offline", "--greedy"]
    command += ["--max-new-tokens", "1", "--device", load.device, "--dtype", load.dtype]
    command += ["--threads", str(load.threads)] if load.threads else []
    return [*command, "--model", str(load.model), SENTENCE]


def _theirs(rival: Rival) -> list[str]:
    setting = rival.setting
    told = (setting.dtype, setting.device, str(setting.threads))
    script = rival.contender.kind.cold
    return [sys.executable, "-c", script, str(setting.folder), SENTENCE, *told]
