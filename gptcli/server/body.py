"""The JSON body of a request, field by field.

A field of a wrong type or out of range is refused by its name. null is a field that was left out.
Fields that nobody knows are tolerated, because clients add them; those that are known and not
served are refused, so that nobody takes an answer for what it is not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from gptcli.errors import UsageError
from gptcli.options import Sampling
from gptcli.options.spec import MAX_LOGIT_BIAS
from gptcli.server.refusals import Refusal, bad_field
from gptcli.system.strict_json import parse_object

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # half of a pair, as JSON writes it
MAX_STOPS = 1024
MAX_STOP_CHARACTERS = 10_000
SAMPLING = {  # fields of a request: the option of ours, and the type
    "temperature": ("temperature", float),
    "top_p": ("top_p", float),
    "top_k": ("top_k", int),
    "min_p": ("min_p", float),
    "typical_p": ("typical_p", float),
    "repetition_penalty": ("repetition_penalty", float),
    "no_repeat_ngram_size": ("no_repeat_ngram_size", int),
    "presence_penalty": ("presence_penalty", float),
    "frequency_penalty": ("frequency_penalty", float),
    "min_tokens": ("min_new_tokens", int),
    "seed": ("seed", int),
}
DEFAULTS = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}  # OpenAI's, where ours differ
NOTHING: tuple[object, ...] = (None, False, 0, "", [], {})
NEUTRAL: dict[str, list[object]] = {"response_format": [{"type": "text"}], "repeat_penalty": [1]}
TYPES = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
    dict: "an object",
}


def parsed(data: bytes) -> Mapping[str, Any]:
    """The body as an object. Raises Refusal for what is no strict JSON object."""
    try:
        found = parse_object(data)
        if SURROGATE.search(data):
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refusal(400, "the body holds a lone surrogate, which is no character") from None
    except ValueError as error:
        raise Refusal(400, f"the body is not a JSON object: {error}") from None
    return found


def field(body: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """A field of a type; `default` where it is null or left out. Raises Refusal."""
    value = body.get(name)
    if value is None:
        return default
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 2**1000 else math.inf
    if kind is int and type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not kind:
        raise bad_field(name, f"{TYPES[kind]} is needed, not {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise bad_field(name, "it is not a finite number")
    return value


def ranged(body: Mapping[str, Any], name: str, default: Any, low: int, high: int) -> Any:
    """An integer field in a range. Raises Refusal."""
    value = field(body, name, int, default)
    if value is not None and not low <= value <= high:
        raise bad_field(name, f"{value} is not from {low} to {high}")
    return value


def strings(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A string, or a list of them. Raises Refusal."""
    value = body.get(name)
    given = [] if value is None else value if isinstance(value, list) else [value]
    for text in given:
        if type(text) is not str:
            raise bad_field(name, f"a string, or a list of them, is needed, not {shown(text)}")
    return tuple(given)


def stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The stop strings, of any number that a text can be searched for. Raises Refusal."""
    found = tuple(text for text in strings(body, "stop") if text)
    if len(found) > MAX_STOPS:
        raise bad_field("stop", f"{len(found)} stop strings; at most {MAX_STOPS} are served")
    if any(len(text) > MAX_STOP_CHARACTERS for text in found):
        raise bad_field("stop", f"a stop string is longer than {MAX_STOP_CHARACTERS} characters")
    return found


def token_ids(body: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """A list of token ids, of whatever size they are. Raises Refusal."""
    value = body.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or any(type(id) is not int for id in value):
        raise bad_field(name, f"a list of token ids is needed, not {shown(value)}")
    return tuple(value)


def logit_bias(body: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """The bias by token id. Raises Refusal."""
    value = body.get("logit_bias")
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise bad_field("logit_bias", f"an object is needed, not {shown(value)}")
    found = []
    for id in value:
        if not (id.isascii() and id.isdigit()):
            raise bad_field("logit_bias", f"{id[:20]!r} is no token id")
        if type(value[id]) not in (int, float):
            raise bad_field("logit_bias", f"{id[:20]}: a number is needed, not {shown(value[id])}")
        if not abs(value[id]) <= MAX_LOGIT_BIAS:
            raise bad_field(
                "logit_bias",
                f"{id[:20]}: the value is not from -{MAX_LOGIT_BIAS} to {MAX_LOGIT_BIAS}",
            )
        found.append((id, float(value[id])))
    return tuple(found)


def sampling(body: Mapping[str, Any], **settings: Any) -> Sampling:
    """How tokens are chosen, with OpenAI's defaults. Raises Refusal, naming the field."""
    chosen: dict[str, Any] = DEFAULTS | {"logit_bias": logit_bias(body), "stop": stops(body)}
    for name, (option, kind) in SAMPLING.items():
        if (value := field(body, name, kind)) is not None:
            chosen[option] = value
    if chosen.get("top_k") == -1:  # off, as other servers have it
        chosen["top_k"] = 0
    names = {option: name for name, (option, _) in SAMPLING.items()}
    names |= {"num_return_sequences": "n", "max_new_tokens": "max_tokens"}
    try:
        return Sampling(**chosen | settings)
    except UsageError as error:
        told = error.in_python()
        raise bad_field(names.get(told.what, told.what), told.why) from None


def refuse_unserved(body: Mapping[str, Any], unserved: Mapping[str, str]) -> None:
    """Raise Refusal for a field that is known and not served, unless it asks for nothing."""
    for name, why in unserved.items():
        if body.get(name) not in (*NOTHING, *NEUTRAL.get(name, ())):
            raise bad_field(name, why, code="unsupported_parameter")


def shown(value: object) -> str:
    """What stands in place of a value, in words."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
    kinds |= {list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
