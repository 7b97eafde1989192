"""Options that do not exist, lack their value, or stand before the command."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gptcli.cli import registry
from gptcli.cli.mistakes.words import (
    ALTERNATIVES,
    COLOURS,
    EXAMPLE,
    FLAGS,
    TEXTS,
    VERSION,
    help_of,
    line,
    near,
    quoted_word,
    short,
)
from gptcli.cli.option_groups import declarations
from gptcli.errors import GptcliError, UsageError
from gptcli.options.registry import declared as options
from gptcli.options.spec import longs_of

CLOSE = 0.85  # similarity that goes before an option of that very name elsewhere
MIN_STEM = 3  # characters, dashes included, that say too little to be completed


def bad_option(option: str, message: str, context: Any, args: Sequence[str]) -> UsageError:
    """An option that does not exist, lacks its value, or was given one it does not take."""
    path = _path(context, args)
    see = f"See {' '.join(['gptcli', *path])} --help."
    if "requires" in message:
        return UsageError(option, "it needs a value", see)
    if "does not take" in message:
        return UsageError(option, "it takes no value", see)
    return UsageError(short(option), "no such option", _hint_of_option(option, context, path, args))


def _path(context: Any, args: Sequence[str]) -> list[str]:
    """The command that is called; Click does not always say."""
    if context is not None:
        return list(context.command_path.split()[1:])
    names = {entry.name for entry in registry.COMMANDS}
    return list(args[:1]) if args and args[0] in names else []


def _hint_of_option(option: str, context: Any, path: list[str], args: Sequence[str]) -> str:
    if not option.replace("-", "").replace("_", "").isalnum():
        return "Put -- before a prompt that begins with a dash."
    if not path:
        return _hint_before_command(option, args)
    value = _value_of(option, args)
    if option in TEXTS:
        return _hint_of_text(path, value or "Once upon a time", context)
    if option in COLOURS:
        return "Say --color never, or --color always; or set NO_COLOR=1 or FORCE_COLOR=1."
    return _hint_of_flag(option, value, context)


def _hint_of_flag(option: str, value: str, context: Any) -> str:
    """The flag that is meant, or the commands that have this one."""
    own = _flags(context)
    other = FLAGS.get(option)
    if other and other.split()[0] in own:
        return f"Did you mean {other}{f' {value}' if value and ' ' not in other else ''}?"
    if found := _completed(option, own) or near(option, own, CLOSE):
        return f"Did you mean {found}?"
    if homes := _homes(option):
        return f"{_listed(homes)} {'has' if len(homes) == 1 else 'have'} it. {help_of(context)}"
    if found := near(option, own):
        return f"Did you mean {found}?"
    return help_of(context)


def _hint_of_text(path: list[str], text: str, context: Any) -> str:
    """What to say to a text behind a flag: most commands take it as an argument."""
    names = [param.name for param in context.command.params] if context else []
    if {"prompt", "text", "texts"} & set(names):
        return f"The text is an argument: {line(*path, text)}"
    other = ALTERNATIVES.get(" ".join(path))
    return f"Try {line(*other.split(), text)}" if other else help_of(context)


def _completed(option: str, own: Sequence[str]) -> str | None:
    """The only flag that goes on as typed."""
    longer = [flag for flag in own if flag.startswith(option) and len(option) > MIN_STEM]
    return longer[0] if len(longer) == 1 else None


def _hint_before_command(option: str, args: Sequence[str]) -> str:
    """An option that stands before the command, or instead of one."""
    if option in VERSION:
        return "Say: gptcli --version"
    names = [entry.name for entry in registry.COMMANDS]
    place = next((number for number, word in enumerate(args) if word in names), None)
    if place is not None:
        return f"Options follow the command: {line(args[place], *args[place + 1 :], *args[:place])}"
    if near(option, ["--help", "--version"]):
        return f"Did you mean {near(option, ['--help', '--version'])}?"
    return f"Options follow a command: {EXAMPLE} {short(' '.join(map(quoted_word, args)))}"


def _value_of(option: str, args: Sequence[str]) -> str:
    """What stands behind an option on the command line."""
    for word, after in zip(args, [*args[1:], ""], strict=True):
        if word == option and not after.startswith("-"):
            return after
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return ""


def _flags(context: Any) -> list[str]:
    params = context.command.get_params(context) if context else []
    return [flag for param in params for flag in (*param.opts, *param.secondary_opts)]


def _homes(option: str) -> list[str]:
    """The commands that have an option of this name; tasks, which share most, come last."""
    found = []
    for entry in sorted(registry.COMMANDS, key=lambda entry: entry.panel == registry.TASKS):
        with suppress(GptcliError):
            for path, declared in declarations(entry):
                flags = [
                    flag
                    for group in declared.groups.values()
                    for known in options(group)
                    for flag in longs_of(known.item)
                ]
                if option.replace("_", "-") in flags:
                    found.append(f"gptcli {path}")
    return found


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:4]) + (["others"] if len(names) > 4 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
