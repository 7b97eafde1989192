"""Bad requests to /v1/completions: each is a clear 4xx in OpenAI's shape; the server goes on."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest
from support.served import InProcess

ROUNDS = int(os.environ.get("GPTCLI_FUZZ_EXAMPLES", "150"))
PLAIN = {"prompt": "Once", "max_tokens": 2, "temperature": 0}
CONTEXT = 512  # of tiny-tales
VOCABULARY = 4096

NO_OBJECTS = {
    "empty": b"",
    "no JSON": b"prompt=Once",
    "cut off": b'{"prompt": "Once"',
    "two": b'{"prompt": "Once"} {}',
    "a list": b"[]",
    "a text": b'"Once"',
    "null": b"null",
    "NaN": b'{"temperature": NaN}',
    "infinity": b'{"temperature": -Infinity}',
    "out of range": b'{"temperature": 1e999}',
    "a number of 5000 digits": b'{"seed": ' + b"1" * 5000 + b"}",
    "a key twice": b'{"prompt": "a", "prompt": "b"}',
    "deep lists": b'{"prompt": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "no UTF-8": b'{"prompt": "Once \xff upon"}',
    "UTF-16": '{"prompt": "Once"}'.encode("utf-16"),
    "half a surrogate pair": b'{"prompt": "Once \\ud800 upon"}',
    "half a pair in a stop": b'{"prompt": "Once", "stop": "\\uDC00"}',
    "half a pair in a name": b'{"prompt": "Once", "\\udfff": 1}',
    "half a pair in the model": b'{"model": "\\ud800"}',
}


@pytest.mark.parametrize("body", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_a_body_that_is_no_strict_object_is_refused(app: InProcess, body: bytes):
    error = app.refused(body)
    assert error["status"] == 400
    assert error["type"] == "invalid_request_error"
    assert app.complete(**PLAIN)["choices"]


WRONG: list[tuple[str, Any]] = [
    *(("prompt", value) for value in (5, 1.5, True, {}, [], [[]], [[1], []], [1, "a"], ["a", 1])),
    *(("prompt", value) for value in ([1.0], [True], [None], [[1.5]], [{}], [["a"]], [[[1]]])),
    *(("prompt", value) for value in ([-1], [VOCABULARY], [2**70], [[5], [-5]], ["a"] * 2000)),
    *(("prompt", value) for value in ([9] * (CONTEXT + 1), "a b " * CONTEXT, "x" * 10**6)),
    *(("max_tokens", value) for value in ("5", -1, 1.5, True, [], {}, 10**25)),
    *(("n", value) for value in ("5", 0, -1, 1.5, True, [1], 10**6, 1001, 2**80)),
    *(("best_of", value) for value in ("5", 0, -1, 1.5, True, 10**6)),
    *(("temperature", value) for value in ("1", True, -0.1, 101, [], 2**90)),
    *(("top_p", value) for value in ("1", 0, -1, 1.5, True)),
    *(("top_k", value) for value in ("1", -2, 1.5, True)),
    *(("min_p", value) for value in ("1", -1, 1.5, True)),
    *(("typical_p", value) for value in ("1", -1, 1.5, 0)),
    *(("repetition_penalty", value) for value in ("1", -1, 0, 11)),
    *(("no_repeat_ngram_size", value) for value in ("1", -1, 1.5)),
    *(("presence_penalty", value) for value in ("1", -2.1, 2.1)),
    *(("frequency_penalty", value) for value in ("1", -2.1, 2.1)),
    *(("min_tokens", value) for value in ("1", -1, 1.5)),
    *(("seed", value) for value in ("1", 1.5, -1, 2**63, True)),
    *(("logprobs", value) for value in ("1", -1, 1.5, 101, [])),
    *(("echo", value) for value in ("true", 1, 0, [])),
    *(("stream", value) for value in ("true", 1, [])),
    *(("ignore_eos", value) for value in ("true", 1)),
    *(("return_tokens_as_token_ids", value) for value in ("true", 1)),
    *(("stop", value) for value in (5, True, {}, [5], ["a", None], [["a"]], ["a"] * 10_000)),
    *(("stop", value) for value in ("x" * 20_000, [f"stop {number}" for number in range(10_000)])),
    *(("stop_token_ids", value) for value in ("1", 5, [1.5], [-1], [VOCABULARY], [True])),
    *(("logit_bias", value) for value in ([], "1", {"a": 1}, {"-1": 1}, {"1.5": 1}, {"\u0661": 1})),
    *(("logit_bias", value) for value in ({"5": "1"}, {"5": 101}, {str(VOCABULARY): 1})),
    ("logit_bias", {"9" * 5000: 1}),
    *(("stream_options", value) for value in ({"include_usage": True}, {}, [], "a", True)),
    *(("user", value) for value in (5, [], {})),
    *(("model", value) for value in (5, [], {}, True)),
    ("suffix", " the end"),
    ("use_beam_search", True),
    ("truncate_prompt_tokens", 5),
    ("response_format", {"type": "json_object"}),
    ("guided_regex", "a+"),
    ("repeat_penalty", 1.1),
]


def shown(value: Any) -> str:
    return str(value)[:20]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=shown)
def test_a_wrong_field_is_refused_by_its_name(app: InProcess, name: str, value: Any):
    error = app.refused(json.dumps({**PLAIN, name: value}).encode())
    assert error["status"] == 400
    assert error["param"] == ("n" if name == "prompt" and value == ["a"] * 2000 else name)
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) < 400


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"prompt": ["a"] * 100, "n": 100}, "n"),
        ({"prompt": ["a"] * 1000, "echo": True, "logprobs": 100, "max_tokens": 500}, "logprobs"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(app: InProcess, fields: Any, param: str):
    error = app.refused(json.dumps({**PLAIN, **fields}).encode())
    assert (error["status"], error["param"]) == (400, param)


@pytest.mark.parametrize(
    "fields",
    [
        {name: None for name, _ in WRONG},
        {"nobody_knows": {"this": [1]}, "metadata": {}, "priority": 5},
        {"suffix": "", "stop": [], "logit_bias": {}, "best_of": 1, "top_k": -1},
        {"stop": ["", "\n"], "max_tokens": 2.0, "temperature": 0, "user": "someone"},
        {"response_format": {"type": "text"}, "repeat_penalty": 1.0, "use_beam_search": False},
        {"model": "tiny-tales", "logprobs": False, "seed": 2**63 - 1, "n": 2.0},
        {"stop": [f"stop {number}" for number in range(1000)]},
    ],
)
def test_null_unknown_and_neutral_fields_are_tolerated(app: InProcess, fields: Any):
    asked = {**PLAIN, **fields}
    assert all(choice["text"] for choice in app.complete(**asked)["choices"])


def test_a_large_body_is_refused_before_it_is_read(app: InProcess):
    parts = [b'{"prompt": "', *[b"x" * 2**20] * 100, b'"}']
    error = app.refused(parts)
    assert (error["status"], error["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "TRACE"])
def test_a_wrong_method_is_refused(app: InProcess, method: str):
    assert app.refused(b"", method=method)["status"] == 405


@pytest.mark.parametrize("path", ["/v1/v1/completions", "/completions", "/v1/completions/", "/v2"])
def test_a_wrong_path_is_told_the_right_ones(app: InProcess, path: str):
    error = app.refused(b"{}", path=path)
    assert error["status"] == 404
    assert "/v1/completions" in error["message"]


def test_another_model_is_not_found(app: InProcess):
    error = app.refused(b'{"model": "gpt-4", "prompt": "Once"}')
    assert (error["status"], error["code"]) == (404, "model_not_found")
    assert "'tiny-tales'" in error["message"]


def test_a_stream_that_cannot_begin_is_an_ordinary_error(app: InProcess):
    fields = {"prompt": ["Once", "x " * 5000], "stream": True}
    assert app.refused(json.dumps(fields).encode())["status"] == 400


def mutated(chance: random.Random) -> bytes:
    """A body that is nearly good."""
    fields: dict[str, Any] = {**PLAIN, "logprobs": 1, "stop": ["a", "b"], "logit_bias": {"5": 1}}
    for _ in range(chance.choice([0, 0, 1, 2])):
        name, value = chance.choice(WRONG)
        fields[chance.choice([name, name, *fields])] = value
    data = bytearray(json.dumps(fields, ensure_ascii=chance.random() < 0.5).encode()[:5000])
    for _ in range(chance.choice([0, 0, 1, 2, 5])):
        place = chance.randrange(len(data))
        data[place : place + chance.randint(0, 2)] = bytes(
            chance.choice([chance.randrange(256), *b'{}[]",:0-e\\'])
            for _ in range(chance.randint(0, 2))
        )
    return bytes(data)


def test_no_mutated_body_is_a_failure_of_the_server(app: InProcess):
    chance = random.Random(19)
    answered = 0
    for _ in range(ROUNDS):
        body = mutated(chance)
        status, _, data = app.send(body)
        assert status < 500, (body, data)
        answered += status == 200
    assert answered > ROUNDS / 20  # not all of them are refused at once
    assert app.complete(**PLAIN)["choices"]
