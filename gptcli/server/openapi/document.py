"""The document: an operation for each route, with the schemas of what it takes and gives.

A task has a path of its own, because it has options of its own. A route without a schema here is
described by the docstring of its function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gptcli import __version__
from gptcli.server.openapi import answers, bodies
from gptcli.server.openapi.schemas import Schema
from gptcli.server.own.tasks import listed_tasks
from gptcli.tasks.definition.task import Task

TASK_PATH = "/v1/tasks/{name}"
PARAMETER = re.compile(r"\{([a-z_]+)(?::path)?\}")
REFUSED = {
    "400": "The request is wrong.",
    "401": "A key is needed, or it is wrong.",
    "404": "There is no such thing.",
    "413": "The body is too large.",
    "429": "Too much is waiting: see Retry-After.",
    "500": "The server failed.",
    "503": "The server cannot answer now.",
    "504": "The time limit is over.",
}


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a route takes and gives; `event`: an object of its stream."""

    takes: Callable[[], Schema] | None = None
    gives: Schema
    event: Schema | None = None


ROUTES: dict[tuple[str, str], Described] = {
    ("POST", "/v1/completions"): Described(
        takes=bodies.completion, gives=answers.COMPLETION, event=answers.COMPLETION
    ),
    ("POST", "/v1/chat/completions"): Described(
        takes=bodies.chat, gives=answers.CHAT, event=answers.CHAT_CHUNK
    ),
    ("GET", "/v1/models"): Described(gives=answers.MODELS),
    ("GET", "/v1/models/{id:path}"): Described(gives=answers.MODEL),
    ("GET", "/v1/tasks"): Described(gives=answers.TASKS),
    ("GET", TASK_PATH): Described(gives=answers.TASK),
    ("POST", "/v1/score"): Described(takes=bodies.score, gives=answers.SCORES),
    ("POST", "/tokenize"): Described(takes=bodies.tokenize, gives=answers.TOKENS),
    ("POST", "/detokenize"): Described(takes=bodies.detokenize, gives=answers.DETOKENIZED),
    ("GET", "/tokenizer_info"): Described(gives=answers.TOKENIZER),
    ("GET", "/openapi.json"): Described(gives={"type": "object"}),
}


def document(model: str, routes: Mapping[tuple[str, str], Callable[..., Any]]) -> Schema:
    """The OpenAPI document of a server's routes: functions by method and path."""
    paths: dict[str, Schema] = {}
    for (method, path), handle in routes.items():
        known = ROUTES.get((method, path))
        at = PARAMETER.sub(r"{\1}", path)
        if (method, path) != ("POST", TASK_PATH):
            paths.setdefault(at, {})[method.lower()] = _operation(method, at, handle, known)
        if path == TASK_PATH:
            for task in listed_tasks():
                at = TASK_PATH.replace("{name}", task.name)
                found = known if method == "GET" else _of_task(task)
                operation = _operation(method, at, handle, found)
                paths.setdefault(at, {})[method.lower()] = {
                    **operation,
                    "summary": task.description,
                }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gptcli serve",
            "version": __version__,
            "description": f"{model}, served for OpenAI's clients.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": answers.ERROR},
            "responses": {
                f"Refused{status}": {
                    "description": text,
                    "content": _json({"$ref": "#/components/schemas/Error"}),
                }
                for status, text in REFUSED.items()
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _of_task(task: Task) -> Described:
    return Described(
        takes=lambda: bodies.task(task), gives=answers.ANSWERS, event=answers.ANSWER_EVENT
    )


def _summary(handle: Callable[..., Any], method: str, path: str) -> str:
    """The first line of a function's docstring, without the name of its route."""
    first = ((handle.__doc__ or "").strip().splitlines() or [""])[0]
    return first.partition(": ")[2].capitalize() or f"{method} {path}"


def _operation(method: str, at: str, handle: Callable[..., Any], known: Described | None) -> Schema:
    names = PARAMETER.findall(at)
    found: Schema = {
        "operationId": "_".join(filter(None, re.split(r"\W+", f"{method.lower()} {at}"))),
        "summary": _summary(handle, method, at),
        "tags": ["OpenAI" if at.startswith(("/v1/models", "/v1/c")) else "gptcli"],
    }
    if names:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    if known is not None and known.takes is not None:
        found["requestBody"] = {"required": True, "content": _json(known.takes())}
    content = _json(known.gives) if known is not None else {}
    if known is not None and known.event is not None:
        content["text/event-stream"] = {"schema": {"type": "string"}, "x-event": known.event}
    good: Schema = {"description": "The answer."}
    refused = {status: {"$ref": f"#/components/responses/Refused{status}"} for status in REFUSED}
    found["responses"] = {"200": good | ({"content": content} if content else {}), **refused}
    return found


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
