"""The connection to an OpenAI-compatible server: address, key, HTTP client.

A `Client` is an event loop in a thread of its own with an HTTP client on it. So
many requests are in flight at once, a cancelled one closes its connection at once, and callers stay
ordinary functions, also inside a notebook's event loop. A proxy of the environment is used, but
never for this machine itself. Redirects are not followed, so that prompt and key go nowhere else.
Not here: retries are in `retry`, what an answer may be in `bounds`, what it means in `schema`.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from threading import Thread
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2
from httpx2 import Response

from gptcli import __version__
from gptcli.engines.remote.bounds import (
    ACCEPTED,
    BoundPassed,
    Meter,
    bounded,
    limits_of,
    limits_of_list,
)
from gptcli.engines.remote.wire import EventReader, StreamedError, status_error
from gptcli.errors import Unavailable, UsageError

T = TypeVar("T")
KEYS = "GPTCLI_API_KEY", "OPENAI_API_KEY"
HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": ACCEPTED,
    "User-Agent": f"gptcli/{__version__}",
}
CLOSE_SECONDS = 2.0
REST_SECONDS = 0.1  # behind [DONE]
MAX_NAME_CHARACTERS = 512  # of a model
MAX_CONTEXT = 10**9  # tokens


@dataclass(frozen=True)
class Endpoint:
    """Where the server is, and the key that it may want; empty where none is set."""

    url: str
    key: str = field(default="", repr=False)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        host = urlsplit(self.url).hostname or ""
        with suppress(ValueError):
            address = ip_address(host)
            return address.is_loopback or address.is_unspecified
        return host == "localhost" or host.endswith(".localhost")


def endpoint(url: str) -> Endpoint:
    """The endpoint, with a key of the environment. Raises UsageError for a key that cannot be."""
    for name in KEYS:
        key = os.environ.get(name, "").strip()
        if key and not (key.isascii() and key.isprintable()):
            raise UsageError(name, "a key has no such characters", "Copy it again.")
        if key:
            return Endpoint(url, key)
    return Endpoint(url)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Bounds on waits, in seconds, and on the number of tries.

    Servers that queue requests, load a model first or read a long prompt begin late, so `read` is
    long. A dead connection is told earlier, by `silence`, but only once the text has begun.
    """

    tries: int = 5
    connect: float = 5.0
    read: float = 600.0  # without progress: until the answer begins, and between its tokens
    silence: float = 120.0  # without a byte, once the text has begun
    behind: float = 5.0  # after the text has ended, for the counts of its tokens
    total: float = 900.0  # of failed tries and pauses together; after it no new try is begun
    first: float = 0.5  # the pause before the second try; doubled each time
    longest_doubled: float = 30.0
    longest: float = 300.0  # the longest pause, also where the server asks for more


READ_TO_SILENCE = 5


def patience_of(read: float | None) -> Patience:
    """The patience of `--server-timeout`, which may be left out."""
    return Patience() if read is None else Patience(read=read, silence=read / READ_TO_SILENCE)


AT_START = Patience(tries=3, connect=3.0, read=10.0, total=4.0)
NOT_NEEDED = Patience(tries=1, connect=3.0, read=3.0)  # of a list that can be done without


class Client:
    """A client on an event loop that runs in a thread; a context manager.

    At its end, everything still under way is cancelled and every connection closed. Raises
    Unavailable where the environment names a proxy that cannot be used.
    """

    def __init__(self, to: Endpoint, patience: Patience, connections: int = 1) -> None:
        self.http, self.patience = _client(to, patience, connections), patience
        self.base = to.url.rstrip("/")
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="server", daemon=True)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.http.aclose()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def call(self, work: Callable[[], None]) -> None:
        """Run `work` on the loop, soon; it must not wait. After the end nothing happens."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(work)

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop and wait for what comes out."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _client(to: Endpoint, patience: Patience, connections: int) -> httpx2.AsyncClient:
    key = {"Authorization": f"Bearer {to.key}"} if to.key else {}
    trusted = _trusted(to)
    try:
        return httpx2.AsyncClient(
            timeout=httpx2.Timeout(None, connect=patience.connect),  # `bounds` has all others
            headers={**HEADERS, **key},
            limits=httpx2.Limits(
                max_connections=connections, max_keepalive_connections=connections
            ),
            trust_env=not to.is_local,
            follow_redirects=False,
            verify=trusted,
        )
    except (ValueError, ImportError, httpx2.InvalidURL) as error:
        hint = "Check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or unset them"
        raise Unavailable("proxy of the environment", str(error).rstrip("."), hint) from error


def _trusted(to: Endpoint) -> ssl.SSLContext:
    """The certificates to trust: those of the environment, else the system's.

    Reading them takes 40 ms, so none are where no TLS is on the way, to the server or to a proxy.
    """
    if to.url.startswith("http:") and (to.is_local or not getproxies()):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        why = str(why or error).replace("_", " ").lower()
        hint = "Check SSL_CERT_FILE and SSL_CERT_DIR, or unset them"
        raise Unavailable("certificates to trust", why, hint) from error


async def _asked(client: Client, method: str, path: str, meter: Meter, **body: object) -> Response:
    """The answer to a request, if it is one, not read yet. Raises as `bounded`, and StatusError."""
    request = client.http.build_request(method, client.base + path, **body)  # type: ignore[arg-type]
    response = await bounded(client.http, request, meter)
    if response.is_success:
        return response
    async with aclosing(response):
        raise status_error(response.status_code, response.headers, await response.aread())


async def answers(client: Client, body: dict[str, object]) -> AsyncGenerator[object, None]:
    """Post a completion request; gives the messages of the stream, or the one answer, as JSON.

    An object of a stream that has no choices (a ping, counts alone) gets an empty list of them.
    Servers that do not stream answer with one whole. What comes behind the end of the last text is
    read for a moment only. Raises one of `failures.FAILURES`.
    """
    patience = client.patience
    meter = Meter(limits_of(body, patience.read, patience.silence, patience.behind))
    response = await _asked(client, "POST", "/completions", meter, json=body)
    async with aclosing(response):
        kind = _kind(response)
        if kind == "application/json":
            whole = json.loads(await response.aread())
            meter.take(whole)
            yield whole
        elif kind == "text/event-stream":
            async for message in _messages(response):
                if not meter.take(message):
                    return
                yield message
        else:
            raise ValueError(f"{kind or 'no content type'} instead of JSON")


async def _messages(response: Response) -> AsyncIterator[object]:
    """The messages of a stream up to [DONE]. Raises StreamedError for one that is an error."""
    reader, parts = EventReader(), response.aiter_bytes()
    async for part in parts:
        for data in reader.feed(part):
            if data.startswith("[DONE]"):
                await _read_rest(parts)
                return
            message = json.loads(data)
            if isinstance(message, dict):
                if message.get("error"):
                    raise StreamedError(message["error"])
                if message.get("choices") is None:
                    message["choices"] = []
            yield message


async def _read_rest(parts: AsyncIterator[bytes]) -> None:
    """Read what stands behind [DONE], so that the connection can be used again."""
    with suppress(httpx2.HTTPError, BoundPassed, TimeoutError):
        async with asyncio.timeout(REST_SECONDS):
            async for _ in parts:
                await asyncio.sleep(0)  # so that time is seen to pass


async def models(client: Client) -> dict[str, int | None]:
    """The models that the server lists, with their contexts in tokens where it says so (vLLM).

    Raises one of `failures.FAILURES`.
    """
    meter = Meter(limits_of_list(client.patience.read, client.patience.behind))
    response = await _asked(client, "GET", "/models", meter)
    async with aclosing(response):
        data = await response.aread()
    answer = json.loads(data) if _kind(response).endswith("json") else None
    listed = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise ValueError("a list of models without data")
    found: dict[str, int | None] = {}
    for item in listed:
        name = item.get("id") if isinstance(item, dict) else None
        if isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARACTERS:
            length = item.get("max_model_len")
            known = type(length) is int and 0 < length <= MAX_CONTEXT
            found[name] = length if known else None
    return found


def _kind(response: Response) -> str:
    """The content type, without its parameters."""
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()
