"""One connection: uvicorn's, with limits of time and size where it has none.

A head that does not come, a body that is sent on after it was refused, an answer that nobody reads:
each ends the connection after some seconds. Requests that a client sends before the last one is
answered (pipelining) wait here, so that the connection is still read, and its end is noticed.
What is no HTTP is answered in the shape of OpenAI's errors.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gptcli.server.refusals import Refusal
from gptcli.server.responses import SEND_SECONDS, encoded

HEAD_SECONDS = 20.0  # for a head, from its first byte or the beginning of the connection
REST_SECONDS = 20.0  # for the rest of a body whose request is answered already
MAX_PIPELINED_BYTES = 65_536
MAX_HEAD_BYTES = 65_536
PHRASES = {400: b"Bad Request", 414: b"URI Too Long", 431: b"Request Header Fields Too Large"}


class Connection(H11Protocol):
    """A client's connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._inner, self.app = self.app, self._run
        self._timer: asyncio.TimerHandle | None = None
        self._early = b""

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came."""
        super().connection_made(transport)
        self._limit(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._limit(None)
        self._early = b""
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, but keep what comes before its turn."""
        if self._answering and not self.cycle.more_body:
            self._early += data
            if len(self._early) > MAX_PIPELINED_BYTES:
                self.transport.abort()
            return
        idle = not self._answering and self._timer is None
        super().data_received(data)
        if self._answering:
            self._limit(None)
        elif idle:
            self._limit(HEAD_SECONDS)

    def on_response_complete(self) -> None:
        """An answer is out: the next request may begin."""
        early, self._early = self._early, b""
        super().on_response_complete()
        if self.transport.is_closing():
            self._limit(SEND_SECONDS)
        elif self.conn.their_state is h11.SEND_BODY:
            self._limit(REST_SECONDS)
        if early and not self.transport.is_closing():
            self.data_received(early)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for a while: close, however much of an answer is still unread."""
        super().timeout_keep_alive_handler()
        self._limit(SEND_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and close."""
        error = sys.exc_info()[1]
        status = getattr(error, "error_status_hint", 400)
        status = status if status in PHRASES else 400
        why = "the head of the request is too large" if status != 400 else "this is no HTTP request"
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = encoded(Refusal(status, why, code="bad_http").to_dict())
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            head = h11.Response(status_code=status, headers=headers, reason=PHRASES[status])
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._limit(SEND_SECONDS)

    async def _run(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application; an answer that it gave up ends the connection at once."""
        cycle = self.cycle
        await self._inner(scope, receive, send)
        if cycle.response_started and not cycle.response_complete and not cycle.disconnected:
            cycle.disconnected = True
            self.transport.abort()

    def _limit(self, seconds: float | None) -> None:
        """Abort the connection after so many seconds, unless something happens; None: never."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self.transport.abort()
