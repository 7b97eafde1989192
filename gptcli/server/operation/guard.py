"""What every request passes before its route: its id, the checks, the limit of its body, the log.

It is plain ASGI. Checks go from the cheapest to the one that a stranger could try keys with: the
name of the host, the page's origin, the key; then the size of the body, before it is read.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gptcli.server.operation.keys import Keys
from gptcli.server.operation.origins import Headers, Hosts, Origins
from gptcli.server.refusals import Refusal
from gptcli.server.request_note import NOTE, RequestNote
from gptcli.server.responses import refused, send_body, send_refusal
from gptcli.server.service import Service, new_id

OPEN_PATHS = {"/", "/health", "/ready", "/favicon.ico"}  # also without a key
OPEN_FOLDERS = ("/page/",)  # files of the page, which asks for the key itself
GIVEN_ID = re.compile(r"[\w.:-]{1,100}", re.ASCII)
LONGEST_PATH = 200
REST_SECONDS = 5.0  # for the rest of a body that was refused
GONE = 499  # what the log says of a client that left before its answer began
Write = Callable[[dict[str, object]], None]


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may ask, and how much."""

    keys: Keys = field(default_factory=Keys)
    hosts: Hosts = field(default_factory=Hosts)
    origins: Origins = field(default_factory=Origins)
    body_bytes: int = 8 * 10**6


class Guard:
    """The application behind its checks. `routes`: paths that are counted by their names."""

    def __init__(
        self, app: ASGIApp, service: Service, access: Access, routes: set[str], log: Write | None
    ) -> None:
        self._app, self._service, self._access = app, service, access
        self._routes, self._log = routes, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))  # the first of two counts
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        note = RequestNote(given if GIVEN_ID.fullmatch(given) else new_id("req"))
        body = _LimitedBody(receive, self._access.body_bytes)
        own = {"X-Request-Id": note.id} | self._access.origins.headers(headers.get(b"origin"))
        answer = _Answer(send, own, body)
        NOTE.set(note)
        self._service.active += 1
        begun = monotonic()
        try:
            await self._answer(scope, headers, body, answer)
        finally:
            self._service.active -= 1
            self._count(scope, note, answer, monotonic() - begun)

    async def _answer(
        self, scope: Scope, headers: Headers, body: _LimitedBody, answer: _Answer
    ) -> None:
        try:
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await self._preflight(headers, answer)
                return
            self._check(scope, headers)
            await self._app(scope, body.receive, answer.send)
        except Exception as error:
            if answer.status is not None:
                raise
            await send_refusal(answer.send, refused(error))

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raise Refusal for what may not come in."""
        access, host = self._access, headers.get(b"host")
        if not access.hosts.allow(host):
            raise access.hosts.refusal(host)
        if not access.origins.allow(scope["method"], headers):
            raise access.origins.refusal(headers)
        is_open = scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_FOLDERS)
        if not is_open and not access.keys.allow(headers.get(b"authorization")):
            raise _no_key(b"authorization" in headers)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > access.body_bytes:
            raise too_large(access.body_bytes)

    async def _preflight(self, headers: Headers, answer: _Answer) -> None:
        access = self._access
        if not access.hosts.allow(headers.get(b"host")):
            raise access.hosts.refusal(headers.get(b"host"))
        allowed = access.origins.preflight(headers)
        if allowed is None:
            raise access.origins.refusal(headers)
        answer.own = {}  # they are among these
        await send_body(answer.send, b"", "text/plain", 204, allowed)

    def _count(self, scope: Scope, note: RequestNote, answer: _Answer, seconds: float) -> None:
        status = GONE if answer.status is None else answer.status
        path, method = scope["path"], scope["method"]
        route = path if path in self._routes else "other"
        known = method if method in ("GET", "POST", "HEAD", "OPTIONS") else "other"
        self._service.metrics.answers.add(route=route, method=known, status=str(status))
        if self._log is None:
            return
        client = scope.get("client")
        self._log(
            {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "id": note.id,
                "client": client[0] if client else None,
                "method": method,
                "path": path[:LONGEST_PATH],
                "status": status,
                "complete": answer.complete,
                "bytes": answer.bytes,
                "prompt_tokens": note.prompt_tokens,
                "completion_tokens": note.completion_tokens,
                "seconds": round(seconds, 4),
            }
        )


class _LimitedBody:
    """Receives a body that must not be longer than its limit, however it is sent."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most, self._size = receive, most, 0
        self._ended = self._refused = False

    async def receive(self) -> Any:
        """The next message of ASGI. Raises Refusal, once."""
        message = await self._receive()
        self._ended = not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        if self._size > self._most and not self._refused:
            self._refused = True
            raise too_large(self._most)
        return message

    async def skip(self) -> None:
        """Receive what is still to come, for some seconds."""
        self._refused = True
        with suppress(TimeoutError):
            async with asyncio.timeout(REST_SECONDS):
                while not self._ended:
                    await self.receive()


class _Answer:
    """Sends an answer with the headers of every answer, and notes what went out.

    After an error the client may finish its body before the connection is closed: one that is
    still sending would find the connection reset, and never see the error.
    """

    def __init__(self, send: Send, own: dict[str, str], body: _LimitedBody) -> None:
        self._send, self.own, self._body = send, own, body
        self.status: int | None = None
        self.bytes = 0
        self.complete = False

    async def send(self, message: Message) -> None:
        """Send a message of ASGI."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [(name.encode(), value.encode()) for name, value in self.own.items()]
            await self._send({**message, "headers": [*message["headers"], *own]})
            return
        ends = not message.get("more_body", False)
        if ends and (self.status or 0) >= 400 and self.status != 408:
            await self._send({**message, "more_body": True})
            await self._body.skip()
            await self._send({"type": "http.response.body", "body": b""})
        else:
            await self._send(message)
        self.bytes += len(message.get("body", b""))
        self.complete = ends


def too_large(most: int) -> Refusal:
    """The refusal of a body that is too long."""
    return Refusal(413, f"the body is larger than {most} bytes", code="body_too_large")


def _no_key(given: bool) -> Refusal:
    why = "the API key is not one of this server's" if given else "an API key is needed"
    why += "; send it as Authorization: Bearer KEY"
    headers = {"WWW-Authenticate": 'Bearer realm="gptcli"'}
    return Refusal(401, why, code="invalid_api_key", headers=headers)
