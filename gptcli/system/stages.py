"""Where the time of a start goes: named stages, recorded only on request.

Marks cut the main thread's time, so its stages add up to the whole. Work in other threads is
recorded as spans beside them. When recording is off, the default, a mark costs one comparison.
Recording ends with the first token. Not here: the report is in `gptcli.cli.output.profile`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

FIRST_TOKEN = "first token"
BORN = perf_counter()  # of the first lines of gptcli


class Stage(NamedTuple):
    """A named part of the start, in seconds of `time.perf_counter`."""

    name: str
    begin: float
    end: float
    beside: bool = False  # in a thread, while the main line went on


_record: list[Stage] | None = None


def record(wanted: bool) -> None:
    """Start a new record, or stop recording. The first mark names the time since `BORN`."""
    global _record
    _record = [] if wanted else None


def recording() -> bool:
    """Whether anything is recorded."""
    return _record is not None


def recorded() -> tuple[Stage, ...]:
    """All stages. Those of the main thread are in order, each begins where the last one ended."""
    return tuple(_record or ())


def mark(name: str) -> None:
    """Name the main thread's time since the last mark. Does nothing after the first token."""
    if _record is None or reached_first_token():
        return
    ends = [stage.end for stage in _record if not stage.beside]
    _record.append(Stage(name, ends[-1] if ends else BORN, perf_counter()))


def reached_first_token() -> bool:
    """Whether the first token was recorded."""
    return any(stage.name == FIRST_TOKEN for stage in _record or ())


@contextmanager
def beside(name: str) -> Iterator[None]:
    """Record the block, which runs in another thread, as a span."""
    mine = _record
    if mine is None:
        yield
        return
    begin = perf_counter()
    try:
        yield
    finally:
        mine.append(Stage(name, begin, perf_counter(), beside=True))
