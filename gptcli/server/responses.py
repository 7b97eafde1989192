"""How an answer goes out: as JSON, or as server-sent events; and what ends it early.

A client that goes away is noticed while its request waits, is read or writes, because the
connection is watched beside the work. A half-closed connection counts as gone: the client has said
that nothing more will come, and HTTP clients that wait for an answer do not close their half. A
client that reads too slowly is given up once too much waits for it; the others are not held up.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.types import Receive, Send

from gptcli.server.engine_thread import ClientJob, EngineThread
from gptcli.server.refusals import OVERLOADED, Refusal, refusal_of
from gptcli.server.request_note import NOTE

LOG = logging.getLogger("gptcli.server")
MAX_UNREAD = 4096  # items that may wait for a slow client
SEND_SECONDS = 30.0  # that a client may take for what is sent at a time
EVENT_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
}
Pieces = AsyncIterator[list[dict[str, Any]]]


class ClientGone(Exception):
    """Nobody waits for the answer."""


@asynccontextmanager
async def watched(
    engine: EngineThread, job: ClientJob, receive: Receive, seconds: float
) -> AsyncIterator[None]:
    """Cancel the job when its client goes, or its time is over, or the block ends early.

    Raises ClientGone. The time's end comes out of `job.items` as a Refusal, so that a stream that
    has begun says so.
    """
    task = asyncio.current_task()
    assert task is not None
    why = f"the time limit of a request, {seconds:g} s, is over"
    late = Refusal(504, why, OVERLOADED, code="timeout")
    timer = asyncio.get_running_loop().call_later(seconds, job.put, late)
    gone = asyncio.ensure_future(_disconnected(receive))
    gone.add_done_callback(lambda done: None if done.cancelled() else task.cancel())
    try:
        yield
    except asyncio.CancelledError:
        if not gone.done():
            raise  # the server ends
        task.uncancel()
        raise ClientGone from None
    finally:
        timer.cancel()
        engine.cancel(job)
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_json(
    send: Send, value: object, status: int = 200, headers: dict[str, str] | None = None
) -> None:
    """Send one JSON object."""
    await send_body(send, encoded(value), "application/json", status, headers)


async def send_body(
    send: Send, body: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None
) -> None:
    """Send a whole answer. `kind`: its content type."""
    given = {"content-type": kind, "content-length": str(len(body))}
    await send(_start(status, given | (headers or {})))
    await send({"type": "http.response.body", "body": body})


async def send_nothing(send: Send, headers: dict[str, str]) -> None:
    """Send headers alone."""
    await send(_start(204, headers))
    await send({"type": "http.response.body"})


def refused(error: Exception) -> Refusal:
    """The refusal for a failure; one of ours is in the log as well."""
    refusal = refusal_of(error)
    if refusal.status == 500 and refusal is not error:
        note = NOTE.get()
        LOG.error("request %s failed", note.id if note else "", exc_info=error)
    return refusal


async def send_refusal(send: Send, refusal: Refusal) -> None:
    """Send an error."""
    await send_json(send, refusal.to_dict(), refusal.status, refusal.headers)


async def send_events(send: Send, job: ClientJob, pieces: Pieces) -> None:
    """Send a stream of server-sent events, ended by [DONE].

    What fails before the first event is an ordinary error; afterwards it is an event. Raises
    ClientGone for a client that does not read.
    """
    begun = False
    try:
        async for few in pieces:
            if not begun:
                await send(_start(200, EVENT_STREAM))
                begun = True
            if job.waiting > MAX_UNREAD:
                raise ClientGone
            await _in_time(send, b"".join(event(piece) for piece in few))
    except Exception as error:
        if not begun or isinstance(error, ClientGone):
            raise
        await _in_time(send, event(refused(error).to_dict()))
    await _in_time(send, b"data: [DONE]\n\n", more=False)


async def _in_time(send: Send, data: bytes, more: bool = True) -> None:
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await send({"type": "http.response.body", "body": data, "more_body": more})
    except TimeoutError:
        raise ClientGone from None


def event(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + encoded(value) + b"\n\n"


def encoded(value: object) -> bytes:
    """JSON without spaces; null in place of NaN and infinity, which JSON lacks."""
    try:
        return _dumped(value)
    except ValueError:
        return _dumped(_finite(value))


def _dumped(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _start(status: int, headers: dict[str, str]) -> dict[str, Any]:
    pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}
