"""`--record` of the commands that write text: the engine as it is, or one that records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gptcli.errors import UsageError
from gptcli.options import Load, Record
from gptcli.protocol import Engine

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
    if output is not None and os.path.realpath(output) == os.path.realpath(record.record):
        raise UsageError("--record", "it is the output's file", "Name another file.")
    from gptcli.replay.recorder import Recorder, RecordFile, run_of

    journal = RecordFile(record.record, force)
    try:
        yield lambda engine, slots, beams: Recorder(
            engine, run_of(engine, command, load, slots, beams), journal, record.record_prompt
        )
    finally:
        journal.close()
