"""The server while it runs: uvicorn around the application, and how it ends.

The first signal drains: /ready says so, new requests are refused, those that were taken have
`--drain-timeout` seconds, then they are cut with an error. A second signal ends at once. Who calls
`run` ends the process by the signal, as every command does.
"""

from __future__ import annotations

import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from gptcli.server.operation.http_connection import MAX_HEAD_BYTES, Connection
from gptcli.server.service import Service, stopping

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
           if hasattr(signal, name)]  # fmt: skip
CUT_SECONDS = 1.0  # for answers that were cut to say so
KEEP_ALIVE_SECONDS = 65  # longer than clients and proxies keep connections, usually
OPEN_FILES = 65_536  # that the server asks the system for


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How the server ends: seconds for what runs, and what a second signal does."""

    drain_seconds: float
    at_once: Callable[[int], object]


class Server(uvicorn.Server):
    """uvicorn's server, with an end of its own."""

    def __init__(
        self, config: uvicorn.Config, service: Service, ending: Ending, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._service, self._ending, self._ready = service, ending, ready
        self._until = 0.0
        self._cut = False
        self.signal: int | None = None  # that ends it

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals that end it; one that is ignored (nohup) stays ignored."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number, action in before.items():
            if action != signal.SIG_IGN:
                signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number, action in before.items():
                signal.signal(number, action)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: drain, or end."""
        if self.signal is not None:
            self._ending.at_once(sig)
        self.signal = sig
        self._until = monotonic() + self._ending.drain_seconds
        self._service.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Every tenth of a second: whether to end now."""
        if self.signal is not None and self._drained():
            self.should_exit = True
        return await super().on_tick(counter)

    def _drained(self) -> bool:
        late = monotonic() - self._until
        if not self._service.active or late > CUT_SECONDS:
            # What is written already, slow clients may read for the rest of the time.
            self.config.timeout_graceful_shutdown = max(1, round(-late))
            return True
        if late >= 0 and not self._cut:
            self._cut = True
            self._service.engine.end_all(stopping())
        return False


def run(
    app: ASGIApp,
    service: Service,
    listening: socket.socket,
    ending: Ending,
    ready: Callable[[], None],
    tls: ssl.SSLContext | None = None,
) -> int | None:
    """Serve until a signal comes, and return it. `ready` is called once requests are answered."""
    _raise_open_files()
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what strangers send is no news
    config = uvicorn.Config(
        app,
        http=Connection,
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        ssl_context_factory=None if tls is None else lambda config, default: tls,
    )
    server = Server(config, service, ending, ready)
    server.run(sockets=[listening])
    return server.signal


def _raise_open_files() -> None:
    """Each client is an open file; many systems begin with 1024."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
