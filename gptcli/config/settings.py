"""Every value that is set, where it comes from, and what is wrong with any of them.

A run checks only what it uses; this module checks the whole file. The command line passes in the
options of each command.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptcli.config.aliases import aliases
from gptcli.config.checks import check, taker
from gptcli.config.keys import Tables, known_at, of_variable
from gptcli.config.lines import lines_of
from gptcli.config.reading import ALIAS_TABLE, Scope, at_line, find, layers, parse, text_of
from gptcli.errors import BadConfig, UsageError
from gptcli.options.registry import Declared, Known, options_of
from gptcli.options.spec import Options, environment_name, key_of

BUILT_IN, TASK = "built-in", "task"


@dataclass(frozen=True)
class ConfiguredValue:
    """A value by its key, and where it comes from: `FILE:LINE`, a variable, `task`, `built-in`."""

    key: str
    value: object
    origin: str

    def to_dict(self) -> dict[str, object]:
        """The shape of `gptcli config show --json`."""
        return {"key": self.key, "value": self.value, "origin": self.origin}


def written(named: str | None) -> list[ConfiguredValue]:
    """All that the file says, in its order. Raises MissingInput, BadConfig."""
    path = find(named)
    if path is None:
        return []
    text = text_of(path)
    leaves = dict(_leaves(parse(path, text)))
    lines = lines_of(text, list(leaves))
    return [
        ConfiguredValue(_shown(keys), value, at_line(path, lines[keys]))
        for keys, value in leaves.items()
    ]


def of_environment(groups: Iterable[type[Options]]) -> list[ConfiguredValue]:
    """The options that variables set, by the options' names."""
    found = []
    for name, options in options_of(groups).items():
        variable = environment_name(name)
        text = os.environ.get(variable)
        settable = [option for option in options if not option.spec.instead]
        if text and settable:
            found.append(
                ConfiguredValue(name, of_variable(text, _for(name, text, settable)), variable)
            )
    return found


def _for(name: str, text: str, options: list[Declared]) -> Any:
    """The type of the first declaration that takes a variable's text, else of the first."""
    fitting = (
        option.hint
        for option in options
        if taker((), name, of_variable(text, option.hint), [option])
    )
    return next(fitting, options[0].hint)


def holding(named: str | None, scope: Scope) -> list[ConfiguredValue]:
    """For every option of a command the value that holds, but for flags. Raises as `layers`."""
    own = options_of(scope.groups)
    found = {
        name: ConfiguredValue(name, _plain(options[0].item.default), BUILT_IN)
        for name, options in own.items()
        if not all(option.spec.instead for option in options) and name != "config"
    }
    path = find(named)
    for layer in layers(named, scope):
        places = {}
        if path is not None and layer.keys is not None and layer.values:
            whole = [(*layer.keys, layer.names[field]) for field in layer.values]
            places = lines_of(text_of(path), whole)
        for field, value in layer.values.items():
            key = key_of(field)
            origin = TASK
            if path is not None and layer.keys is not None:
                origin = at_line(path, places[(*layer.keys, layer.names[field])])
            if key in found:
                found[key] = ConfiguredValue(key, _plain(value), origin)
    return list((found | {item.key: item for item in of_environment(scope.groups)}).values())


def faults(path: Path, common: Known, tables: Tables) -> list[BadConfig]:
    """All that is wrong with a file, each with its line."""
    try:
        text = text_of(path)
        everything = parse(path, text)
    except BadConfig as error:
        return [error]
    found: list[BadConfig] = []
    wrong: dict[tuple[str, ...], UsageError] = {}
    for keys, value in _leaves(everything):
        if keys[0] == ALIAS_TABLE:
            continue
        try:
            check(keys[:-1], keys[-1], value, known_at(keys, common, tables))
        except UsageError as error:
            wrong[keys] = error
    lines = lines_of(text, list(wrong))
    for keys, fault in wrong.items():
        where = at_line(path, lines[keys])
        found.append(BadConfig(f"{where}: {fault.what}", fault.why, fault.hint))
    try:
        aliases(path, everything)
    except BadConfig as error:
        found.append(error)
    return found


def _leaves(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """(path of keys, value) for all that is no table, and for tables that hold nothing."""
    for name, value in table.items():
        keys = (*above, name)
        if isinstance(value, dict):
            yield from _leaves(value, keys)
        else:
            yield keys, value


def _shown(keys: tuple[str, ...]) -> str:
    """A key as it can be written: what is more than letters, digits and dashes in quotes."""
    import json

    bare = [key.replace("-", "").replace("_", "") for key in keys]
    return ".".join(
        key if plain.isascii() and plain.isalnum() else json.dumps(key, ensure_ascii=False)
        for key, plain in zip(keys, bare, strict=True)
    )


def _plain(value: Any) -> Any:
    """A dataclass's default as the file would hold it."""
    return list(value) if isinstance(value, tuple) else value
