"""JSON schemas of options: of a group of the commands, of a task's own, of OpenAI's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gptcli.options import Sampling
from gptcli.options.spec import Options, Spec, key_of, spec_of
from gptcli.server.body import DEFAULTS, MAX_STOP_CHARACTERS, MAX_STOPS, SAMPLING
from gptcli.tasks.definition.task import OptionKind, Task

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
TEXTS: Schema = {"type": "array", "items": TEXT}
_PLAIN: dict[object, Schema] = {bool: BOOLEAN, int: INTEGER, float: NUMBER, str: TEXT}
_KINDS: dict[OptionKind, Schema] = {
    "text": TEXT,
    "file": TEXT,
    "choice": TEXT,
    "integer": INTEGER,
    "number": NUMBER,
    "flag": BOOLEAN,
    "list": {"anyOf": [TEXT, TEXTS]},
}


def nullable(schema: Schema) -> Schema:
    """The schema, or null: a field that is null is one that was left out."""
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    described: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    plain = {key: value for key, value in schema.items() if key not in described}
    return {**described, "anyOf": [plain, {"type": "null"}]}


def object_of(
    properties: Mapping[str, Schema], required: tuple[str, ...] = (), more: bool = True
) -> Schema:
    """An object; `more`: other fields pass."""
    found: Schema = {"type": "object", "properties": dict(properties)}
    if required:
        found["required"] = list(required)
    return found if more else {**found, "additionalProperties": False}


def group_schemas(kind: type[Options], without: tuple[str, ...] = ()) -> dict[str, Schema]:
    """The fields of a group of options."""
    hints = get_type_hints(kind)
    return {
        key_of(item.name): _declared(hints[item.name], spec_of(item), item.default)
        for item in fields(kind)  # type: ignore[arg-type]
        if item.name not in without
    }


def task_schemas(task: Task) -> dict[str, Schema]:
    """The options of a task."""
    found: dict[str, Schema] = {}
    for item in task.options:
        schema = {**_KINDS[item.kind], "description": item.help}
        if item.choices:
            schema["enum"] = list(item.choices)
        bounds = {"minimum": item.low, "maximum": item.high}
        schema |= {key: value for key, value in bounds.items() if value is not None}
        if item.default is not None:
            plain = list(item.default) if isinstance(item.default, tuple) else item.default
            schema["default"] = plain
        found[item.name] = nullable(schema)
    return found


def sampling_schemas() -> dict[str, Schema]:
    """How tokens are chosen, by OpenAI's names and with its defaults."""
    own = {item.name: item for item in fields(Sampling)}
    found: dict[str, Schema] = {}
    for name, (option, kind) in SAMPLING.items():
        item = own[option]
        spec, default = spec_of(item), DEFAULTS.get(option, item.default)
        found[name] = _declared(kind, spec, default)
    found["top_k"]["minimum"] = -1  # off, as other servers have it
    bias = {"type": "object", "additionalProperties": {**NUMBER, "minimum": -100, "maximum": 100}}
    named = {"propertyNames": {"pattern": "^[0-9]+$"}}
    found["logit_bias"] = nullable({**bias, **named, "description": "A bias for each token id."})
    stop = {**TEXT, "maxLength": MAX_STOP_CHARACTERS}
    many = {"type": "array", "items": stop, "maxItems": MAX_STOPS}
    why = "Texts before which the text ends."
    found["stop"] = nullable({"anyOf": [stop, many], "description": why})
    return found


def _declared(hint: Any, spec: Spec, default: object) -> Schema:
    schema = {**_schema(hint), "description": spec.help}
    bounds = {"minimum": spec.low, "exclusiveMinimum": spec.above, "maximum": spec.high}
    schema |= {key: value for key, value in bounds.items() if value is not None}
    if default not in (None, ()):
        schema["default"] = default
    return nullable(schema)


def _schema(hint: Any) -> Schema:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _schema(next(kind for kind in inner if kind is not NoneType))
    if origin is Literal:
        return {"type": "string", "enum": list(inner)}
    if origin is tuple and inner[0] is str:
        return {"anyOf": [TEXT, TEXTS]}
    if origin is tuple and inner[0] is int:
        return {"anyOf": [INTEGER, {"type": "array", "items": INTEGER}]}
    if origin is tuple:
        pair = {"type": "array", "items": {"anyOf": [TEXT, NUMBER]}, "minItems": 2, "maxItems": 2}
        pairs = {"type": "array", "items": pair}
        return {"anyOf": [{"type": "object", "additionalProperties": NUMBER}, pairs]}
    return dict(_PLAIN[hint])
