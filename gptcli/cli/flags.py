"""Options dataclasses as command-line flags: `with_options`.

A command is a plain function whose parameters are groups of options; here each field of a group
becomes one Typer option, and the group is built again before the call. So an option is declared
once, in `gptcli.options`, and a command can be called from a test without a command line. Left out:
the configuration file, which enters as Click's defaults in `gptcli.cli.root`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import Field, fields
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from gptcli.cli.candidates import NAMED
from gptcli.errors import UsageError
from gptcli.specs import Options, Spec, environment_name, flag_of, spec_of

LONGEST_RANGE = 10**6  # a larger bound is no help to a reader
Parse = Callable[[str], Any]


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that Typer can read: one parameter per field of each group of options.

    Other parameters stay as they are. The result carries the groups as its attribute `groups`, as
    `models` the options that name a model with the arguments that `command.naming` says do, and
    what `command` has of `presets` (see `gptcli.cli.root.Presets`) and `table` (the configuration's
    table for it).
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if _is_group(hint)}

    def flat(**flags: Any) -> Any:
        built = {name: _build(group, flags) for name, group in groups.items()}
        return command(**{**flags, **built})

    flat.__name__, flat.__doc__, flat.__module__ = (
        command.__name__,
        command.__doc__,
        command.__module__,
    )
    flat.__signature__ = inspect.Signature(list(_parameters(command, hints)))  # type: ignore[attr-defined]
    flat.groups = tuple(groups.values())  # type: ignore[attr-defined]
    naming = (*_naming("model", groups.values()), *getattr(command, "naming", ()))
    flat.models = naming  # type: ignore[attr-defined]
    for name in ("presets", "table"):
        if hasattr(command, name):
            setattr(flat, name, getattr(command, name))
    return flat


def known_as(flag: str) -> str:
    """A flag as an error quotes it: with its environment variable where that is set, too."""
    variable = environment_name(flag.removeprefix("--").replace("-", "_"))
    return f"{flag} (or {variable})" if variable in os.environ else flag


def _naming(kind: str, groups: Iterable[type[Options]]) -> tuple[str, ...]:
    """The fields whose values are names of such a thing."""
    items = [item for group in groups for item in fields(group)]  # type: ignore[arg-type]
    return tuple(item.name for item in items if spec_of(item).names == kind)


def _is_group(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Options)


def _parameters(command: Callable[..., Any], hints: dict[str, Any]) -> Iterator[inspect.Parameter]:
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if not _is_group(hint):
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hint)
            continue
        kinds = get_type_hints(hint)
        for item in fields(hint):
            yield inspect.Parameter(
                item.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=item.default,
                annotation=_annotation(item, kinds[item.name], hint.panel),
            )


def _annotation(item: Field[Any], kind: Any, panel: str) -> Any:
    """The field's type as Typer wants it, with everything that its `Spec` says."""
    spec = spec_of(item)
    repeatable = get_origin(kind) is tuple
    return Annotated[
        list[str] if repeatable else kind,
        typer.Option(
            *spec.flags,
            help=_help(spec),
            metavar=spec.metavar,
            envvar=None if spec.instead else environment_name(item.name),
            show_envvar=False,  # all have one: said once, below the help
            rich_help_panel=spec.panel or panel,
            parser=_parser(item, spec) if repeatable or spec.parse else None,
            autocompletion=NAMED[spec.names] if spec.names else None,
        ),
    ]


def _help(spec: Spec) -> str:
    """The help text with its range, brackets escaped because Typer's help is Rich markup."""
    text, bracket, default = spec.help.partition("  [default:")
    short = all(bound is None or bound < LONGEST_RANGE for bound in (spec.high, spec.low))
    bounded = spec.high is not None and short
    text = f"{text} ({spec.range})" if bounded else text
    return (text + bracket + default).replace("[", r"\[")


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
        raise UsageError(known_as(error.what), error.why, error.hint) from None
