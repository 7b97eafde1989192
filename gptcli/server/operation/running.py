"""The server while it runs: uvicorn around the application, and how it ends.

The first signal drains: no request is taken any more, those that are written have `--drain-timeout`
seconds. A second signal ends at once. Then the process dies of the signal, as every command does.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from gptcli.server.app import application
from gptcli.server.options import Serve
from gptcli.server.service import Service


class Server(uvicorn.Server):
    """uvicorn's server, whose second signal of any kind ends it at once."""

    def __init__(self, config: uvicorn.Config, service: Service, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._ready = service, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: drain, or end."""
        self._service.draining = True
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)


def run(
    service: Service, listening: socket.socket, options: Serve, ready: Callable[[], None]
) -> None:
    """Serve until a signal comes. `ready` is called once requests are answered."""
    config = uvicorn.Config(
        application(service),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=max(1, round(options.drain_timeout)),
    )
    Server(config, service, ready).run(sockets=[listening])
