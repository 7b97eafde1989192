"""Run gptcli as a user does: in a process of its own, on a pipe or on a pseudo-terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

FAKE = [sys.executable, str(Path(__file__).with_name("fake_engine.py"))]
REAL = [sys.executable, "-m", "gptcli"]
TALES = ("-m", "tiny-tales", "--offline")
ROOT = Path(__file__).parent.parent.parent


def environment(**changes: object) -> dict[str, str]:
    """The environment of a child process; chunks of the fake engine are given as a list."""
    inherited = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        inherited.pop(name, None)
    shown = {
        name: json.dumps(value) if isinstance(value, list) else str(value)
        for name, value in changes.items()
    }
    return {**inherited, **shown}


def run(
    program: Sequence[str], *args: str | bytes, stdin: bytes = b"", **changes: object
) -> subprocess.CompletedProcess[bytes]:
    """Run to the end on pipes."""
    return subprocess.run(
        [*program, *args],
        input=stdin,
        capture_output=True,
        env=environment(**changes),
        timeout=60,
        check=False,
    )


def start(program: Sequence[str], *args: str, **changes: object) -> subprocess.Popen[bytes]:
    """Start on pipes, without input."""
    return subprocess.Popen(
        [*program, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**changes),
    )


class Terminal:
    """A command on a pseudo-terminal; `output` collects what it writes there."""

    def __init__(self, program: Sequence[str], *args: str, **changes: object) -> None:
        self.end, child = pty.openpty()
        self.process = subprocess.Popen(
            [*program, *args],
            stdin=child,
            stdout=child,
            stderr=child,
            env=environment(**changes),
            start_new_session=True,
        )
        os.close(child)
        self.output = b""

    def read_until(self, wanted: bytes, seconds: float = 30) -> None:
        """Collect output until `wanted` is in it."""
        deadline = time.monotonic() + seconds
        while wanted not in self.output:
            assert time.monotonic() < deadline, self.output
            if not self._read():
                break
        assert wanted in self.output

    def send(self, typed: bytes) -> None:
        """Type on the keyboard."""
        os.write(self.end, typed)

    def finish(self) -> int:
        """Collect the rest; returns the exit status as subprocess tells it."""
        while self._read():
            pass
        os.close(self.end)
        return self.process.wait(30)

    def _read(self) -> bool:
        """Whether there may be more."""
        try:
            if select.select([self.end], [], [], 30)[0]:
                piece = os.read(self.end, 65536)
                self.output += piece
                return bool(piece)
        except OSError:  # Linux says EIO when the other side is closed
            pass
        return False
