"""log.jsonl: a line for each event, cut back to a checkpoint's when a run goes on from it.

So no line stands there twice and none is torn. Lines are flushed to the disk before the checkpoint
that counts them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from pathlib import Path

from gptcli.system import durable
from gptcli.system.durable import OWN
from gptcli.training.events import TrainingEvent


class RunLog:
    """The open log of a run; `size` is its length in bytes."""

    def __init__(self, path: Path, size: int) -> None:
        """Open it, cut to `size` bytes. Raises OSError."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | OWN, 0o666)
        try:
            there = os.fstat(self._descriptor).st_size
            self.size = min(size, there)
            if there > self.size:
                os.ftruncate(self._descriptor, self.size)
        except BaseException:
            self.close()
            raise

    def write(self, line: Mapping[str, object]) -> None:
        """Append a line. Raises OSError."""
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
        durable.write_all(self._descriptor, data)
        self.size += len(data)

    def flush(self) -> None:
        """Flush it to the disk. Raises OSError."""
        durable.sync(self._descriptor)

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


class NoLog(RunLog):
    """The log of a rehearsal: nothing is written."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, line: Mapping[str, object]) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def line_of(event: TrainingEvent) -> dict[str, object]:
    """An event as a line of log.jsonl."""
    values = {
        name: value.name if isinstance(value, Path) else _plain(value)
        for name, value in asdict(event).items()
    }
    return {"event": type(event).__name__.lower(), **values}


def _plain(value: object) -> object:
    """JSON has no word for what is no finite number."""
    return str(value) if isinstance(value, float) and not isfinite(value) else value
