"""Wait for the network: bounded in time, and Ctrl-C ends the wait at once.

Name resolution and a read cannot be interrupted, so they happen in a thread that does not keep the
process alive, and the caller waits for it only as long as enough bytes come. One rule bounds all
that a server can do, from silence to a byte now and then: see `STALL_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import TypeVar

MIN_BYTES = 2**16  # a transfer stalls where fewer come
STALL_SECONDS = 60.0  # within this time
POLL_SECONDS = 1.0  # between two checks

T = TypeVar("T")


class Stalled(Exception):
    """Too little came for too long."""


class Stopped(Exception):
    """Nobody waits for the result any more."""


class Watch:
    """What a transfer and the one who waits for it tell each other.

    `came` counts the bytes received; `show` is told of each change, less than 0 for what has to be
    received again.
    """

    def __init__(self, show: Callable[[int], object] = lambda change: None) -> None:
        self.came = 0
        self._show, self._stop = show, Event()
        self._marked, self._moved, self._patient = 0, monotonic(), False

    def add(self, count: int) -> None:
        """Bytes came over the network. Raises Stopped."""
        if self._stop.is_set():
            raise Stopped
        self.came += count
        self._show(count)
        if self.came - self._marked >= MIN_BYTES:
            self.alive()

    def undo(self, count: int) -> None:
        """Bytes that were received are of no use."""
        self._show(-count)

    def alive(self) -> None:
        """Something other than the network is waited for. Raises Stopped."""
        self._marked, self._moved = self.came, monotonic()
        if self._stop.is_set():
            raise Stopped

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """What happens inside is the disk's work, and takes as long as it takes."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False
            self.alive()

    def pause(self, seconds: float) -> None:
        """Sleep. Raises Stopped at once when nobody waits any more."""
        if self._stop.wait(seconds):
            raise Stopped

    def stop(self) -> None:
        """Let the transfer end at its next byte."""
        self._stop.set()

    def stalled(self) -> bool:
        """Whether fewer than `MIN_BYTES` bytes came within the last `STALL_SECONDS` seconds."""
        return not self._patient and monotonic() - self._moved > STALL_SECONDS


def within(seconds: float, call: Callable[[], T]) -> T:
    """Run a call that takes so many seconds at most. Raises TimeoutError."""
    begun = monotonic()
    return _in_thread(
        call, seconds, lambda: monotonic() - begun < seconds, f"no answer within {seconds:g} s"
    )


def watched(watch: Watch, call: Callable[[], T]) -> T:
    """Run a transfer as long as it moves. Raises Stalled."""
    why = f"less than {MIN_BYTES // 1024} KiB came in {STALL_SECONDS:g} s"
    try:
        return _in_thread(call, POLL_SECONDS, lambda: not watch.stalled(), why)
    except TimeoutError as error:
        raise Stalled(why) from error
    finally:
        watch.stop()


def _in_thread(
    call: Callable[[], T], interval: float, patient: Callable[[], bool], impatience: str
) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive() and patient():
        thread.join(interval)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(impatience)
    return results[0]
