"""Commands that do not exist, and arguments that a command does not take."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gptcli.cli import registry
from gptcli.cli.mistakes.words import (
    ALTERNATIVES,
    COMMANDS,
    EXAMPLE,
    MAX_QUOTE,
    MEMBERS,
    VERSION,
    help_of,
    line,
    lowered,
    near,
    short,
)
from gptcli.cli.option_groups import declarations
from gptcli.errors import GptcliError, UsageError


def unknown_command(message: str, context: Any, args: Sequence[str]) -> UsageError:
    """An unknown command, of the program or of a group."""
    rest = _words_after(context, args)
    name = rest[0] if rest else ""
    if context is None or context.parent is None:
        hint = _hint_of_root(name, rest[1:])
    else:
        hint = _hint_of_group(context, name, rest[1:])
    what = lowered(message.partition(". Did you mean ")[0])
    return UsageError(short(what, 3 * MAX_QUOTE), "", hint)


def _words_after(context: Any, args: Sequence[str]) -> list[str]:
    """The words of the command line behind the path of a context, from the unknown one on."""
    depth = len(context.command_path.split()) - 1 if context else 0
    return list(args)[depth:]


def _hint_of_root(name: str, rest: Sequence[str]) -> str:
    if name in VERSION:
        return "Say: gptcli --version"
    if name == "help":
        return f"Say: {line(*rest[:1], '--help')}, or gptcli docs for the guides"
    if name in ("-", "") or " " in name:
        return f"To continue a text: {line('generate', name) if name else EXAMPLE}"
    from gptcli.tasks.definition import catalog

    if name in (tasks := catalog.names()):
        return f"It is a task of yours: {line('run', name, *rest)}"
    names = [entry.name for entry in registry.COMMANDS]
    if name not in COMMANDS and (found := near(name, names)):
        return f"Did you mean '{found}'?"
    if known := COMMANDS.get(name) or _member(name):
        return f"Did you mean {line(*known.split(), *rest)}?"
    if found := near(name, tasks):
        return f"Did you mean {line('run', found, *rest)}?"
    return f"To continue a text: {line('generate', ' '.join([name, *rest]))}; for help: gptcli -h"


def _member(name: str) -> str | None:
    """A command of a group by its own name, with the group's: `models pull` for `pull`."""
    for group in ("models", "inspect", "tasks", "cache", "config"):
        paths = [path for path in _paths(registry.entry_of(group)) if path.count(" ") == 1]
        members = {path.split()[-1]: path for path in paths}
        if found := near(name, members):
            return members[found]
    return None


def _paths(entry: registry.CommandEntry) -> list[str]:
    with suppress(GptcliError):  # a task whose file is broken
        return [path for path, _ in declarations(entry)]
    return []


def _hint_of_group(context: Any, name: str, rest: Sequence[str]) -> str:
    """What is meant by a word that is no command of a group."""
    group = context.command_path.split()[1:]
    members = context.command.list_commands(context)
    known = next((one for one in MEMBERS.get(name, ()) if one in members), None)
    if found := known or near(name, members):
        return f"Did you mean '{found}'? {line(*group, found, *rest)}"
    about = {"models": "info", "tasks": "show", "config": "set" if rest else "get"}
    if len(group) == 1 and group[0] in about:
        return f"Did you mean {line(*group, about[group[0]], name, *rest)}? {help_of(context)}"
    return f"Its commands are {', '.join(members)}. {help_of(context)}"


def unexpected_argument(message: str, context: Any) -> UsageError:
    """Arguments that a command does not take."""
    words = message.partition("(s) (")[2].removesuffix(")")
    what = f"unexpected extra argument {short(words)!r}"
    if context is None:
        return UsageError(what, "", "Put the prompt in quotes.")
    path = context.command_path.removeprefix("gptcli ")
    taken = [p for p in context.command.params if p.param_type_name == "argument"]
    reads = bool(taken) and taken[0].name in ("prompt", "text")
    first = str(context.params.get(taken[0].name) or "") if reads else ""
    return UsageError(what, "", _hint_of_extra(path, words, first, context))


def _hint_of_extra(path: str, words: str, first: str, context: Any) -> str:
    if path in ALTERNATIVES:
        return f"{line(*path.split())} takes none. Try {line(*ALTERNATIVES[path].split(), words)}"
    if flag := _choice(words, context):
        return f"Did you mean {flag} {words}?"
    if path == "inspect text" and (found := view_meant(first)):
        return f"Did you mean {line('inspect', found, words)}?"
    if first:
        shown = line(*path.removesuffix(" text").split(), f"{first} {words}")
        return f"Put the prompt in quotes: {shown}"
    return f"Leave it out. {help_of(context)}"


def view_meant(word: str) -> str | None:
    """The command of inspect that a mistyped word means; None for other words."""
    views = [path.split()[-1] for path in _paths(registry.entry_of("inspect"))]
    known = COMMANDS.get(word, "").removeprefix("inspect ")
    return known if known in views else None if word in views else near(word, views)


def _choice(word: str, context: Any) -> str | None:
    """The option of a command that takes such a word."""
    found = [
        str(param.opts[-1])
        for param in context.command.params
        if word in (getattr(param.type, "choices", None) or ())
    ]
    return found[-1] if found else None  # --to comes after --from
