"""The document of the routes is whole, and true: what it allows is served, all else is refused."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
from support.schemas import fits, wrongs
from support.served import InProcess, events_of

from gptcli.server.app import API
from gptcli.server.openai.chat import CHAT_UNSERVED, read_chat
from gptcli.server.openai.completions import UNSERVED, read_call
from gptcli.server.own import scores, tasks, tokenizer

TALE = "Once upon a time."
GOOD: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": TALE, "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": TALE}], "max_tokens": 1},
    "/v1/score": {"input": TALE},
    "/tokenize": {"prompt": TALE},
    "/detokenize": {"tokens": [1]},
}
A_TASK = {"input": TALE, "max_new_tokens": 1}
DEEP = json.loads("[" * 150 + "]" * 150)
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.5, 1e300, 10**29, "", "x", "\x00", "auto"),
    *([], [[]], [None], ["x"], [1], [-1], [10**29], [1.5], DEEP),
    *({}, {"a": [1]}, {"1": "x"}, {"1": 1e300}, {"1": 2}),
]
# Values that would fill the context.
UNBOUNDED: dict[str, Any] = {
    "ignore_eos": bool,
    "max_tokens": lambda value: value is None,
    "max_completion_tokens": lambda value: value is None,
    "max_new_tokens": lambda value: value is None,
}
# Whether a value is served is a matter of the model, or of another field.
OTHERWISE = {
    *(
        "model",
        "prompt",
        "content",
        "stop_token_id",
        "stop_token_ids",
        "tokens",
        "stride",
        "regions",
    ),
    *("best_of", "n", "stream_options", "top_logprobs", "logit_bias", "num_return_sequences"),
    *("compare", "words", "pairs", "input", "from", "to", "examples", "example", "labels", "types"),
    *("bad_words", "stop", "max_length", "min_tokens", "min_new_tokens", "ignore_eos"),
}


@pytest.fixture(scope="module")
def document(app: InProcess) -> dict[str, Any]:
    status, _, data = app.send(b"", "/openapi.json", "GET")
    assert status == 200
    return json.loads(data)


def body_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    """The schema of what a route takes."""
    return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]


def test_every_route_is_in_it(document: dict[str, Any]) -> None:
    for method, path in API:
        at = path.replace(":path", "")
        if (method, path) == ("POST", "/v1/tasks/{name}"):
            at = "/v1/tasks/summarize"
        assert document["paths"][at][method.lower()]["responses"]["200"]


def test_every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own(
    document: dict[str, Any],
) -> None:
    text = json.dumps(document)
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
        found: Any = document
        for key in reference.split("/"):
            found = found[key]
    names = re.findall(r'"operationId": "([^"]+)"', text)
    assert len(names) == len(set(names))
    for path, methods in document["paths"].items():
        for operation in methods.values():
            declared = [one["name"] for one in operation.get("parameters", ())]
            assert declared == re.findall(r"\{(\w+)\}", path)


class Recording(dict[str, Any]):
    """A body that remembers which of its fields were looked for."""

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__(given)
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)


READERS: dict[str, Any] = {
    "/v1/completions": (read_call, UNSERVED),
    "/v1/chat/completions": (read_chat, {*CHAT_UNSERVED, "modalities"}),
    "/v1/score": (scores.read_score, scores.UNSERVED),
    "/v1/tasks/classify": (
        lambda body, service: tasks.read_task(body, "classify", service),
        {*tasks.UNSERVED, "num_beams"},
    ),
    "/tokenize": (tokenizer.tokenized, {"messages"}),
    "/detokenize": (tokenizer.detokenized, set()),
}


@pytest.mark.parametrize("path", READERS)
def test_every_field_that_a_route_reads_is_in_it(
    app: InProcess, document: dict[str, Any], path: str
) -> None:
    reader, unserved = READERS[path]
    given = Recording(GOOD.get(path, A_TASK) | {"stream": False})
    reader(given, app.service)
    declared = set(body_of(document, path)["properties"])
    assert given.read - set(unserved) <= declared
    assert not set(unserved) & declared


def bodies(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A good body of each route with one field that is often wrong."""
    chosen = random.Random(19)
    for path in document["paths"]:
        if "post" not in document["paths"][path] or path.endswith("{name}"):
            continue
        good = GOOD.get(path, A_TASK)
        for name in body_of(document, path)["properties"]:
            for value in chosen.sample(VALUES, 5):
                if name not in UNBOUNDED or not UNBOUNDED[name](value):
                    yield path, name, good | {name: value}


def test_what_it_allows_is_served_as_it_says_and_all_else_is_refused(
    app: InProcess, document: dict[str, Any]
) -> None:
    refusal = document["components"]["schemas"]["Error"]
    counts = {200: 0, 400: 0, 404: 0}
    for path, name, body in bodies(document):
        status, headers, data = app.send(json.dumps(body).encode(), path)
        counts[status] += 1
        told = (path, name, body[name], data[:200])
        good = fits(body, body_of(document, path))
        if status != 200:
            assert not list(wrongs(json.loads(data), refusal)), told
            assert not good or name in OTHERWISE, told
            continue
        assert good, told
        content = document["paths"][path]["post"]["responses"]["200"]["content"]
        if headers["content-type"].startswith("text/event-stream"):
            for event in events_of(data):
                schema = content["text/event-stream"]["x-event"]
                assert not list(wrongs(event, schema)), told
        else:
            assert not list(wrongs(json.loads(data), content["application/json"]["schema"])), told
    assert counts[200] > 60
    assert counts[400] > 500


def test_what_get_routes_give_is_as_it_says(app: InProcess, document: dict[str, Any]) -> None:
    for path in ("/v1/models", "/v1/models/tiny-tales", "/v1/tasks", "/v1/tasks/classify"):
        at = path.replace("tiny-tales", "{id}")
        status, _, data = app.send(b"", path, "GET")
        content = document["paths"][at]["get"]["responses"]["200"]["content"]
        assert status == 200
        assert not list(wrongs(json.loads(data), content["application/json"]["schema"]))
