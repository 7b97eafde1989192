"""A prompt written as token ids: `464 2068 7586`, or a JSON list."""

from __future__ import annotations

import re

from gptcli.errors import BadInput
from gptcli.system.strict_json import parse_value

_HOW = "Write ids such as 464 2068 7586, or a JSON list of them."
_BETWEEN = re.compile(r"[\s,]+")
MAX_DIGITS = 9


def ids_of(text: str) -> tuple[int, ...]:
    """The ids that a text names. Raises BadInput for anything else in it."""
    stripped = text.strip()
    if stripped.startswith("["):
        try:
            return listed(parse_value(stripped), "prompt")
        except ValueError as error:
            raise BadInput("prompt", f"it is no JSON list of token ids: {error}", _HOW) from None
    words = [word for word in _BETWEEN.split(stripped) if word]
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) <= MAX_DIGITS):
            raise BadInput("prompt", f"{word[:20]!r} is no token id", _HOW)
    return tuple(map(int, words))


def listed(value: object, where: str) -> tuple[int, ...]:
    """The ids of a JSON list. Raises BadInput for any other value."""
    for item in value if isinstance(value, list) else [value]:
        if type(item) is not int or not 0 <= item < 10**MAX_DIGITS:
            raise BadInput(where, f"{str(item)[:20]!r} is no token id", _HOW)
    return tuple(value) if isinstance(value, list) else ()
