"""`gptcli config`: show and change the defaults, and say where each value comes from.

Not here: aliases of models, of the same file, are in `gptcli.cli.commands.models.alias`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

from gptcli.cli import option_groups
from gptcli.cli.command_groups import Showing, group
from gptcli.cli.completion import candidates
from gptcli.cli.declaration import command
from gptcli.cli.defaults import scope_of
from gptcli.cli.interactive.editor import edit_file
from gptcli.cli.output.records import quoted
from gptcli.cli.output.sink import write, write_json
from gptcli.cli.registry import entry_of, table_names
from gptcli.cli.root import register
from gptcli.cli.session import Session
from gptcli.config import Scope, checks, editing, keys, place, settings
from gptcli.config.keys import Tables
from gptcli.config.settings import ConfiguredValue
from gptcli.errors import CannotCreate, UsageError
from gptcli.options import AsJson, Talk
from gptcli.options.registry import Known, options_of
from gptcli.options.shared import ASKED
from gptcli.options.spec import Options, option
from gptcli.system import durable
from gptcli.system.os_errors import reason
from gptcli.system.sanitizer import one_line

NEW_FILE = """\
# Defaults of gptcli; what there is to set: gptcli config show --all
# temperature = 0.7
# [generate]
# max_new_tokens = 200
# [models.gpt2-xl]
# dtype = "int8"
"""

Key = Annotated[
    str,
    typer.Argument(
        help="top_p for all commands, generate.top_p for one, models.gpt2.top_p for a model.",
        show_default=False,
        autocompletion=candidates.config_keys,
    ),
]
config = group(
    "Show and change the defaults in config.toml.\n\n"
    "At the top of the file an option is for all commands that have it; a command skips a value"
    " that only other commands accept. A table such as [generate] is for one command.",
    Showing,
)


@dataclass(frozen=True, kw_only=True)
class ShownValues(Options):
    """Which values `config show` lists, and how."""

    panel = "Output"

    origin: bool = option(False, "--origin", "Print where each value comes from.", instead=ASKED)
    all: bool = option(
        False, "--all", "List what is not set, too.", instead=ASKED, redeclares="all options"
    )
    command: str | None = option(
        None,
        "--command",
        "Show the values of this command or task.",
        metavar="NAME",
        instead=ASKED,
        names="command",
    )
    model: str | None = option(
        None,
        "-m --model",
        "Show the values with this model.",
        instead=ASKED,
        names="model as typed",
        redeclares="no model runs: it chooses a table of the file",
    )


@command(configured=False)
def show(
    *,
    which: ShownValues,
    shape: AsJson,
    talk: Talk,
) -> None:
    """List the values that the file and variables set. The default command."""
    if which.command is None and which.model is None and not which.all:
        found = settings.written(talk.config)
        found += settings.of_environment(option_groups.every())
    else:
        found = _holding(which.command, which.model, talk)
        found = [item for item in found if which.all or item.origin != settings.BUILT_IN]
    if shape.json:
        write_json([item.to_dict() for item in found])
        return
    write("".join(_line(item, which.origin) for item in found))
    if not found:
        Session.of(talk).note(f"nothing is set; the file would be {place(talk.config)}")


@command(configured=False)
def get(key: Key, *, shape: AsJson, talk: Talk) -> None:
    """Print the value in force: the variable's, the file's, or the built-in one.

    A list is printed one item a line, a value that is not set as an empty line.
    """
    parts = keys.split(key)
    known = keys.known_at(parts, options(), tables())
    checks.check_name(parts[:-1], parts[-1], known)
    command = parts[0] if len(parts) == 2 else None
    found = _holding(command, parts[1] if len(parts) == 3 else None, talk)
    item = next((item for item in found if item.key == parts[-1]), None)
    if item is None:
        raise UsageError(key, "it can only be a flag", "See gptcli config show --all.")
    if shape.json:
        write_json(item.value)
        return
    values = item.value if isinstance(item.value, list) else [item.value]
    write("".join(f"{_bare(value)}\n" for value in values))


@command(configured=False)
def put(
    key: Key,
    values: Annotated[
        list[str],
        typer.Argument(metavar="VALUE...", help="Several for a list.", show_default=False),
    ],
    *,
    talk: Talk,
) -> None:
    """Set a value in the file; the file is created if there is none."""
    parts = keys.split(key)
    known = keys.known_at(parts, options(), tables())
    new = editing.put(place(talk.config), parts, keys.parsed(parts, values, known))
    if new:
        Session.of(talk).note(f"made {place(talk.config)}")


@command(configured=False)
def unset(key: Key, *, talk: Talk) -> None:
    """Remove a value from the file."""
    editing.drop(place(talk.config), keys.split(key))


@command(configured=False)
def path(*, talk: Talk) -> None:
    """Print the path of the file, whether it exists or not."""
    write(f"{place(talk.config)}\n")


@command(configured=False)
def edit(*, talk: Talk) -> None:
    """Open the file in $VISUAL or $EDITOR, and check it afterwards."""
    file = place(talk.config)
    if not os.path.exists(file):  # noqa: PTH110
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            durable.rewrite(file, NEW_FILE.encode())
        except OSError as error:
            hint = "Check the permissions of its folder, or name another with --config."
            raise CannotCreate(f"configuration {file}", reason(error), hint) from None
    edit_file(file)
    wrong = settings.faults(file, options(), tables())
    for fault in wrong[1:]:
        Session.of(talk).error(fault)
    if wrong:
        raise wrong[0]


for _name, _command in {
    "show": show,
    "get": get,
    "set": put,
    "unset": unset,
    "path": path,
    "edit": edit,
}.items():
    register(config, _name, _command)


def options() -> Known:
    """The options that any command has."""
    return options_of(option_groups.every())


def tables() -> Tables:
    """The options of each command and task, looked up when they are asked for."""
    return {name: partial(_options, name) for name in dict.fromkeys(table_names())}


def _options(table: str) -> Known:
    return options_of(option_groups.groups_of(table))


def _holding(name: str | None, model: str | None, talk: Talk) -> list[ConfiguredValue]:
    """The values in force for a command, or for any."""
    if name is None:
        return settings.holding(
            talk.config, Scope("", tuple(option_groups.every()), table_names, model=model)
        )
    if name not in table_names():
        hint = checks.near(name, table_names())
        raise UsageError("--command", f"there is no command {name[:40]!r}", hint)
    found = dict(option_groups.declarations(entry_of(name)))
    if name not in found:
        raise UsageError("--command", f"{name} has several commands", "Leave it out.")
    return settings.holding(talk.config, scope_of(found[name], name, model))


def _line(item: ConfiguredValue, origin: bool) -> str:
    shown = one_line(f"{item.key} = {_toml(item.value)}")
    return f"{shown}  # {one_line(item.origin)}\n" if origin else f"{shown}\n"


def _toml(value: object) -> str:
    """A value as the file has it; nothing for None, which it has not."""
    if value is None:
        return ""
    if isinstance(value, Mapping | list | str | bool | int | float):
        return quoted(value)
    return str(value)


def _bare(value: Any) -> str:
    """A value as a script wants it."""
    return "" if value is None else value if isinstance(value, str) else _toml(value)
