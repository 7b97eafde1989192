"""A task's own options as a dataclass, so that they become flags like all others.

The class is built when the task is read. Its fields tell `gptcli.cli.flags` and the configuration
what they need. Not here: files that options name are read by `gptcli.cli.commands.task`.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from dataclasses import fields, make_dataclass
from functools import lru_cache
from typing import Any, Literal

from gptcli.errors import UsageError
from gptcli.options.keywords import field_of, unknown
from gptcli.options.shared import EXAMPLE
from gptcli.options.spec import Options, option
from gptcli.tasks.definition.labels import COMMA
from gptcli.tasks.definition.task import OptionKind, Task, TaskOption, Value

_TYPES: dict[OptionKind, Any] = {
    "text": str,
    "file": str,
    "integer": int,
    "number": float,
    "flag": bool,
    "list": str,
}
_METAVARS: dict[OptionKind, str] = {"text": "TEXT", "file": "FILE", "list": "A,B,..."}


def options_class(task: Task) -> type[Options]:
    """A group of options with one field for each option of the task, for `with_options`.

    A name that is a keyword of Python's has a field with an underscore, `from_`; its flag,
    environment variable and key in the configuration have none. A task with an example template has
    `example`, a tuple of texts, too. Constructing the class checks types and ranges (UsageError).
    """
    return _class_of(task.options, task.takes_examples)


@lru_cache(maxsize=64)  # a class is never given back, and a server asks for one each time
def _class_of(options: tuple[TaskOption, ...], takes_examples: bool) -> type[Options]:
    declared = [_declared(item) for item in options]
    if takes_examples:
        declared.append(("example", tuple[str, ...], EXAMPLE))
    return make_dataclass(
        "TaskOptions",
        declared,
        bases=(Options,),
        namespace={"panel": "Task"},
        frozen=True,
        kw_only=True,
    )


def values(task: Task, options: Options) -> dict[str, Value]:
    """The values of the task's options by their names; None is what was neither given nor declared.

    A list is split at its commas, a file is its name still. Raises UsageError for a list that is
    empty or names something twice, and for two options that must differ and do not.
    """
    found: dict[str, Value] = {}
    for item in task.options:
        value = getattr(options, _field(item.name))
        split = item.kind == "list" and value is not None
        found[item.name] = _split(item, value) if split else value
    for item in task.options:
        other, value = item.differs_from, found[item.name]
        if other is not None and value is not None and value == found[other]:
            one, two = _flag(item.name), _flag(other)
            raise UsageError(one, f"{value!r}, the same as {two}", f"Change {one} or {two}.")
    return found


def chosen(task: Task, given: Mapping[str, object]) -> dict[str, Value]:
    """The values of a task's options where some are given by name, from Python.

    A list may be a text with commas or a sequence of texts. Raises UsageError for an option that
    the task does not have, and for what the command line would refuse.
    """
    kinds = {option.name: option.kind for option in task.options}
    for name in given:
        if name not in kinds:
            raise UsageError(name, f"no option of {task.name}", f"It has: {', '.join(kinds)}.")
    plain = {
        _field(name): _joined(name, value) if kinds[name] == "list" else value
        for name, value in given.items()
    }
    return values(task, options_class(task)(**plain))


def parted(
    task: Task, given: Mapping[str, Any], kind: type[Options]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keywords of Python that are the task's options, by name, and those of a kind of options.

    Raises UsageError for one that is neither.
    """
    names = [option.name for option in task.options]
    own: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for keyword_, value in given.items():
        name = keyword_.removesuffix("_")
        if name in names:
            own[name] = value
            continue
        try:
            field_of(keyword_, [kind])
        except UsageError:
            known = [*names, *(item.name for item in fields(kind))]  # type: ignore[arg-type]
            raise unknown(keyword_, known) from None
        rest[keyword_] = value
    return own, rest


def settings_of(options: Mapping[str, object]) -> tuple[str, ...]:
    """Options by name as the texts `NAME=VALUE` that `parsed` takes."""
    return tuple(f"{name}={_flat(value)}" for name, value in options.items())


def _flat(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _joined(name: str, value: object) -> object:
    """A sequence of texts as the text with commas that the flag would have."""
    if not isinstance(value, tuple | list):
        return value
    for text in value:
        if not isinstance(text, str) or COMMA.search(text):
            raise UsageError(name, f"{text!r} is no text without a comma", "Give other texts.")
    return ",".join(value)


def parsed(task: Task, texts: Sequence[str]) -> dict[str, object]:
    """Options given as `NAME=VALUE`, for `chosen`. Raises UsageError."""
    kinds = {option.name: option.kind for option in task.options}
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not equals or name not in kinds:
            known = ", ".join(kinds) or "none"
            raise UsageError("--set", f"{text[:60]!r}", f"Write NAME=VALUE; names: {known}.")
        found[name] = _converted(kinds[name], name, value.strip())
    return found


def _converted(kind: OptionKind, name: str, text: str) -> object:
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            return float(text)
        if kind == "flag":
            return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError):
        hint = "Give true or false." if kind == "flag" else "Give a number."
        raise UsageError("--set", f"{name}={text[:40]!r} is no {kind}", hint) from None
    return text


def _declared(item: TaskOption) -> tuple[str, Any, Any]:
    """Field name, type and field of an option."""
    kind = Literal[item.choices] if item.kind == "choice" else _TYPES[item.kind]
    default = ", ".join(item.default) if isinstance(item.default, tuple) else item.default
    words = str(default) if item.varies and default is not None else None
    default = None if item.varies else default  # the language's
    flag = _flag(item.name)
    field = option(
        default,
        f"{flag}/--no-{flag[2:]}" if item.kind == "flag" else flag,
        item.help,
        low=item.low,
        high=item.high,
        metavar=_METAVARS.get(item.kind),
        shown_default=words,
        names="file" if item.kind == "file" else None,
        # Text is decoded by our rules; a file's name stays as the system has it.
        parse=str if item.kind in ("text", "list") else None,
    )
    return _field(item.name), kind if default is not None else kind | None, field


def _split(item: TaskOption, text: str) -> tuple[str, ...]:
    parts = [part.strip() for part in COMMA.split(text)]
    found = tuple(dict.fromkeys(filter(None, parts)))
    if not found:
        raise UsageError(_flag(item.name), "the list is empty", "Set its parts apart by commas.")
    if len(found) < len([part for part in parts if part]):
        raise UsageError(_flag(item.name), f"{text!r} names something twice", "Name it once.")
    return found


def _field(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
