"""Keys of config.toml as a person writes them, and the values that their options take.

`top_p` is for all commands, `generate.top_p` for one, `models.gpt2.top_p` for a model; dashes may
stand for underscores, and a model's name with dots in it stands in quotes: models."a/b-1.5".top_p.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from gptcli.config.checks import CORRECT, MODELS, check, check_name, near
from gptcli.config.reading import ALIAS_TABLE
from gptcli.errors import UsageError
from gptcli.options.registry import Known
from gptcli.options.spec import mismatch
from gptcli.system.strict_toml import parse_toml

# What Click takes for a switch in a variable.
SWITCHES = dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True) | dict.fromkeys(
    ("0", "false", "f", "no", "n", "off"), False
)
ANOTHER = "Give another value; gptcli config show --all lists the options."
Tables = Mapping[str, Callable[[], Known]]
"""The options of each table that a command or a task has, by the table's name."""


def split(key: str) -> tuple[str, ...]:
    """The parts of a key. Raises UsageError for what is no key."""
    try:
        values: Any = parse_toml(f"{key} = 0")
    except ValueError:
        values = {}
    parts: list[str] = []
    while isinstance(values, dict) and len(values) == 1:
        [(name, values)] = values.items()
        parts.append(name)
    if values != 0 or "\n" in key or not 1 <= len(parts) <= 3:
        hint = "Write top_p, generate.top_p or models.gpt2.top_p."
        raise UsageError(f"key {key[:60]!r}", "it is no name of an option", hint)
    return (*parts[:-1], parts[-1].replace("-", "_"))


def known_at(keys: tuple[str, ...], common: Known, tables: Tables) -> Known:
    """The options that the table of a key has. Raises UsageError where there is no such table."""
    if len(keys) == 1 or (keys[0] == MODELS and len(keys) == 3):
        return common
    if keys[0] == ALIAS_TABLE:
        raise UsageError(".".join(keys), "it is an alias", "Use gptcli models alias.")
    known = tables[keys[0]]() if len(keys) == 2 and keys[0] in tables else {}
    if keys[0] == MODELS and keys[-1] not in known:
        raise UsageError(".".join(keys), "it names no option", f"Write {MODELS}.NAME.OPTION.")
    if len(keys) == 2 and keys[0] in tables:
        return known
    hint = near(keys[0], [*tables, MODELS])
    raise UsageError(".".join(keys), f"there is no table [{keys[0]}]", hint)


def parsed(keys: tuple[str, ...], texts: Iterable[str], known: Known) -> object:
    """The value that texts of a command line mean for an option. Raises UsageError.

    Where commands declare it differently, the first declaration counts that takes them.
    """
    name, words = keys[-1], list(texts)
    check_name(keys[:-1], name, known)
    faults: list[UsageError] = []
    for option in known[name]:
        try:
            value = _value(name, words, option.hint)
            check(keys[:-1], name, value, {name: (option,)})
        except UsageError as error:
            faults.append(error)
        else:
            return value
    first = faults[0]
    raise UsageError(first.what, first.why, ANOTHER if first.hint == CORRECT else first.hint)


def _value(name: str, words: list[str], hint: Any) -> object:
    if get_origin(hint) is tuple:
        return words
    if len(words) != 1:
        raise UsageError(name, f"{len(words)} values are given for one", "Put it in quotes.")
    return scalar(words[0], hint)


def of_variable(text: str, hint: Any) -> object:
    """What a variable's text means for an option, as the command line reads it; else as `scalar`.

    Texts of a list are set apart by line breaks; a switch may be 1 or yes as well as true.
    """
    if get_origin(hint) is tuple:
        return text.split("\n")
    switch = SWITCHES.get(text.strip().lower()) if _sole(hint) is bool else None
    return scalar(text, hint) if switch is None else switch


def _sole(hint: Any) -> Any:
    """The type beside None: int of `int | None`."""
    if isinstance(hint, types.UnionType):
        return next(kind for kind in get_args(hint) if kind is not type(None))
    return hint


def scalar(text: str, hint: Any) -> object:
    """A text as the option's type, or as it is where it does not fit: then `check` says why."""
    hint = _sole(hint)
    if get_origin(hint) is Literal or hint is str:
        return text
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return text if mismatch(value, hint) else value
    return text
