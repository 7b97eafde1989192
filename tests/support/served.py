"""`gptcli serve` for tests: a real process, and the same application inside this one.

The process is for clients and for load; the application is for everything that HTTP does not
change, because it answers in a millisecond.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

from support.commands import REAL, start

TOLD = re.compile(rb"is served at (http://[^\s/]+)")


class ServedProcess:
    """A running server; `host` is such as http://127.0.0.1:41234, `url` its /v1."""

    def __init__(self, host: str) -> None:
        self.host, self.url = host, f"{host}/v1"
        self._address = host.removeprefix("http://")

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own: status, headers by lower-case name, body."""
        connection = HTTPConnection(self._address, timeout=60)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, response.read()
        finally:
            connection.close()

    def post(self, path: str, **fields: Any) -> dict[str, Any]:
        """The answer to a JSON body; it must succeed."""
        status, _, data = self.request("POST", path, json.dumps(fields).encode())
        assert status == 200, data
        return json.loads(data)

    def complete(self, **fields: Any) -> dict[str, Any]:
        """The answer of /v1/completions."""
        return self.post("/v1/completions", **fields)

    def stream(self, **fields: Any) -> list[dict[str, Any]]:
        """The events of /v1/completions, which must end by [DONE]."""
        fields["stream"] = True
        status, _, data = self.request("POST", "/v1/completions", json.dumps(fields).encode())
        assert status == 200, data
        return events_of(data)


@contextmanager
def serving(*args: str, model: str | Path = "tiny-tales") -> Iterator[ServedProcess]:
    """A server on a free port of this machine."""
    process = start(REAL, "serve", "-m", str(model), "--offline", "--port", "0", *args)
    with process:  # closes the pipes
        assert process.stderr is not None
        said, told = b"", None
        try:
            while not (told := TOLD.search(said)):
                line = process.stderr.readline()
                assert line, said
                said += line
            reader = Thread(target=process.stderr.read, daemon=True)  # so that no pipe gets full
            reader.start()
            yield ServedProcess(told[1].decode())
        finally:
            process.terminate()
            process.wait(30)
            if told is not None:
                reader.join(30)


def events_of(data: bytes) -> list[dict[str, Any]]:
    """The objects of a stream."""
    parts = data.decode().split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""], parts[-2:]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


class InProcess:
    """The application over an engine, on an event loop in a thread of its own."""

    def __init__(self, engine: Any, **limits: Any) -> None:
        from gptcli.server.app import application, guarded
        from gptcli.server.operation.guard import Access
        from gptcli.server.service import Service, ServiceLimits

        self.service = Service.of(engine, ServiceLimits(**limits))
        self._app = guarded(application(self.service), self.service, Access())
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run, daemon=True)
        self._ready, self._over = Event(), asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    def _run(self) -> None:
        self._loop.run_until_complete(self._lifespan())
        self._loop.close()

    async def _lifespan(self) -> None:
        begun = False

        async def receive() -> dict[str, str]:
            nonlocal begun
            if begun:
                await self._over.wait()
                return {"type": "lifespan.shutdown"}
            begun = True
            return {"type": "lifespan.startup"}

        async def send(message: dict[str, Any]) -> None:
            assert message["type"].endswith(".complete"), message
            self._ready.set()

        await self._app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)

    def send(
        self, body: bytes | Sequence[bytes], path: str = "/v1/completions", method: str = "POST"
    ) -> tuple[int, dict[str, str], bytes]:
        """One request with a body in one part or several: status, headers, body."""
        parts = [body] if isinstance(body, bytes) else list(body)
        return asyncio.run_coroutine_threadsafe(
            self._answer(parts, path, method), self._loop
        ).result(120)

    async def _answer(
        self, parts: list[bytes], path: str, method: str
    ) -> tuple[int, dict[str, str], bytes]:
        sent: list[dict[str, Any]] = []
        left = [
            {"type": "http.request", "body": part, "more_body": place < len(parts) - 1}
            for place, part in enumerate(parts)
        ]

        async def receive() -> dict[str, Any]:
            if left:
                return left.pop(0)
            await asyncio.sleep(3600)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await self._app(scope, receive, send)
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:])

    def complete(self, **fields: Any) -> dict[str, Any]:
        """The answer of /v1/completions; it must succeed."""
        status, _, data = self.send(json.dumps(fields).encode())
        assert status == 200, data
        return json.loads(data)

    def stream(self, **fields: Any) -> list[dict[str, Any]]:
        """The events of /v1/completions, which must end by [DONE]."""
        status, _, data = self.send(json.dumps({**fields, "stream": True}).encode())
        assert status == 200, data
        return events_of(data)

    def refused(self, body: bytes | Sequence[bytes], **where: str) -> dict[str, Any]:
        """The error of a request that must be refused, with its `status`."""
        status, _, data = self.send(body, **where)
        assert 400 <= status < 500, (status, data)
        error = json.loads(data)["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        return {**error, "status": status}
