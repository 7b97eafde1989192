"""Texts and token ids from Python: what is no text is an error of its own, named by what it is.

A column of a data frame has None or NaN where a value is missing; neither is a text.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator
from numbers import Real

from gptcli.errors import BadInput, UsageError

MAX_VALUE_LENGTH = 40  # characters of a value in an error


def refusal(value: object, what: str) -> BadInput | None:
    """Why a value is no text, None where it is one; `what` names it, such as `prompts[3]`."""
    if isinstance(value, str):
        return None
    if value is None:
        return BadInput(what, "it is None, not a text", "Leave it out, or give a text.")
    missing = isinstance(value, Real) and math.isnan(value)
    if missing or type(value).__name__ in ("NAType", "NaTType"):  # of pandas
        return BadInput(what, "it is NaN, a missing value", "Leave it out, or give a text.")
    if isinstance(value, bytes | bytearray):
        return BadInput(what, "it is bytes, not a text", 'Decode it: text.decode("utf-8").')
    shown = repr(value)
    shown = shown if len(shown) <= MAX_VALUE_LENGTH else shown[: MAX_VALUE_LENGTH - 3] + "..."
    if isinstance(value, list | tuple):
        return BadInput(what, f"{shown} is a list, not a text", "Use the method for many texts.")
    why = f"{shown} is of type {type(value).__name__}, not a text"
    return BadInput(what, why, "Make a text of it: str(value).")


def checked(value: object, what: str) -> None:
    """Raises BadInput for what is no text."""
    if error := refusal(value, what):
        raise error


def prompt_of(value: object, what: str) -> str | tuple[int, ...]:
    """A text, or the token ids of a list, a tuple or an array. Raises BadInput for others."""
    if isinstance(value, str):
        return value
    items = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(items, list | tuple | range) and not any(isinstance(item, str) for item in items):
        try:
            return tuple(_index(item) for item in items)
        except TypeError:
            raise BadInput(
                what, "not all in the list are token ids", "Give whole numbers."
            ) from None
    error = refusal(value, what)
    assert error is not None
    raise error


def _index(item: object) -> int:
    if isinstance(item, bool):
        raise TypeError
    return operator.index(item)  # type: ignore[arg-type]


def each_prompt(
    prompts: Iterable[object], name: str, instead: str
) -> Iterator[tuple[str, str | tuple[int, ...], BadInput | None]]:
    """As `each`, and each may be token ids."""
    if isinstance(prompts, str | bytes):
        each(prompts, name, instead)
    return _each_prompt(prompts, name)


def _each_prompt(
    prompts: Iterable[object], name: str
) -> Iterator[tuple[str, str | tuple[int, ...], BadInput | None]]:
    for number, value in enumerate(prompts):
        try:
            yield str(number), prompt_of(value, f"{name}[{number}]"), None
        except BadInput as error:
            yield str(number), "", error


def each(
    texts: Iterable[object], name: str, instead: str
) -> Iterator[tuple[str, str, BadInput | None]]:
    """The number, the text, and what is wrong with it, of each of several texts.

    Raises UsageError at once for a single text, whose letters would be taken for texts; `instead`
    is the method for one.
    """
    if isinstance(texts, str | bytes):
        raise UsageError(name, "one text is given", f"Use {instead}, or give a list: [text].")
    return _each(texts, name)


def _each(texts: Iterable[object], name: str) -> Iterator[tuple[str, str, BadInput | None]]:
    for number, text in enumerate(texts):
        error = refusal(text, f"{name}[{number}]")
        yield str(number), text if isinstance(text, str) else "", error


def token_id(value: object, vocabulary: int) -> int:
    """A token's id as Python's number. Raises BadInput for what is none of the vocabulary's."""
    try:
        id = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise BadInput("ids", f"{value!r:.40} is no token id", "Give whole numbers.") from None
    if not 0 <= id < vocabulary:
        raise BadInput("ids", f"{id} is no token id", f"They are 0 to {vocabulary - 1}.")
    return id
