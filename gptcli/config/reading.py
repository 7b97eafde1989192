"""The file as it is read on every run: found, parsed, checked, and reduced to one command.

What stands at the top level or in a model's table is meant for every command that has the option. A
command takes those values that its own declaration allows. It is an error only if no command allows
a value: so `batch_size = "auto"` is for `gptcli batch` alone, and breaks no other command. What
stands in a command's own table must be right for it, or for one that shares the table. Environment
variables and flags win over the file and are read by the command line, variables by the same rule.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptcli.checkpoints.names import ALIASES
from gptcli.config.checks import CORRECT, MODELS, check, near, not_taken, taker
from gptcli.config.lines import line_of
from gptcli.errors import BadConfig, MissingInput, UsageError
from gptcli.options.registry import Known, options_of
from gptcli.options.spec import Options
from gptcli.system.os_errors import reason
from gptcli.system.regular_files import open_once
from gptcli.system.strict_toml import parse_toml

MAX_FILE_BYTES = 128 << 10
ALIAS_TABLE = "aliases"


def find(named: str | None) -> Path | None:
    """The file to read: `named` by --config, by GPTCLI_CONFIG, or the user's if there is one.

    Raises MissingInput when a named file is not there.
    """
    name = named or os.environ.get("GPTCLI_CONFIG")
    if name:
        if not os.path.lexists(name):
            raise MissingInput(f"configuration {name}", "no such file", "Check --config.")
        return Path(name)
    path = place(None)  # os.path: Path.exists raises below a folder that cannot be searched
    return path if os.path.exists(path) else None  # noqa: PTH110


def place(named: str | None) -> Path:
    """The file that is written to: as `find`, whether it is there or not."""
    name = named or os.environ.get("GPTCLI_CONFIG")
    if name:
        return Path(name)
    import platformdirs

    return Path(platformdirs.user_config_dir("gptcli", appauthor=False)) / "config.toml"


Groups = Callable[[], Iterable[type[Options]]]


@dataclass(frozen=True)
class ConfigLayer:
    """Values of one place, by field; `keys` is the path of its table in the file, None for presets.

    `names` gives for each field the key as the file spells it.
    """

    keys: tuple[str, ...] | None
    values: Mapping[str, Any]
    names: Mapping[str, str]


@dataclass(frozen=True)
class Scope:
    """For what the file is read: a command whose options are those of `groups`.

    `tables` gives the names that tables may have; it is asked only where the file has some of other
    commands. `presets` are the command's own defaults, as a task's sampling: they win over what is
    meant for all commands, but not over the command's table. `model` is the one that a flag or the
    environment asks for; without it the file's counts. `others` are the groups of all commands,
    `family` those of the commands that share its table, as `text` and `next` of `gptcli inspect`;
    they are asked only for what the command itself does not take.
    """

    command: str
    groups: tuple[type[Options], ...]
    tables: Callable[[], Iterable[str]]
    presets: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    others: Groups = tuple
    family: Groups = tuple


def defaults(named: str | None, scope: Scope) -> dict[str, Any]:
    """The fields that are set for a command, and their values. Raises as `layers`.

    Of several values for a field the one of the last layer counts.
    """
    found: dict[str, Any] = {}
    for layer in layers(named, scope):
        found |= layer.values
    return found


def layers(named: str | None, scope: Scope) -> list[ConfigLayer]:
    """What holds for a command, from the weakest: top level, its model's table, presets, its own.

    Raises MissingInput, or BadConfig naming file, line and key.
    """
    path, spared, command = find(named), ConfigLayer(None, scope.presets, {}), scope.command
    if path is None:
        return [spared]
    everything = read(path)
    top = {name: value for name, value in everything.items() if not isinstance(value, dict)}
    _check_tables(path, everything.keys() - top.keys() - {command}, scope.tables)
    own = options_of(scope.groups)
    table = _table(path, everything, command)
    if MODELS in top:
        hint = f"Write [{MODELS}.NAME]; the model for all commands is: model = ..."
        where = at_line(path, line_of(text_of(path), (MODELS,)))
        raise BadConfig(f"{where}: {MODELS}", "it is no table", hint)
    _check_shared(path, (), top, own, scope.others)
    _check_shared(path, (command,), table, own, scope.family)
    found = [_layer((), top, own)]
    if "model" in own:
        chosen = scope.model or table.get("model") or top.get("model")
        for section, values in _sections(everything, chosen).items():
            _check_shared(path, (MODELS, section), values, own, scope.others)
            found.append(_layer((MODELS, section), values, own))
    return [*found, spared, _layer((command,), table, own)]


def _layer(keys: tuple[str, ...], values: Mapping[str, Any], own: Known) -> ConfigLayer:
    """Those of the values that the command takes."""
    mine, names = {}, {}
    for name, value in values.items():
        option = taker(keys, name, value, own.get(name, ()))
        if option is not None:
            digits = option.spec.digits and isinstance(value, int)
            mine[option.item.name] = str(value) if digits else value
            names[option.item.name] = name
    return ConfigLayer(keys, mine, names)


def _check_tables(path: Path, others: set[str], tables: Callable[[], Iterable[str]]) -> None:
    """Raises BadConfig for a table that means nothing."""
    others -= {MODELS, ALIAS_TABLE}
    names = {*tables(), MODELS, ALIAS_TABLE} if others else set()
    for name in sorted(others - names):
        where = at_line(path, line_of(text_of(path), (name,)))
        raise BadConfig(f"{where}: table [{name}]", "there is no such command", near(name, names))


def _table(path: Path, everything: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The command's own table; of `models`, what is no model's section."""
    table = everything.get(command, {})
    if not isinstance(table, dict):
        where = at_line(path, line_of(text_of(path), (command,)))
        raise BadConfig(f"{where}: {command}", "it is a command's name", f"Write [{command}].")
    if command != MODELS:
        return table
    return {name: value for name, value in table.items() if not isinstance(value, dict)}


def _sections(everything: Mapping[str, Any], model: object) -> dict[str, Any]:
    """The tables of a model, whichever of its names they bear."""
    table = everything.get(MODELS, {})
    if not isinstance(model, str):
        return {}
    own = everything.get(ALIAS_TABLE)
    given = own if isinstance(own, dict) else {}
    same = {name: ALIASES.get(to, to) for name, to in given.items()} | ALIASES
    return {
        name: value
        for name, value in table.items()
        if isinstance(value, dict) and same.get(name, name) == same.get(model, model)
    }


def at_line(path: Path, line: int | None) -> str:
    """The place as an error names it."""
    return str(path) if line is None else f"{path}:{line}"


def text_of(path: Path) -> str:
    """The file's text. Raises MissingInput, BadConfig."""
    try:
        with open_once(path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        why = reason(error)
        raise MissingInput(f"configuration {path}", why, "Check --config.") from None
    if len(data) > MAX_FILE_BYTES:
        raise BadConfig(str(path), "more than 128 KiB", "A configuration is a few lines.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        why = f"invalid UTF-8 at byte {error.start}"
        raise BadConfig(f"{path}:{line}", why, CORRECT) from None


def read(path: Path) -> dict[str, Any]:
    """The file's values, not checked. Raises MissingInput, BadConfig naming the line."""
    return parse(path, text_of(path))


def parse(path: Path, text: str) -> dict[str, Any]:
    """The values of a file's text, not checked. Raises BadConfig naming the line."""
    try:
        return parse_toml(text)
    except ValueError as error:
        raise BadConfig(str(path), f"not TOML: {error}", CORRECT) from None


def _check(path: Path, keys: tuple[str, ...], values: Mapping[str, Any], known: Known) -> None:
    for name, value in values.items():
        try:
            check(keys, name, value, known)
        except UsageError as error:
            where = at_line(path, line_of(text_of(path), (*keys, name)))
            raise BadConfig(f"{where}: {error.what}", error.why, error.hint) from None


def _check_shared(
    path: Path, keys: tuple[str, ...], values: Mapping[str, Any], own: Known, others: Groups
) -> None:
    """Raises BadConfig for a value that neither this command nor one of the others takes."""
    foreign = {
        name: value
        for name, value in values.items()
        if taker(keys, name, value, own.get(name, ())) is None
    }
    foreign = not_taken(keys, foreign, others())
    if foreign:
        known = {**options_of(others()), **own}
        _check(path, keys, foreign, known)
