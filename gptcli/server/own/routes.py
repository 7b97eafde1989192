"""The routes of this room, as functions of a service and a request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.types import Receive, Send

from gptcli.server.own import scores, tasks, tokenizer
from gptcli.server.responses import send_events, send_json, watched
from gptcli.server.service import Service

Route = Callable[[Service, Mapping[str, Any], Mapping[str, Any], Receive, Send], Awaitable[None]]
"""(service, parameters of the path, body, receive, send)."""


async def task(
    service: Service, path: Mapping[str, Any], body: Mapping[str, Any], receive: Receive, send: Send
) -> None:
    """POST /v1/tasks/{name}: run a task on one text or many."""
    call = await asyncio.to_thread(tasks.read_task, body, path["name"], service)
    job = service.submit(tasks.job_for(call, service))
    answer = tasks.TaskAnswer(call)
    async with watched(service.engine, job, receive, service.limits.seconds):
        if call.stream:
            await send_events(send, job, answer.pieces(job))
        else:
            await send_json(send, await answer.whole(job))


async def one_task(
    service: Service, path: Mapping[str, Any], body: Mapping[str, Any], receive: Receive, send: Send
) -> None:
    """GET /v1/tasks/{name}: a task and its options."""
    found = await asyncio.to_thread(tasks.find_task, path["name"])
    await send_json(send, tasks.described(found))


async def all_tasks(
    service: Service, path: Mapping[str, Any], body: Mapping[str, Any], receive: Receive, send: Send
) -> None:
    """GET /v1/tasks: the tasks and their options."""
    found = await asyncio.to_thread(lambda: list(tasks.listed_tasks()))
    await send_json(send, {"object": "list", "data": [tasks.described(task) for task in found]})


async def score(
    service: Service, path: Mapping[str, Any], body: Mapping[str, Any], receive: Receive, send: Send
) -> None:
    """POST /v1/score: how likely texts are."""
    call = scores.read_score(body, service)
    job = service.submit(scores.job_for(call, service))
    async with watched(service.engine, job, receive, service.limits.seconds):
        await send_json(send, await scores.whole(call, job))


async def tokenize(
    service: Service, path: Mapping[str, Any], body: Mapping[str, Any], receive: Receive, send: Send
) -> None:
    """POST /tokenize: the tokens of a text."""
    await send_json(send, await asyncio.to_thread(tokenizer.tokenized, body, service))


async def detokenize(
    service: Service, path: Mapping[str, Any], body: Mapping[str, Any], receive: Receive, send: Send
) -> None:
    """POST /detokenize: the text of tokens."""
    await send_json(send, await asyncio.to_thread(tokenizer.detokenized, body, service))


async def tokenizer_info(
    service: Service, path: Mapping[str, Any], body: Mapping[str, Any], receive: Receive, send: Send
) -> None:
    """GET /tokenizer_info: the tokenizer's special tokens, where --tokenizer-info is given."""
    await send_json(send, await asyncio.to_thread(tokenizer.tokenizer_info, service))


ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/v1/tasks"): all_tasks,
    ("GET", "/v1/tasks/{name}"): one_task,
    ("POST", "/v1/tasks/{name}"): task,
    ("POST", "/v1/score"): score,
    ("POST", "/tokenize"): tokenize,
    ("POST", "/detokenize"): detokenize,
    ("GET", "/tokenizer_info"): tokenizer_info,
}
