"""The connection to an OpenAI-compatible server: address, key, HTTP client.

A `Client` is an event loop in a thread of its own with the openai package's HTTP client on it. So
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
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from threading import Thread
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import openai

from gptcli.engines.remote.bounds import ACCEPTED, BoundedClient, limits_of, limits_of_list, metered
from gptcli.errors import Unavailable, UsageError

T = TypeVar("T")
KEYS = "GPTCLI_API_KEY", "OPENAI_API_KEY"
NO_KEY = "none"  # the openai package wants a key; servers without keys ignore it
CLOSE_SECONDS = 2.0
MAX_NAME_CHARACTERS = 512  # of a model
MAX_CONTEXT = 10**9  # tokens


@dataclass(frozen=True)
class Endpoint:
    """Where the server is, and the key that it may want."""

    url: str
    key: str = field(repr=False)

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
    return Endpoint(url, NO_KEY)


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
        self.client, self.patience = _client(to, patience, connections), patience
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
        await self.client.close()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def call(self, work: Callable[[], None]) -> None:
        """Run `work` on the loop, soon; it must not wait. After the end nothing happens."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(work)

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop and wait for what comes out."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _client(to: Endpoint, patience: Patience, connections: int) -> openai.AsyncOpenAI:
    timeout = openai.Timeout(None, connect=patience.connect)  # `bounds` has all others
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    plain = to.is_local and to.url.startswith("http:")
    try:
        http = BoundedClient(
            timeout=timeout,
            headers={"Accept-Encoding": ACCEPTED},
            limits=limits,
            trust_env=not to.is_local,
            follow_redirects=False,
            # Reading the certificates takes 40 ms; without any, TLS would be refused.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True,
        )
    except (ValueError, ImportError, httpx2.InvalidURL) as error:
        hint = "Check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or unset them"
        raise Unavailable("proxy of the environment", str(error).rstrip("."), hint) from error
    return openai.AsyncOpenAI(
        api_key=to.key, base_url=to.url, timeout=timeout, max_retries=0, http_client=http
    )


class _Messages(openai.AsyncStream[object]):
    """A stream without the events that hold no data: pings, retry times, ids.

    The openai package would read their empty data as JSON, and fail.
    """

    async def _iter_events(self) -> AsyncIterator[Any]:
        async for event in super()._iter_events():
            if event.data.strip():
                yield event


async def answers(client: Client, body: dict[str, object]) -> AsyncGenerator[object, None]:
    """Post a completion request; gives the messages of the stream, or the one answer, as JSON.

    An object of a stream that has no choices (a ping, counts alone) gets an empty list of them.
    Servers that do not stream answer with one whole. What comes behind the end of the last text is
    read for a moment only. Raises one of `failures.FAILURES`.
    """
    patience = client.patience
    limits = limits_of(body, patience.read, patience.silence, patience.behind)
    with metered(limits) as meter:
        stream = await client.client.post(
            "/completions", cast_to=object, body=body, stream=True, stream_cls=_Messages
        )
    async with stream:
        kind = stream.response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            whole = json.loads(await stream.response.aread())
            meter.take(whole)
            yield whole
        elif kind == "text/event-stream":
            async for message in stream:
                if not meter.take(message):
                    return
                if isinstance(message, dict) and message.get("choices") is None:
                    message = {**message, "choices": []}
                yield message
        else:
            raise ValueError(f"{kind or 'no content type'} instead of JSON")


async def models(client: Client) -> dict[str, int | None]:
    """The models that the server lists, with their contexts in tokens where it says so (vLLM).

    Raises one of `failures.FAILURES`.
    """
    with metered(limits_of_list(client.patience.read, client.patience.behind)):
        answer = await client.client.get("/models", cast_to=object)
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
