"""The schemas of what routes give."""

from __future__ import annotations

from gptcli.scoring.rows import keys_of
from gptcli.scoring.scorer import Detail
from gptcli.server.openapi.schemas import (
    BOOLEAN,
    INTEGER,
    NUMBER,
    TEXT,
    TEXTS,
    Schema,
    nullable,
    object_of,
)

ANY: Schema = {}
ERROR = object_of(
    {
        "error": object_of(
            {
                "message": TEXT,
                "type": TEXT,
                "param": nullable(TEXT),
                "code": nullable(TEXT),
            },
            ("message", "type", "param", "code"),
        )
    },
    ("error",),
)
USAGE = object_of(
    {
        "prompt_tokens": INTEGER,
        "completion_tokens": INTEGER,
        "total_tokens": INTEGER,
        "prompt_tokens_details": object_of({"cached_tokens": INTEGER}),
    },
    ("prompt_tokens", "completion_tokens", "total_tokens"),
)
MODEL = object_of(
    {
        "id": TEXT,
        "object": {"const": "model"},
        "created": INTEGER,
        "owned_by": TEXT,
        "max_model_len": INTEGER,
        "meta": object_of({}),
    },
    ("id", "object", "created", "owned_by"),
)
MODELS = object_of(
    {"object": {"const": "list"}, "data": {"type": "array", "items": MODEL}}, ("object", "data")
)
FINISH = nullable({"enum": ["stop", "length", "content_filter"]})
LEGACY_LOGPROBS = nullable(
    object_of(
        {
            "text_offset": {"type": "array", "items": INTEGER},
            "tokens": TEXTS,
            "token_logprobs": {"type": "array", "items": nullable(NUMBER)},
            "top_logprobs": {
                "type": "array",
                "items": nullable({"type": "object", "additionalProperties": NUMBER}),
            },
        },
        ("text_offset", "tokens", "token_logprobs", "top_logprobs"),
    )
)
_TOKEN = {
    "token": TEXT,
    "logprob": nullable(NUMBER),
    "bytes": nullable({"type": "array", "items": INTEGER}),
}
_TOP = {"type": "array", "items": object_of(_TOKEN, tuple(_TOKEN))}
CHAT_LOGPROBS = nullable(
    object_of(
        {
            "content": {
                "type": "array",
                "items": object_of(_TOKEN | {"top_logprobs": _TOP}, (*_TOKEN, "top_logprobs")),
            },
            "refusal": {"type": "null"},
        },
        ("content", "refusal"),
    )
)


def _shell(kind: str, choice: Schema) -> Schema:
    return object_of(
        {
            "id": TEXT,
            "object": {"const": kind},
            "created": INTEGER,
            "model": TEXT,
            "system_fingerprint": nullable(TEXT),
            "choices": {"type": "array", "items": choice},
            "usage": nullable(USAGE),
        },
        ("id", "object", "created", "model", "choices"),
    )


COMPLETION = _shell(
    "text_completion",
    object_of(
        {"index": INTEGER, "text": TEXT, "logprobs": LEGACY_LOGPROBS, "finish_reason": FINISH},
        ("index", "text", "logprobs", "finish_reason"),
    ),
)
_SAID = {"role": {"const": "assistant"}, "content": nullable(TEXT), "refusal": {"type": "null"}}
CHAT = _shell(
    "chat.completion",
    object_of(
        {
            "index": INTEGER,
            "message": object_of(_SAID, tuple(_SAID)),
            "logprobs": CHAT_LOGPROBS,
            "finish_reason": FINISH,
        },
        ("index", "message", "logprobs", "finish_reason"),
    ),
)
CHAT_CHUNK = _shell(
    "chat.completion.chunk",
    object_of(
        {
            "index": INTEGER,
            "delta": object_of(_SAID),
            "logprobs": CHAT_LOGPROBS,
            "finish_reason": FINISH,
        },
        ("index", "delta", "finish_reason"),
    ),
)
FAILURE = nullable(object_of({"message": TEXT}))
ANSWER = object_of(
    {
        "task": TEXT,
        "id": TEXT,
        "index": INTEGER,
        "input": TEXT,
        "text": TEXT,
        "finish_reason": {
            "enum": ["stop", "length", "loop", "cancelled", "content_filter", "error"]
        },
        "usage": USAGE,
        "seed": nullable(INTEGER),
        "model": TEXT,
        "revision": nullable(TEXT),
        "truncated": INTEGER,
        "error": FAILURE,
        "mean_logprob": NUMBER,
        "abstained": BOOLEAN,
        "labels": {"type": "object", "additionalProperties": NUMBER},
        "entities": {"type": "array", "items": object_of({})},
        "logprobs": {"type": "array", "items": object_of({})},
    },
    ("task", "id", "index", "input", "text", "finish_reason", "usage", "error"),
)
ANSWERS: Schema = {"anyOf": [ANSWER, {"type": "array", "items": ANSWER}]}
ANSWER_EVENT: Schema = {"anyOf": [object_of({"delta": TEXT}, ("delta",)), ANSWER]}
TASK = object_of(
    {
        "object": {"const": "task"},
        "id": TEXT,
        "description": TEXT,
        "answer": TEXT,
        "examples": BOOLEAN,
        "sampling": object_of({}),
        "options": {"type": "array", "items": object_of({"name": TEXT, "type": TEXT})},
    },
    ("object", "id", "description", "answer", "options"),
)
TASKS = object_of(
    {"object": {"const": "list"}, "data": {"type": "array", "items": TASK}}, ("object", "data")
)
_TEXT_KEYS = ("id", "text", "token", "word", "region", "region_label", "model", "revision")


def _row(detail: Detail) -> Schema:
    keys = keys_of(detail)
    kinds = {
        key: FAILURE if key == "error" else nullable(TEXT if key in _TEXT_KEYS else NUMBER)
        for key in keys
    }
    return object_of(kinds, ("id", "error"))


TEXT_SCORE = _row("texts")
SCORES: Schema = {
    "anyOf": [
        TEXT_SCORE,
        *(
            {"type": "array", "items": _row(kind)}
            for kind in ("texts", "tokens", "words", "regions")
        ),
        object_of(
            {"likeliest": INTEGER, "margin_bits": NUMBER, "texts": {"type": "array"}},
            ("likeliest", "margin_bits", "texts"),
        ),
        object_of({"accuracy": nullable(NUMBER), "rows": {"type": "array"}}, ("accuracy", "rows")),
    ]
}
TOKENS = object_of(
    {
        "count": INTEGER,
        "max_model_len": INTEGER,
        "tokens": {"type": "array", "items": {"anyOf": [INTEGER, object_of({"id": INTEGER})]}},
        "token_strs": {"type": "array", "items": nullable(TEXT)},
    },
    ("count", "max_model_len", "tokens"),
)
DETOKENIZED = object_of({"prompt": TEXT, "content": TEXT}, ("prompt", "content"))
TOKENIZER = object_of(
    {
        "tokenizer_class": nullable(TEXT),
        "bos_token": nullable(TEXT),
        "eos_token": nullable(TEXT),
        "pad_token": nullable(TEXT),
        "chat_template": nullable(TEXT),
    }
)
