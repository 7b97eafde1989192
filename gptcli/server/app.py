"""The routes, as one ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gptcli.server.body import parsed
from gptcli.server.engine_thread import ClientJob
from gptcli.server.openai.chat import ChatAnswer, read_chat
from gptcli.server.openai.completion_answers import CompletionAnswer
from gptcli.server.openai.completions import CompletionCall, job_for, read_call
from gptcli.server.page.files import page_files
from gptcli.server.refusals import Refusal, refusal_of
from gptcli.server.responses import ClientGone, send_events, send_json, send_refusal, watched
from gptcli.server.service import Service

LOG = logging.getLogger("gptcli.server")
Handler = Callable[[Service, Scope, Receive, Send], Awaitable[None]]
CLOSE_SECONDS = 5.0  # for the engine's last step
MAX_BODY_BYTES = 16 * 2**20
LARGE_BODY_BYTES = 2**14  # some milliseconds of work
T = TypeVar("T")


async def completions(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    """POST /v1/completions."""
    data = await read_body(receive)
    call, job = await beside(data, lambda: _completion(data, service))
    service.submit(job)
    answer = CompletionAnswer(call, service)
    async with watched(service.engine, job, receive, service.limits.seconds):
        if call.stream:
            await send_events(send, job, answer.pieces(job))
        else:
            await send_json(send, await answer.whole(job))


def _completion(data: bytes, service: Service) -> tuple[CompletionCall, ClientJob]:
    call = read_call(parsed(data), service)
    return call, job_for(call, service)


async def chat(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    """POST /v1/chat/completions."""
    call = read_chat(parsed(await read_body(receive)), service)
    job = service.submit(job_for(call.completion, service))
    answer = ChatAnswer(call, service)
    async with watched(service.engine, job, receive, service.limits.seconds):
        if call.completion.stream:
            await send_events(send, job, answer.pieces(job))
        else:
            await send_json(send, await answer.whole(job))


async def models(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    """GET /v1/models."""
    await send_json(send, {"object": "list", "data": [card(service)]})


def card(service: Service) -> dict[str, Any]:
    """The model as the list has it."""
    info = service.info
    return {
        "id": service.name,
        "object": "model",
        "created": service.created,
        "owned_by": "gptcli",
        "max_model_len": info.context,
        "meta": {
            "n_vocab": info.vocabulary,
            "n_ctx_train": info.context,
            "n_params": info.parameters,
            "dtype": info.dtype,
            "revision": info.revision,
        },
    }


ROUTES: dict[tuple[str, str], Handler] = {
    ("POST", "/v1/completions"): completions,
    ("POST", "/v1/chat/completions"): chat,
    ("GET", "/v1/models"): models,
    **{("GET", path): file for path, file in page_files().items()},
}


class RouteEndpoint:
    """One route's function as an ASGI application; what fails is an error in OpenAI's shape."""

    def __init__(self, service: Service, handle: Handler) -> None:
        self._service, self._handle = service, handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await self._handle(self._service, scope, receive, send)
        except ClientGone:
            return
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.status == 500:
                LOG.exception("a request failed")
            await send_refusal(send, refusal)


def application(service: Service) -> ASGIApp:
    """The application of one service; its lifespan is the engine's."""
    router = Router(
        [
            Route(path, RouteEndpoint(service, handle), methods=[method])
            for (method, path), handle in ROUTES.items()
        ],
        default=_nowhere,
        lifespan=partial(_lifespan, service),
        redirect_slashes=False,
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app  # so that the router raises what it refuses
        try:
            await router(scope, receive, send)
        except HTTPException as error:  # of the router: a wrong method
            await send_refusal(send, _routing_error(scope, error))

    return app


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    path = str(scope["path"])
    listed = ", ".join(sorted({at for _, at in ROUTES}))
    refusal = Refusal(404, f"there is no {path[:200]}; there are {listed}", code="not_found")
    await send_refusal(send, refusal)


def _routing_error(scope: Scope, error: HTTPException) -> Refusal:
    allowed = dict(error.headers or {})
    why = f"{scope['path']} takes {allowed.get('Allow', '')}, not {scope['method']}"
    return Refusal(error.status_code, why, code="method_not_allowed", headers=allowed)


@asynccontextmanager
async def _lifespan(service: Service, app: object) -> AsyncIterator[None]:
    service.engine.start()
    yield
    service.draining = True
    service.engine.close(CLOSE_SECONDS)


async def beside(data: bytes, work: Callable[[], T]) -> T:
    """The work on a body; on a large one in a thread, so that the event loop goes on meanwhile."""
    return await asyncio.to_thread(work) if len(data) > LARGE_BODY_BYTES else work()


async def read_body(receive: Receive, most: int = MAX_BODY_BYTES) -> bytes:
    """The body. Raises Refusal above a size, before it is parsed."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise Refusal(413, f"the body is larger than {most} bytes", code="body_too_large")
        if not message.get("more_body"):
            return b"".join(parts)
