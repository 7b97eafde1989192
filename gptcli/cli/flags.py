"""Options dataclasses as command-line flags: `with_options`.

A command is a plain function whose parameters are groups of options; here each field of a group
becomes one Typer option, and the group is built again before the call. So an option is declared
once, in its group, and a command can be called from a test without a command line. The
configuration file enters as Click's defaults in `gptcli.cli.root`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, fields, replace
from typing import Annotated, Any, Unpack, get_origin, get_type_hints

import typer

from gptcli.cli.completion.candidates import NAMED
from gptcli.cli.declaration import attach, declaration_of
from gptcli.errors import UsageError
from gptcli.options.registry import declared
from gptcli.options.spec import Options, Spec, environment_name, flag_of, spec_of

Parse = Callable[[str], Any]


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that Typer can read: one parameter per field of each group of options.

    Other parameters stay as they are. The result carries the command's declaration, with its groups
    and with the options that name a model.
    """
    declaration = declaration_of(command)
    groups = declaration.groups

    def flat(**flags: Any) -> Any:
        built = {name: _build(group, flags) for name, group in groups.items()}
        return call(command, {**flags, **built})

    flat.__name__, flat.__doc__, flat.__module__ = (
        command.__name__,
        command.__doc__,
        command.__module__,
    )
    parameters = list(_parameters(command, groups))
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    naming = (*_naming("model", groups.values()), *declaration.naming)
    return attach(flat, replace(declaration, naming=naming))


def call(command: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call a command with its arguments and groups, built and checked; a test may replace it."""
    return command(**arguments)


def known_as(flag: str) -> str:
    """A flag as an error quotes it: with its environment variable where that is set, too."""
    variable = environment_name(flag.removeprefix("--").replace("-", "_"))
    return f"{flag} (or {variable})" if variable in os.environ else flag


def _naming(kind: str, groups: Iterable[type[Options]]) -> tuple[str, ...]:
    """The fields whose values are names of such a thing."""
    items = [item for group in groups for item in fields(group)]  # type: ignore[arg-type]
    return tuple(item.name for item in items if spec_of(item).names == kind)


def _parameters(
    command: Callable[..., Any], groups: Mapping[str, type[Options]]
) -> Iterator[inspect.Parameter]:
    """Parameters for Typer: the command's own, and for each group one a field."""
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters
    for name, parameter in parameters.items():
        if name in groups:
            yield from _flags(groups[name])
        elif get_origin(hints[name]) is Unpack:
            for more in [more for more in groups if more not in parameters]:
                yield from _flags(groups[more])
        else:
            kind = inspect.Parameter.KEYWORD_ONLY
            yield parameter.replace(kind=kind, annotation=hints[name])


def _flags(group: type[Options]) -> Iterator[inspect.Parameter]:
    for option in declared(group):
        yield inspect.Parameter(
            option.item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=option.item.default,
            annotation=_annotation(option.item, option.hint, group.panel),
        )


def _annotation(item: Field[Any], kind: Any, panel: str) -> Any:
    """The field's type as Typer wants it, with everything that its `Spec` says."""
    spec = spec_of(item)
    repeatable = get_origin(kind) is tuple
    return Annotated[
        list[str] if repeatable else kind,
        typer.Option(
            *spec.flags,
            help=spec.help,
            metavar=spec.metavar,
            envvar=None if spec.instead else environment_name(item.name),
            show_envvar=False,  # all have one: said once, below the help
            rich_help_panel=spec.panel or panel,
            parser=_parser(item, spec) if repeatable or spec.parse else None,
            autocompletion=NAMED[spec.names] if spec.names else None,
        ),
    ]


def _parser(item: Field[Any], spec: Spec) -> Parse:
    def parse(text: Any) -> Any:
        if not isinstance(text, str):  # the dataclass's own default, parsed already
            return text
        decoded = _decoded(text, flag_of(item))
        return spec.parse(decoded) if spec.parse else decoded

    return parse


def _decoded(text: str, flag: str) -> str:
    """The UTF-8 text that the shell passed, also where the locale says otherwise."""
    try:
        text = os.fsencode(text).decode("utf-8")
    except UnicodeEncodeError:  # not from the command line: a configuration file's
        return text
    except UnicodeDecodeError as error:
        raise UsageError(
            flag, f"invalid UTF-8 at byte {error.start}", "Give the text as UTF-8."
        ) from None
    return text


def _build(group: type[Options], flags: dict[str, Any]) -> Options:
    """Take the group's values out of `flags`. Raises UsageError when one is out of range."""
    values = {item.name: flags.pop(item.name) for item in fields(group)}  # type: ignore[arg-type]
    for name, value in values.items():
        values[name] = tuple(value) if isinstance(value, list) else value
    try:
        return group(**values)
    except UsageError as error:
        told = error.in_flags
        raise UsageError(known_as(told.what), told.why, told.hint) from None
