"""The schemas of what routes take."""

from __future__ import annotations

from typing import get_args

from gptcli.options import Overflow, Sampling
from gptcli.scoring.options import Scoring
from gptcli.server.openai.chat import MAX_MESSAGES, MAX_TOP_LOGPROBS, ROLES
from gptcli.server.openai.completions import DEFAULT_TOKENS, MAX_LOGPROBS
from gptcli.server.openapi.schemas import (
    BOOLEAN,
    INTEGER,
    TEXT,
    TEXTS,
    Schema,
    group_schemas,
    nullable,
    object_of,
    sampling_schemas,
    task_schemas,
)
from gptcli.server.own.scores import BAD, GOOD
from gptcli.server.own.settings import MAX_CHARACTERS
from gptcli.tasks.definition.task import Task

LINE: Schema = {**TEXT, "maxLength": MAX_CHARACTERS}
IDS: Schema = {"type": "array", "items": {**INTEGER, "minimum": 0}}
COUNT: Schema = {**INTEGER, "minimum": 1}
MOST: Schema = {**COUNT, "maximum": 10**9}
MODEL = nullable({**TEXT, "description": "The model that is served; it may be left out."})
SHARED: dict[str, Schema] = {
    "model": MODEL,
    "stream": nullable({**BOOLEAN, "default": False, "description": "Answer by events."}),
    "user": nullable(TEXT),
}
OPENAI: dict[str, Schema] = {
    **SHARED,
    "n": nullable({**COUNT, "default": 1}),
    "ignore_eos": nullable({**BOOLEAN, "default": False}),
    "stop_token_ids": nullable(IDS),
    "stream_options": nullable(object_of({"include_usage": nullable(BOOLEAN)})),
}
PART = object_of({"type": {"const": "text"}, "text": TEXT}, ("type", "text"))
MESSAGE = object_of(
    {
        "role": {"enum": list(ROLES)},
        "content": {"anyOf": [TEXT, {"type": "array", "items": PART}]},
        "name": nullable(TEXT),
    },
    ("role", "content"),
)
INPUT: Schema = {
    "anyOf": [LINE, {"type": "array", "items": LINE, "minItems": 1}],
    "description": "A text, or a list; then what is wrong with one is in its answer.",
}
PAIR = object_of({GOOD: LINE, BAD: LINE, "id": {}}, (GOOD, BAD))


def completion() -> Schema:
    """The body of /v1/completions."""
    many: Schema = {"type": "array", "items": {"anyOf": [TEXT, IDS]}, "minItems": 1}
    return object_of(
        OPENAI
        | sampling_schemas()
        | {
            "prompt": nullable({"anyOf": [TEXT, IDS, many]}),
            "max_tokens": nullable({**MOST, "minimum": 0, "default": DEFAULT_TOKENS}),
            "best_of": nullable(COUNT),
            "echo": nullable({**BOOLEAN, "default": False}),
            "logprobs": nullable(
                {"anyOf": [BOOLEAN, {**INTEGER, "minimum": 0, "maximum": MAX_LOGPROBS}]}
            ),
            "return_tokens_as_token_ids": nullable({**BOOLEAN, "default": False}),
        }
    )


def chat() -> Schema:
    """The body of /v1/chat/completions."""
    messages = {"type": "array", "items": MESSAGE, "minItems": 1, "maxItems": MAX_MESSAGES}
    top = {**INTEGER, "minimum": 0, "maximum": MAX_TOP_LOGPROBS}
    return object_of(
        OPENAI
        | sampling_schemas()
        | {
            "messages": messages,
            "max_tokens": nullable(MOST),
            "max_completion_tokens": nullable(MOST),
            "logprobs": nullable({**BOOLEAN, "default": False}),
            "top_logprobs": nullable(top),
        },
        ("messages",),
    )


def task(found: Task) -> Schema:
    """The body of a task."""
    more: dict[str, Schema] = {
        "input": INPUT,
        "on_overflow": nullable({"type": "string", "enum": list(get_args(Overflow))}),
        "allow_empty": nullable({**BOOLEAN, "default": False}),
    }
    if found.takes_examples:
        pair = {**TEXTS, "minItems": 2, "maxItems": 2}
        more["examples"] = nullable({"type": "array", "items": {"anyOf": [TEXT, pair]}})
    unused = ("logprobs", "num_return_sequences") if found.answer.kind == "labels" else ()
    sampling = group_schemas(Sampling, without=("num_beams", *unused))
    for name, value in found.sampling.items():
        if name in sampling:
            sampling[name]["default"] = list(value) if isinstance(value, tuple) else value
    return object_of(SHARED | sampling | more | task_schemas(found), ("input",))


def score() -> Schema:
    """The body of /v1/score."""
    flags = {
        "tokens": "One row a token.",
        "words": "One row a word.",
        "compare": "Say which of the texts is the likeliest.",
    }
    asked = {
        name: nullable({**BOOLEAN, "default": False, "description": text})
        for name, text in flags.items()
    }
    shared = {name: schema for name, schema in SHARED.items() if name != "stream"}
    pairs = {"type": "array", "items": PAIR, "minItems": 1}
    return object_of(
        shared
        | group_schemas(Scoring)
        | asked
        | {"input": nullable(INPUT), "pairs": nullable(pairs)}
    )


def tokenize() -> Schema:
    """The body of /tokenize."""
    flags = ("add_special_tokens", "add_special", "with_pieces", "return_token_strs")
    texts = {"prompt": nullable(TEXT), "content": nullable(TEXT)}
    return object_of({"model": MODEL} | texts | {name: nullable(BOOLEAN) for name in flags})


def detokenize() -> Schema:
    """The body of /detokenize."""
    return object_of({"model": MODEL, "tokens": IDS}, ("tokens",))
