"""Where the time of a start goes: named stages, kept only when somebody asks.

The main line is cut by marks, so that its stages add up to the whole; work in a thread is a span of
its own, beside them. Switched off, as it is by default, a mark costs one comparison. Recording ends
with the first token. Left out: how the record is shown, see `gptcli.cli.output.profile`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

FIRST_TOKEN = "first token"
BORN = perf_counter()  # when the first lines of gptcli ran


class Stage(NamedTuple):
    """A stretch of the start, in seconds of `time.perf_counter`."""

    name: str
    begin: float
    end: float
    beside: bool = False  # in a thread, while the main line went on


_record: list[Stage] | None = None


def record(wanted: bool) -> None:
    """Begin a new record, or none; the first mark will name the time since `BORN`."""
    global _record
    _record = [] if wanted else None


def recording() -> bool:
    """Whether anything is recorded."""
    return _record is not None


def recorded() -> tuple[Stage, ...]:
    """What was recorded: the main line in order, each stage beginning where the last one ended."""
    return tuple(_record or ())


def mark(name: str) -> None:
    """Call the main line's time since the last mark `name`; nothing after the first token."""
    if _record is None or reached_first_token():
        return
    ends = [stage.end for stage in _record if not stage.beside]
    _record.append(Stage(name, ends[-1] if ends else BORN, perf_counter()))


def reached_first_token() -> bool:
    """Whether the start is over, as far as it is recorded."""
    return any(stage.name == FIRST_TOKEN for stage in _record or ())


@contextmanager
def beside(name: str) -> Iterator[None]:
    """Record the block, which runs in a thread, as a span of its own."""
    mine = _record
    if mine is None:
        yield
        return
    begin = perf_counter()
    try:
        yield
    finally:
        mine.append(Stage(name, begin, perf_counter(), beside=True))
