"""gptcli many times for one import of it: each command is a process forked from one that waits.

A forked process has arguments, folder, environment and standard streams of its own, and ends by a
status or a signal of its own, as one that was started. Only the imports are made before. So it is
for tests of what commands say; what a start costs and imports is tested with real starts.

    python forked.py SOCKET                 waits for commands
    python -IS forked.py SOCKET run ARGS    runs one, and ends as it ends
"""

from __future__ import annotations

import array
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STREAMS = (0, 1, 2)


@contextmanager
def waiting(place: Path, environment: dict[str, str]) -> Iterator[list[str]]:
    """A process that waits for commands at the socket `place`; gives the words that run one."""
    words = [sys.executable, __file__, str(place)]
    process = subprocess.Popen(
        words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield [sys.executable, "-IS", __file__, str(place), "run"]
    finally:
        process.terminate()
        process.communicate(timeout=60)


def serve(place: str) -> None:
    """Import what most commands need, then fork for each command until SIGTERM.

    Not torch, which few need: to fork a process with its memory costs more than to import the rest.
    """
    import numpy  # noqa: F401
    import tokenizers  # noqa: F401

    import gptcli.engines.gpt2.engine
    import gptcli.engines.gpt2.on_cpu  # noqa: F401
    from gptcli.__main__ import main
    from gptcli.cli import option_groups

    list(option_groups.every())  # all commands
    gc.collect()
    gc.freeze()

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(place)
    listening.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.write(1, b"ready\n")
    while True:
        caller, _ = listening.accept()
        if os.fork() == 0:  # between the caller and the command: waits for it, and tells its end
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            request, streams = _received(caller)
            command = os.fork()
            if command == 0:
                caller.close()
                _become(request, streams)
                main()
                os._exit(0)
            caller.sendall(str(command).encode().ljust(16))
            _, status = os.waitpid(command, 0)
            caller.sendall(str(status).encode())
            os._exit(0)
        caller.close()


def _received(caller: socket.socket) -> tuple[dict[str, object], list[int]]:
    size, descriptors = 0, array.array("i")
    data, ancillary, _, _ = caller.recvmsg(16, socket.CMSG_SPACE(len(STREAMS) * 4))
    for _, _, found in ancillary:
        descriptors.frombytes(found)
    size, data = int(data), b""
    while len(data) < size:
        data += caller.recv(size - len(data))
    return json.loads(data), list(descriptors)


def _become(request: dict[str, object], streams: list[int]) -> None:
    """Take over the arguments, the folder, the environment and the streams of the caller."""
    for own, theirs in zip(STREAMS, streams, strict=True):
        os.dup2(theirs, own)
        os.close(theirs)
    os.chdir(str(request["folder"]))
    environment = request["environment"]
    assert isinstance(environment, dict)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["gptcli", *request["arguments"]]  # type: ignore[misc]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def run(place: str, arguments: list[str]) -> None:
    """Have a command run with the streams of this process, and end as it ends."""
    request = {
        "arguments": arguments,
        "folder": os.getcwd(),  # noqa: PTH109 - pathlib takes as long to import as all the rest
        "environment": dict(os.environ),
    }
    data = json.dumps(request).encode()
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(place)
    streams = array.array("i", STREAMS).tobytes()
    caller.sendmsg(
        [str(len(data)).encode().ljust(16)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)]
    )
    caller.sendall(data)
    command = int(caller.recv(16))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(command, number))
    status = int(caller.recv(16))
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    if sys.argv[2:3] == ["run"]:
        run(sys.argv[1], sys.argv[3:])
    else:
        serve(sys.argv[1])
