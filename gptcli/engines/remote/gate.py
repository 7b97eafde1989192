"""How many requests a server takes at once, found out while they run.

Some servers break off a running answer when another request comes. After such a break fewer
requests are let in, down to one at a time; after a run of whole answers, one more. The rule is that
of TCP's congestion control (Chiu and Jain 1989): halve on trouble, add one on success.
"""

from __future__ import annotations

import asyncio
from collections import deque

WHOLE_ANSWERS = 32  # in a row, before one more request is let in


class Gate:
    """Lets requests in, on one event loop. `limit` is how many may be inside at once."""

    def __init__(self, most: int) -> None:
        self.limit = self._most = most
        self._inside = self._whole = self._reductions = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> int:
        """Wait for room; returns a ticket for `broke_off`."""
        while self._inside >= self.limit:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._admit()  # the turn may have been given already
                raise
        self._inside += 1
        return self._reductions

    def leave(self) -> None:
        """Make room for the next."""
        self._inside -= 1
        self._admit()

    def answered(self) -> None:
        """Note an answer that arrived whole."""
        self._whole += 1
        if self._whole >= WHOLE_ANSWERS and self.limit < self._most:
            self.limit, self._whole = self.limit + 1, 0
            self._admit()

    def broke_off(self, ticket: int) -> bool:
        """Note an answer that broke off, before `leave`.

        Returns whether fewer requests are in flight from now on than when it was sent, so that
        another try is not the same try.
        """
        self._whole = 0
        if ticket != self._reductions:
            return True
        if self._inside < 2:
            return False
        self.limit = max(1, min(self.limit, self._inside) // 2)
        self._reductions += 1
        return True

    def _admit(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
