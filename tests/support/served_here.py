"""`gptcli serve`'s application on a port of this machine, in a thread of the test."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread

import uvicorn

from gptcli.protocol import Engine
from gptcli.server.app import application
from gptcli.server.service import Service, ServiceLimits

Application = Callable[..., object]


@dataclass
class Slowly:
    """An engine that pauses before each event."""

    engine: Engine
    pause: float = 0.0

    def __getattr__(self, name: str):
        return getattr(self.engine, name)

    def run(self, requests):
        """The engine's events, one by one."""
        for event in self.engine.run(requests):
            time.sleep(self.pause)
            yield event


@contextmanager
def served_here(
    engine: Engine, around: Callable[[Application], Application] = lambda app: app
) -> Iterator[tuple[str, Service]]:
    """The address and the service. `around`: middleware."""
    service = Service.of(engine, ServiceLimits())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            around(application(service)),
            log_config=None,
            lifespan="on",
            ws="none",
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", service
        finally:
            server.should_exit = True
            thread.join(20)
