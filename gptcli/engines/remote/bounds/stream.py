"""Sends a request so that its answer passes through a meter: texts, lists, errors.

gzip and deflate alone are asked for, which unfold piece by piece; a window of zstd alone can take
128 MB.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio
import httpx2

from gptcli.engines.remote.bounds.meter import BoundPassed, Meter

ACCEPTED = "gzip, deflate"
REFUSED = {"br", "zstd", "compress"}


async def bounded(
    client: httpx2.AsyncClient, request: httpx2.Request, meter: Meter
) -> httpx2.Response:
    """The answer, not read yet. Raises AnswerStalled where its headers do not come, and HTTPError.

    Reading it raises BoundPassed, AnswerStalled and HTTPError.
    """
    try:
        async with asyncio.timeout_at(meter.deadline()):
            with _told_as_http():
                response = await client.send(request, stream=True)
    except TimeoutError:
        raise meter.lateness() from None
    try:
        return _bounded(response, meter)
    except BaseException:
        await response.aclose()
        raise


@contextmanager
def _told_as_http() -> Iterator[None]:
    """Errors of TLS that httpx2 2.16 lets through as they are, as a broken connection."""
    try:
        yield
    except (ssl.SSLError, anyio.EndOfStream) as error:
        raise httpx2.ReadError(str(error)) from error


def _bounded(response: httpx2.Response, meter: Meter) -> httpx2.Response:
    """The same answer, decompressed, read through the meter."""
    meter.answered(response.status_code)
    headers = response.headers.copy()
    codings = [word.strip().lower() for word in headers.get("content-encoding", "").split(",")]
    known = [word for word in codings if word in REFUSED or word in ACCEPTED.split(", ")]
    if len(known) > 1 or REFUSED & set(known):
        raise BoundPassed(f"it is compressed by {', '.join(known)[:60]}, which was not asked for")
    packed = httpx2.Response(
        response.status_code,
        headers=headers,
        stream=_Received(response, meter),
        request=response.request,
    )
    for name in ("content-encoding", "content-length"):
        headers.pop(name, None)
    return httpx2.Response(
        response.status_code,
        headers=headers,
        stream=_Unfolded(packed, meter),
        request=response.request,
        extensions=response.extensions,
    )


class _Received(httpx2.AsyncByteStream):
    """Bytes as they come, each part in time."""

    def __init__(self, response: httpx2.Response, meter: Meter) -> None:
        self._response, self._meter = response, meter

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = aiter(self._response.aiter_raw())
        while True:
            try:
                async with asyncio.timeout_at(self._meter.deadline()):
                    with _told_as_http():
                        part = await anext(parts)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if self._meter.ended:
                    return
                raise self._meter.lateness() from None
            if not self._meter.receive(len(part)):
                return
            yield part

    async def aclose(self) -> None:
        await self._response.aclose()


class _Unfolded(httpx2.AsyncByteStream):
    """Bytes after decompression."""

    def __init__(self, packed: httpx2.Response, meter: Meter) -> None:
        kind = packed.headers.get("content-type", "").lower()
        self._packed, self._meter = packed, meter
        self._stream = kind.startswith("text/event-stream")
        self._parts = packed.aiter_bytes()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._parts:
            if not self._meter.unfold(part, self._stream):
                return
            yield part

    async def aclose(self) -> None:
        await self._parts.aclose()
        await self._packed.aclose()
