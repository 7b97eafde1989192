"""How little a refusal may cost: what hostile files are held to."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gptcli.checkpoints.formats.locked.source import Refused

LONGEST_REFUSAL = 2000  # characters


@contextmanager
def refused_soon(
    most_bytes: int, most_seconds: float = 5, also: type[Exception] = Refused
) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """The block is refused with some words, or by the error `also`, in little time and memory."""
    tracemalloc.start()
    begin = time.process_time()
    try:
        with pytest.raises((Refused, also)) as refused:
            yield refused
        taken = time.process_time() - begin
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0 < len(str(refused.value)) < LONGEST_REFUSAL
    assert peak < most_bytes
    assert taken < most_seconds
