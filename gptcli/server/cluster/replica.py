"""A replica: an engine of its own, behind the same checks and routes as in one process.

Ray Serve's entrance passes on each request as ASGI, and pieces of a stream as they come. It ends a
replica whose `check_health` fails, and starts another. Not here: the program's side is in
`gptcli.server.cluster.serving`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gptcli.options import Load
from gptcli.ray_cluster import check_version
from gptcli.server.app import application, guarded
from gptcli.server.operation.guard import Access
from gptcli.server.service import Service, ServiceLimits

REPLICA = b"x-gptcli-replica"
RAYS_OWN = b"x-request-id"  # which Ray adds to every answer, too


@dataclass(frozen=True, kw_only=True)
class ReplicaOrders:
    """What each replica serves, and to whom."""

    load: Load
    called: str | None  # the model's name
    batch_size: int
    limits: ServiceLimits
    access: Access
    tokenizer_info: bool
    version: str


class Doorway:
    """The ASGI application that Ray gets: that of the replica in the process where it is called.

    Ray wants it before there is a replica, and copies it to every node.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        await _opened[-1](scope, receive, send)


_opened: list[ASGIApp] = []  # the application of this process


class Replica:
    """What Ray starts: `serve.ingress` adds the doorway to it."""

    def __init__(self, orders: ReplicaOrders, name: Callable[[], str]) -> None:
        """Open the engine. Raises Unavailable for another version, and as `open_engine`."""
        from gptcli.engines import open_engine

        check_version(orders.version)
        engine = open_engine(orders.load, orders.batch_size)
        self._service = Service.of(engine, orders.limits)
        self._service.called = orders.called
        self._service.tokenizer_info = orders.tokenizer_info
        app = guarded(application(self._service), self._service, orders.access)
        _opened.append(_named(app, name().encode()))

    async def check_health(self) -> None:
        """Ray asks from time to time. Raises RuntimeError where nothing can be answered."""
        if self._service.trouble is not None:
            raise RuntimeError(f"the engine has {self._service.trouble}")


def _named(app: ASGIApp, name: bytes) -> ASGIApp:
    """The application, whose answers say which replica gave them."""

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [one for one in message["headers"] if one[0].lower() != RAYS_OWN]
                message = {**message, "headers": [*kept, (REPLICA, name)]}
            await send(message)

        await app(scope, receive, say)

    return named
