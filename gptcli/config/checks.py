"""Whether an option takes a value that the file or a variable holds.

An option may be declared differently by several commands; a value is right if one declaration takes
it. Errors here know keys, but no lines: those are of `gptcli.config.reading`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin

from gptcli.errors import UsageError
from gptcli.options.registry import Declared, Known, declared
from gptcli.options.spec import Options, key_of, mismatch

MODELS = "models"  # the table that holds a table for each model
CORRECT = "Correct the file: gptcli config edit"


def not_taken(
    keys: tuple[str, ...], values: Mapping[str, Any], groups: Iterable[type[Options]]
) -> dict[str, Any]:
    """The values that no option of the groups takes; the search ends when all are taken."""
    left = dict(values)
    if not left:
        return left
    for group in groups:
        for option in declared(group):
            name = key_of(option.item.name)
            if name in left and taker(keys, name, left[name], [option]):
                del left[name]
        if not left:
            break
    return left


def taker(
    keys: tuple[str, ...], name: str, value: object, options: Iterable[Declared]
) -> Declared | None:
    """The first of the declarations of an option that takes a value."""
    return next((option for option in options if _fault(keys, name, value, option) is None), None)


def check(keys: tuple[str, ...], name: str, value: object, known: Known) -> None:
    """Raises UsageError where an option cannot have that value in the table at `keys`."""
    check_name(keys, name, known)
    if taker(keys, name, value, known[name]) is None:
        fault = _fault(keys, name, value, known[name][0])
        assert fault
        raise fault


def _fault(keys: tuple[str, ...], name: str, value: object, option: Declared) -> UsageError | None:
    """Why an option does not take a value in the table at `keys`; None where it does."""
    instead = option.spec.instead
    if name == "config":
        instead = "A configuration file cannot name another."
    if name == "model" and keys[:1] == (MODELS,):
        instead = "The table is that of a model already."
    if instead:  # a flag could not take it back
        return UsageError(_called(keys, name), "it can only be a flag", instead)
    if option.spec.digits and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    wrong = _wrong(value, option.hint) or _outside(option, value)
    return UsageError(_called(keys, name), wrong, CORRECT) if wrong else None


def check_name(keys: tuple[str, ...], name: str, known: Iterable[str]) -> None:
    """Raises UsageError where a table has no such option."""
    if name not in known:
        raise UsageError(_called(keys, name), "there is no such option", near(name, known))


def _called(keys: tuple[str, ...], name: str) -> str:
    return f"[{'.'.join(keys)}] {name}" if keys else name


def _wrong(value: object, hint: Any) -> str:
    """What is wrong with the type of `value`, in words; empty when it fits `hint`."""
    if get_origin(hint) is tuple:
        kind, named = (int, "token ids") if get_args(hint)[0] is int else (str, "texts")
        fits = isinstance(value, list) and all(type(item) is kind for item in value)
        return "" if fits else f"{value!r} is not a list of {named}"
    return mismatch(value, hint) if value is not None else ""


def _outside(option: Declared, value: Any) -> str:
    """What is wrong with a value of the right type, in words."""
    spec = option.spec
    if isinstance(value, int | float) and not isinstance(value, bool) and not spec.allows(value):
        return f"{value} is out of range: give {spec.range or 'a finite number'}"
    texts = value if isinstance(value, list) else [value]
    try:
        if spec.parse is not None:
            texts = [spec.parse(text) for text in texts]
        if spec.check is not None and value is not None:
            spec.check(tuple(texts) if isinstance(value, list) else texts[0])
    except UsageError as error:
        return error.why
    return ""


def near(name: str, known: Iterable[str]) -> str:
    """A hint with the known name that is nearest, or all of them."""
    from difflib import get_close_matches

    names = sorted(known)
    near = get_close_matches(name.replace("-", "_"), names, 1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(names)}."
