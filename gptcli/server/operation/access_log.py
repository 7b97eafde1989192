"""The access log: a JSON object a line for each request, without prompts, texts and keys.

A thread of its own writes, so that a slow disk or a reader that stands still holds up no request.
What it cannot take is dropped and counted in the next line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from queue import Full, Queue
from threading import Thread

from gptcli.errors import CannotCreate
from gptcli.system import durable
from gptcli.system.os_errors import reason

MOST_LINES = 10_000  # that wait to be written
CLOSE_SECONDS = 1.0
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)


class AccessLog:
    """An open log. `say` is told once that it cannot be written."""

    def __init__(self, path: str, say: Callable[[str], None]) -> None:
        """Open it; - is standard output. Raises CannotCreate."""
        self._path, self._say = path, say
        try:
            self._descriptor = sys.stdout.fileno() if path == "-" else os.open(path, FLAGS, 0o600)
        except (OSError, ValueError, AttributeError) as error:
            why = reason(error) if isinstance(error, OSError) and error.errno else str(error)
            raise CannotCreate(path, why, "Choose another file with --access-log") from None
        self._lines: Queue[bytes | None] = Queue(MOST_LINES)
        self._dropped = 0
        self._thread = Thread(target=self._work, name="gptcli-access-log", daemon=True)
        self._thread.start()

    def write(self, line: dict[str, object]) -> None:
        """Add a line; it never waits."""
        dropped = {"dropped_lines": self._dropped} if self._dropped else {}
        text = json.dumps(line | dropped, separators=(",", ":")) + "\n"
        try:
            self._lines.put_nowait(text.encode())
            self._dropped = 0
        except Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what waits, for a moment."""
        with suppress(Full):
            self._lines.put_nowait(None)
        self._thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        failed = False
        while (line := self._lines.get()) is not None:
            try:
                durable.write_all(self._descriptor, line)
                failed = False
            except OSError as error:
                if not failed:
                    self._say(f"the access log {self._path} cannot be written: {reason(error)}")
                failed = True
