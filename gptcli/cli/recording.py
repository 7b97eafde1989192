"""`--record` of the commands that write text: the engine as it is, or one that records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from gptcli.errors import CannotCreate, UsageError
from gptcli.options import Load, Record
from gptcli.protocol import Engine
from gptcli.system.os_errors import reason

WrapEngine = Callable[[Engine, int, bool], Engine]
"""(engine, its slots, whether it is for beams) -> what is to be used in its place."""


@contextmanager
def recording(
    record: Record, command: str, load: Load, force: bool = False, output: str | None = None
) -> Iterator[WrapEngine]:
    """Give a function that makes an engine record its answers; the file is made at once.

    Raises UsageError where it is the output as well, CannotCreate.
    """
    if record.record is None:
        yield lambda engine, slots, beams: engine
        return
    file = _file(record.record, command)
    if output is not None and os.path.realpath(output) == os.path.realpath(file):
        raise UsageError("--record", "it is the output's file", "Name another file.")
    from gptcli.replay.recorder import Recorder, RecordFile, run_of

    journal = RecordFile(file, force)
    try:
        yield lambda engine, slots, beams: Recorder(
            engine, run_of(engine, command, load, slots, beams), journal, record.record_prompt
        )
    finally:
        journal.close()


def _file(name: str, command: str) -> str:
    """The file of a record: the one named, or a new one in the folder that is named.

    A folder is there, or its name ends in a slash; then it is made. Raises CannotCreate.
    """
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - these two never raise
    if not name.endswith("/") and not os.path.isdir(path):  # noqa: PTH112
        return str(path)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCreate(name, reason(error), "Choose another folder.") from None
    return str(path / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S.%f}-{command}.jsonl")
