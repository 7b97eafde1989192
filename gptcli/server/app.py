"""The routes, as one ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial, wraps
from typing import Any, TypeVar

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gptcli.server.body import parsed
from gptcli.server.engine_thread import ClientJob
from gptcli.server.openai.chat import ChatAnswer, ChatCall, chat_job, read_chat
from gptcli.server.openai.completion_answers import CompletionAnswer
from gptcli.server.openai.completions import CompletionCall, job_for, read_call
from gptcli.server.openapi.document import document
from gptcli.server.operation.guard import Access, Guard, Write
from gptcli.server.operation.status import health, metrics, ready, version
from gptcli.server.own import routes as own
from gptcli.server.page.files import page_files
from gptcli.server.paths import listed, meant_path
from gptcli.server.refusals import Refusal
from gptcli.server.responses import (
    ClientGone,
    refused,
    send_events,
    send_json,
    send_nothing,
    send_refusal,
    watched,
)
from gptcli.server.service import Service

Handler = Callable[[Service, Scope, Receive, Send], Awaitable[None]]
CLOSE_SECONDS = 2.0  # for the engine's last step
BODY_SECONDS = 30.0  # between two pieces of a body
WHOLE_BODY_SECONDS = 600.0
LARGE_BODY_BYTES = 2**14  # some milliseconds of work
T = TypeVar("T")


async def completions(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    """POST /v1/completions."""
    data = await read_body(receive)
    call, job = await beside(data, lambda: _completion(data, service))
    answer = CompletionAnswer(call, service)
    await _answered(service, job, answer, receive, send, stream=call.stream)


def _completion(data: bytes, service: Service) -> tuple[CompletionCall, ClientJob]:
    call = read_call(parsed(data), service)
    return call, job_for(call, service)


async def chat(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    """POST /v1/chat/completions."""
    data = await read_body(receive)
    call, job = await asyncio.to_thread(_conversation, data, service)  # a template may take a while
    answer = ChatAnswer(call, service)
    await _answered(service, job, answer, receive, send, stream=call.completion.stream)


def _conversation(data: bytes, service: Service) -> tuple[ChatCall, ClientJob]:
    call = read_chat(parsed(data), service)
    return call, chat_job(call, service)


async def _answered(
    service: Service,
    job: ClientJob,
    answer: CompletionAnswer | ChatAnswer,
    receive: Receive,
    send: Send,
    *,
    stream: bool,
) -> None:
    """Queue the job, and send its answer while its client is there."""
    service.submit(job)
    async with watched(service.engine, job, receive, service.limits.seconds):
        if stream:
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


async def one_model(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    """GET /v1/models/{id}."""
    asked = scope["path_params"]["id"]
    if asked:
        service.check_model(asked)
        await send_json(send, card(service))
    else:  # /v1/models/
        await _nowhere(scope, receive, send)


async def described(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    """GET /openapi.json: what all routes take and give, but the page."""
    await send_json(send, await asyncio.to_thread(document, service.name, API))


def _of_own(handle: own.Route, method: str) -> Handler:
    """A route of the room own/, which gets the body."""

    @wraps(handle)
    async def of_own(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        body = parsed(await read_body(receive)) if method == "POST" else {}
        await handle(service, scope["path_params"], body, receive, send)

    return of_own


API: dict[tuple[str, str], Handler] = {
    ("POST", "/v1/completions"): completions,
    ("POST", "/v1/chat/completions"): chat,
    ("GET", "/v1/models"): models,
    ("GET", "/v1/models/{id:path}"): one_model,
    ("GET", "/openapi.json"): described,
    **{(method, path): _of_own(handle, method) for (method, path), handle in own.ROUTES.items()},
    ("GET", "/health"): health,
    ("GET", "/ready"): ready,
    ("GET", "/version"): version,
    ("GET", "/metrics"): metrics,
}
PAGE: dict[tuple[str, str], Handler] = {("GET", path): file for path, file in page_files().items()}
ROUTES = API | PAGE


class PathEndpoint:
    """The routes of one path as an ASGI application; what fails is an error in OpenAI's shape."""

    def __init__(self, service: Service, handlers: Mapping[str, Handler]) -> None:
        self._service, self._handlers = service, handlers
        also = {"HEAD"} if "GET" in handlers else set()
        self._allowed = ", ".join(sorted({*handlers, *also, "OPTIONS"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await self._handle(scope, receive, send)
        except ClientGone:
            return
        except Exception as error:
            await send_refusal(send, refused(error))

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = str(scope["method"])
        handle = self._handlers.get("GET" if method == "HEAD" else method)
        allowed = {"Allow": self._allowed}
        if handle is not None:
            await handle(self._service, scope, receive, send)
        elif method == "OPTIONS":
            await send_nothing(send, allowed)
        else:
            why = f"{scope['path'][:200]} takes {self._allowed}, not {method[:20]}"
            raise Refusal(405, why, code="method_not_allowed", headers=allowed)


def application(service: Service) -> ASGIApp:
    """The application of one service; its lifespan is the engine's."""
    paths: dict[str, dict[str, Handler]] = {}
    for (method, path), handle in ROUTES.items():
        paths.setdefault(path, {})[method] = handle
    return Router(
        [Route(path, PathEndpoint(service, handlers)) for path, handlers in paths.items()],
        default=_nowhere,
        lifespan=partial(_lifespan, service),
        redirect_slashes=False,
    )


def guarded(app: ASGIApp, service: Service, access: Access, log: Write | None = None) -> ASGIApp:
    """The application behind its checks; `log` gets an object for each request."""
    return Guard(app, service, access, {path for _, path in ROUTES}, log)


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Say that there is no such path, and which one is meant; a redirect would lose the body."""
    path = str(scope["path"])
    known = {at for _, at in ROUTES}
    meant = meant_path(path, known)
    rest = (
        f"there are {listed({at for _, at in API})}" if meant is None else f"did you mean {meant}?"
    )
    why = f"there is no {path[:200]}; {rest}"
    await send_refusal(send, Refusal(404, why, code="not_found"))


@asynccontextmanager
async def _lifespan(service: Service, app: object) -> AsyncIterator[None]:
    service.engine.start()
    yield
    service.draining = True
    service.engine.close(CLOSE_SECONDS)


async def beside(data: bytes, work: Callable[[], T]) -> T:
    """The work on a body; on a large one in a thread, so that the event loop goes on meanwhile."""
    return await asyncio.to_thread(work) if len(data) > LARGE_BODY_BYTES else work()


async def read_body(receive: Receive) -> bytes:
    """The body; its size is limited where the request came in.

    Raises ClientGone, and Refusal for one that does not come in time.
    """
    parts = []
    try:
        async with asyncio.timeout(WHOLE_BODY_SECONDS):
            while True:
                async with asyncio.timeout(BODY_SECONDS):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        why = f"the body did not come: {BODY_SECONDS:g} s without more of it"
        why += f", or {WHOLE_BODY_SECONDS:g} s in all"
        raise Refusal(408, why, code="timeout", headers={"Connection": "close"}) from None
