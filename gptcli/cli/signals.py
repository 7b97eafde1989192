"""Signals: clean up, then die of the signal itself, so that the shell sees the truth.

No exception is thrown into running code: a KeyboardInterrupt inside an import or a C extension ends
in a traceback, or is swallowed. The handler runs the registered cleanups (erase the spinner, keep
the text so far), restores the default action and sends the signal again. A second signal meanwhile
ends the process at once. A chat goes on after Ctrl-C, see `interruptible`; training saves first,
see `stoppable`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

_FATAL = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_cleanups: list[Callable[[], None]] = []
_Handler = Callable[[int, FrameType | None], object] | signal.Handlers


@contextmanager
def _handling(handler: _Handler, numbers: Iterable[int]) -> Iterator[None]:
    """Handle signals inside the block, and as before after it."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _heard(numbers: Iterable[int]) -> list[int]:
    """Those that are not ignored: what nohup ignores stays ignored."""
    return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def caught() -> Iterator[None]:
    """Handle the fatal signals inside the block; one that is ignored (nohup) stays ignored."""
    with _handling(_caught, _heard(_FATAL)):
        yield


@contextmanager
def cleaning(cleanup: Callable[[], None]) -> Iterator[None]:
    """Run `cleanup` if a signal ends the process inside the block.

    What was registered first goes first, so that a spinner is erased last and not drawn again.
    """
    _cleanups.append(cleanup)
    try:
        yield
    finally:
        _cleanups.remove(cleanup)


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` for a SIGINT inside the block, in place of ending the process.

    `stop` runs inside a signal handler, so it must only set a flag or the like. A SIGINT that is
    ignored (nohup) stays ignored; SIGTERM and SIGHUP end the process as ever.
    """
    with _handling(lambda number, frame: stop(), _heard([signal.SIGINT])):
        yield


@contextmanager
def stoppable(stop: Callable[[int], None], *, second: bool = True) -> Iterator[None]:
    """Call `stop` with the number of the first fatal signal inside the block, which goes on.

    A `second` one ends the process at once, also inside a library; where another program passes the
    terminal's signals on, each comes twice. `stop` runs inside a signal handler, so it must only
    set a flag or the like. Whoever stops then calls `die` with the number.
    """
    heard = _heard(_FATAL)

    def first(number: int, frame: FrameType | None) -> None:
        for fatal in heard:
            signal.signal(fatal, signal.SIG_DFL if second else signal.SIG_IGN)
        stop(number)

    with _handling(first, heard):
        yield


@contextmanager
def deaf() -> Iterator[None]:
    """Ignore fatal signals inside the block: another process hears them, and says when to end."""
    with _handling(signal.SIG_IGN, _FATAL):
        yield


@contextmanager
def resized(redraw: Callable[[], object]) -> Iterator[None]:
    """Call `redraw` when the terminal's size changes inside the block."""
    numbers = [signal.SIGWINCH] if hasattr(signal, "SIGWINCH") else []
    with _handling(lambda number, frame: redraw(), numbers):
        yield


@contextmanager
def dying_of_closed_pipes() -> Iterator[None]:
    """Let SIGPIPE kill inside the block: right for printing help, wrong once sockets are open."""
    with _handling(signal.SIG_DFL, [signal.SIGPIPE]):
        yield


def surviving_closed_pipes() -> None:
    """From here on writing to a closed pipe or socket is an error, not death."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def die(number: int) -> NoReturn:
    """Clean up and end as the default action of signal `number` does."""
    for fatal in _FATAL:
        signal.signal(fatal, signal.SIG_DFL)
    for cleanup in list(_cleanups):
        with suppress(Exception):  # nothing may keep the process alive
            cleanup()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # a container's first process does not die of its own signals


def _caught(number: int, frame: FrameType | None) -> None:
    die(number)
