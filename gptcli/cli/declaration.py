"""What a command declares beside its body: its groups of options, its table, its own defaults.

A command is a plain function; `command` adds what its signature cannot say, as one frozen
`Declaration`. `gptcli.cli.flags` completes it with the groups of the signature, and Click's command
carries it (see `gptcli.cli.root`). This module does not import Typer, so that
`gptcli.cli.option_groups` can list options without a command line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, Unpack, cast, get_args, get_origin, get_type_hints

from gptcli.options.spec import Options

Function = TypeVar("Function", bound=Callable[..., Any])
Presets = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""(flags as they were given) -> a command's own defaults, by field."""
_KEPT = "declaration"  # the attribute of a function that holds it


def no_presets(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The defaults of a command that has none of its own."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What a command declares.

    `groups` are its groups of options by parameter, as the signature has them. `table` is that of
    config.toml, by default the name of the command or of its group. `naming` are the arguments that
    name a model. A command that is not `configured` takes no defaults from the file, so it works
    with a broken file. `examples` are command lines for --help.
    """

    groups: Mapping[str, type[Options]] = field(default_factory=dict)
    presets: Presets = no_presets
    table: str | None = None
    naming: tuple[str, ...] = ()
    configured: bool = True
    examples: tuple[str, ...] = ()


def command(
    *,
    presets: Presets = no_presets,
    table: str | None = None,
    naming: tuple[str, ...] = (),
    configured: bool = True,
    examples: tuple[str, ...] = (),
) -> Callable[[Function], Function]:
    """Declare a function as a command; see `Declaration`."""
    declaration = Declaration(
        presets=presets, table=table, naming=naming, configured=configured, examples=examples
    )
    return lambda function: attach(function, declaration)


def attach(function: Function, declaration: Declaration) -> Function:
    """Let a function carry a declaration."""
    setattr(function, _KEPT, declaration)
    return function


def declaration_of(function: Callable[..., Any] | None) -> Declaration:
    """What a function declares, with the groups of its signature; nothing for None."""
    if function is None:
        return Declaration()
    kept = cast(Declaration, getattr(function, _KEPT, Declaration()))
    return kept if kept.groups else replace(kept, groups=groups_in(function))


def groups_in(function: Callable[..., Any]) -> dict[str, type[Options]]:
    """The groups of options in a signature, by parameter; `**more: Unpack[...]` may hold some."""
    hints = get_type_hints(function, include_extras=True)
    found: dict[str, type[Options]] = {}
    for name in inspect.signature(function).parameters:
        hint = hints.get(name)
        if get_origin(hint) is Unpack:
            found |= get_type_hints(get_args(hint)[0])
        elif isinstance(hint, type) and issubclass(hint, Options):
            found[name] = hint
    return found
