"""What is said while a server is waited for."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from gptcli.engines.remote.failures import asked_pause, status_of
from gptcli.system.units import seconds

MIN_SECONDS = 2.0  # shorter pauses are not told
SLACK_SECONDS = 1.0  # between the pauses of requests that were told the same


class WaitNotices:
    """Says that the server is waited for: once for all requests that wait until the same time."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._until = say, 0.0

    def told(self, wait: float, error: BaseException) -> None:
        """Take note of a pause of `wait` seconds after an error."""
        until = monotonic() + wait
        if wait < MIN_SECONDS or until <= self._until + SLACK_SECONDS:
            return
        self._until = until
        code = status_of(error)
        why = f"answers with status {code}" if code else "did not answer"
        if asked_pause(error) is not None:
            self._say(f"the server {why} and asks to wait {seconds(wait)}: waiting")
        else:
            self._say(f"the server {why}: the next try is in {seconds(wait)}")
