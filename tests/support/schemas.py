"""Whether a JSON value fits a schema: the part of JSON Schema that our document uses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

KINDS: dict[str, Any] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: (
        type(value) is int or (isinstance(value, float) and value.is_integer())
    ),
    "number": lambda value: type(value) in (int, float),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
NOTES = {"description", "default", "x-event"}


def fits(value: object, schema: Mapping[str, Any]) -> bool:
    """Whether a value fits."""
    return next(wrongs(value, schema), None) is None


def wrongs(value: object, schema: Mapping[str, Any], where: str = "$") -> Iterator[str]:
    """What does not fit, and where."""
    for key, rule in schema.items():
        if key not in NOTES:
            yield from CHECKS[key](value, rule, schema, where)


def _type(value: object, rule: Any, schema: Any, where: str) -> Iterator[str]:
    kinds = [rule] if isinstance(rule, str) else rule
    if not any(KINDS[kind](value) for kind in kinds):
        yield f"{where}: {value!r:.60} is no {kinds}"


def _any_of(value: object, rule: Any, schema: Any, where: str) -> Iterator[str]:
    if not any(fits(value, one) for one in rule):
        found = [wrong for one in rule for wrong in wrongs(value, one, where)]
        yield f"{where}: none of {len(rule)}: {found[:3]}"


def _properties(value: object, rule: Any, schema: Any, where: str) -> Iterator[str]:
    for name, one in rule.items():
        if isinstance(value, dict) and name in value:
            yield from wrongs(value[name], one, f"{where}.{name}")


def _more(value: object, rule: Any, schema: Any, where: str) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in value if isinstance(value, dict) else ():
        if name not in known:
            yield from wrongs(value[name], rule, f"{where}.{name}")


def _items(value: object, rule: Any, schema: Any, where: str) -> Iterator[str]:
    for place, one in enumerate(value if isinstance(value, list) else ()):
        yield from wrongs(one, rule, f"{where}[{place}]")


def _names(value: object, rule: Any, schema: Any, where: str) -> Iterator[str]:
    for name in value if isinstance(value, dict) else ():
        yield from wrongs(name, rule, f"{where} name")


def _simple(kinds: tuple[type, ...], good: Any) -> Any:
    def check(value: object, rule: Any, schema: Any, where: str) -> Iterator[str]:
        if isinstance(value, kinds) and not isinstance(value, bool) and not good(value, rule):
            yield f"{where}: {value!r:.60} is out of {rule!r:.60}"

    return check


CHECKS: dict[str, Any] = {
    "type": _type,
    "anyOf": _any_of,
    "properties": _properties,
    "additionalProperties": _more,
    "items": _items,
    "propertyNames": _names,
    "enum": lambda value, rule, schema, where: (
        () if value in rule else (f"{where}: {value!r:.60} is none of {rule}",)
    ),
    "const": lambda value, rule, schema, where: (
        () if value == rule else (f"{where}: {value!r:.60} is not {rule!r}",)
    ),
    "required": lambda value, rule, schema, where: (
        [f"{where}: {name} is missing" for name in rule if name not in value]
        if isinstance(value, dict)
        else ()
    ),
    "pattern": _simple((str,), lambda value, rule: re.search(rule, value) is not None),
    "minimum": _simple((int, float), lambda value, rule: value >= rule),
    "exclusiveMinimum": _simple((int, float), lambda value, rule: value > rule),
    "maximum": _simple((int, float), lambda value, rule: value <= rule),
    "minItems": _simple((list,), lambda value, rule: len(value) >= rule),
    "maxItems": _simple((list,), lambda value, rule: len(value) <= rule),
    "maxLength": _simple((str,), lambda value, rule: len(value) <= rule),
}
