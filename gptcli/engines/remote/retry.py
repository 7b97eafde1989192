"""When a request is tried again, and after how long.

Only failures that may pass are tried again: a server that starts, restarts or is busy, a connection
that broke. `Patience` bounds the number of tries and their time. A pause that the server names in
Retry-After is kept, up to a bound; a longer one ends the tries. Not here: the error that is shown
in the end is in `failures`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

import httpx2

from gptcli.engines.remote.bounds import BoundPassed
from gptcli.engines.remote.client import Patience
from gptcli.engines.remote.failures import FAILURES, CutOff, asked_pause, cause_of, status_of
from gptcli.engines.remote.gate import Gate

T = TypeVar("T")
OnWait = Callable[[float, BaseException], None]
"""(seconds, error) -> nothing: told of each pause before it begins."""
RETRY_STATUSES = {408, 409, 429}  # and 5xx, except 501


async def patiently(
    call: Callable[[], Awaitable[T]],
    patience: Patience,
    gate: Gate | None = None,
    final: Callable[[], bool] = lambda: False,
    on_wait: OnWait = lambda seconds, error: None,
) -> T:
    """Call until it works, it cannot work, `patience` ends, or the try was `final`.

    Raises one of FAILURES; also at once where the server asks for a pause that is too long.

    With a `gate` each try waits for room, and an answer that breaks off beside others lets fewer
    in; the try after that does not count as one.
    """
    gate = gate or Gate(1)
    spent, tried = 0.0, 0
    while True:
        ticket = await gate.enter()
        begun = monotonic()
        try:
            found = await call()
            gate.answered()
            return found
        except FAILURES as error:
            if not (broke_off(error) and gate.broke_off(ticket)):
                spent, tried = spent + monotonic() - begun, tried + 1
            wait = pause(error, max(tried, 1), patience)
            late = (asked_pause(error) or 0) > patience.longest or spent + (
                wait or 0
            ) > patience.total
            if wait is None or late or final():
                raise
            on_wait(wait, error)
        finally:
            gate.leave()
        spent += wait
        await asyncio.sleep(wait)


def pause(error: BaseException, tried: int, patience: Patience) -> float | None:
    """Seconds to wait before the next try, None where there should be none.

    What the server names, up to a bound; else doubling, with jitter so that many clients do not
    come back at once.
    """
    if tried >= patience.tries or not _passing(error):
        return None
    asked = asked_pause(error)
    if asked is not None:
        return min(asked, patience.longest)
    doubled = min(patience.first * 2.0 ** (tried - 1), patience.longest_doubled, patience.longest)
    return doubled * random.uniform(0.5, 1)


def broke_off(error: BaseException) -> bool:
    """Whether a connection was made, and ended before its answer did."""
    if isinstance(error, httpx2.TimeoutException):
        return False
    if cause_of(error, BoundPassed):
        return False
    if isinstance(error, httpx2.ConnectError):
        return False
    return isinstance(error, httpx2.HTTPError | CutOff)


def _passing(error: BaseException) -> bool:
    """Whether it may work the next time. An answer without end would have none again."""
    if cause_of(error, BoundPassed):
        return False
    if code := status_of(error):
        return code in RETRY_STATUSES or (code >= 500 and code != 501)
    return isinstance(error, httpx2.HTTPError | CutOff)
