"""Match a module's name with a pattern of rank_pattern or alpha_pattern, in bounded time.

PEFT takes each pattern as a regular expression that matches the end of a name, from a dot on. A
pattern comes from a stranger, and Python's matcher may take years for a short one. So patterns are
parsed by Python, and matched here by sets of positions: the time grows with pattern times name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

MAX_PATTERN = 500  # characters
MAX_NAME = 300  # characters
MAX_REPEATS = 300  # of a bounded repeat, beyond which nothing of a name is left
_parser: Any = re._parser  # type: ignore[attr-defined]  # the same grammar as re.compile
Places = set[int]


class BadPattern(ValueError):
    """A pattern that is none, or that has parts which are not known here."""


def matching(patterns: Iterable[str], name: str) -> str | None:
    """The first pattern that matches the name as PEFT matches it. Raises BadPattern."""
    return next((pattern for pattern in patterns if matches(pattern, name)), None)


def matches(pattern: str, name: str) -> bool:
    r"""Whether `(.*\.)?(pattern)$` matches the name. Raises BadPattern."""
    if len(pattern) > MAX_PATTERN or len(name) > MAX_NAME:
        raise BadPattern(f"it is longer than {MAX_PATTERN} characters")
    try:
        parsed = _parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadPattern(f"it is no regular expression ({error})") from None
    starts = {0, *(place + 1 for place, char in enumerate(name) if char == ".")}
    return len(name) in _run(list(parsed), name, starts)


def _run(nodes: list[Any], name: str, places: Places) -> Places:
    """Where the nodes, one after the other, can end that begin at these places."""
    for operation, argument in nodes:
        if not places:
            return places
        step = _STEPS.get(str(operation))
        if step is None:
            raise BadPattern(f"{str(operation).lower()} is not known here")
        places = step(argument, name, places)
    return places


def _char(fits: Any) -> Any:
    def step(argument: Any, name: str, places: Places) -> Places:
        return {at + 1 for at in places if at < len(name) and fits(argument, name[at])}

    return step


def _repeat(argument: Any, name: str, places: Places) -> Places:
    low, high, nodes = argument
    if low > MAX_REPEATS:
        return set()
    for _ in range(low):
        places = _run(list(nodes), name, places)
    found, fresh, count = set(places), places, low
    while fresh and count < high:
        fresh = _run(list(nodes), name, fresh) - found
        found |= fresh
        count += 1
    return found


def _branch(argument: Any, name: str, places: Places) -> Places:
    found: Places = set()
    for nodes in argument[1]:
        found |= _run(list(nodes), name, places)
    return found


def _group(argument: Any, name: str, places: Places) -> Places:
    _, on, off, nodes = argument
    if on or off:
        raise BadPattern("flags in a group are not known here")
    return _run(list(nodes), name, places)


def _at(argument: Any, name: str, places: Places) -> Places:
    where = str(argument)
    if where in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
        return places & {0}
    if where in ("AT_END", "AT_END_STRING"):
        return places & {len(name)}
    raise BadPattern("word boundaries are not known here")


def _in(argument: Any, char: str) -> bool:
    negated = str(argument[0][0]) == "NEGATE"
    return any(_one_of(item, char) for item in argument[negated:]) != negated


def _one_of(item: Any, char: str) -> bool:
    operation, value = str(item[0]), item[1]
    if operation == "LITERAL":
        return bool(ord(char) == value)
    if operation == "RANGE":
        return bool(value[0] <= ord(char) <= value[1])
    kinds = {
        "CATEGORY_DIGIT": char.isdigit(),
        "CATEGORY_NOT_DIGIT": not char.isdigit(),
        "CATEGORY_WORD": char.isalnum() or char == "_",
        "CATEGORY_NOT_WORD": not (char.isalnum() or char == "_"),
        "CATEGORY_SPACE": char.isspace(),
        "CATEGORY_NOT_SPACE": not char.isspace(),
    }
    return kinds[str(value)]


_STEPS: dict[str, Any] = {
    "LITERAL": _char(lambda argument, char: ord(char) == argument),
    "NOT_LITERAL": _char(lambda argument, char: ord(char) != argument),
    "ANY": _char(lambda argument, char: char != "\n"),
    "IN": _char(_in),
    "MAX_REPEAT": _repeat,
    "MIN_REPEAT": _repeat,
    "BRANCH": _branch,
    "SUBPATTERN": _group,
    "AT": _at,
}
