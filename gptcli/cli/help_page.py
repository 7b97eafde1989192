"""The page of --help: what is used often on one screen, everything with --help-all.

Not Typer's page: its tables cut long flags at 80 columns and load Rich. Here a flag is never cut:
where it is too long for its column, its help begins on the next line. The declaration of an option
says whether it is rare, and names a default that is no value (`gptcli.options.spec.Spec`).
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperOption

from gptcli.cli.output import stderr
from gptcli.options.spec import Spec
from gptcli.system.sanitizer import one_line
from gptcli.system.text import word_wrap
from gptcli.system.text.characters import filled, width

MIN_WIDTH, MAX_WIDTH = 40, 100  # characters of a line
COLUMN = 31  # characters for a flag and its value
MAX_SHOWN_BOUND = 10**6  # a larger bound is no help to a reader
MAX_CHOICES_WIDTH = 20  # characters of choices that stand beside the flag
MAX_DEFAULT_WIDTH = 30  # characters that are kept in one line
HELP_ALL = "--help-all"
GENERAL = "General"
JOINED = "\0"  # a space that must not become a line break
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"
EPILOG = (
    "Options can also be set in config.toml (top_p = 0.9) or as variables (GPTCLI_TOP_P=0.9)."
    " Flags win over variables, variables over the file."
)
SHARED = (
    "At the top of config.toml and in a variable, an option is for all commands that have it; a"
    " command skips a value that only other commands accept."
)
MORE = "More options: {path} --help-all"


@dataclass(frozen=True)
class HelpRow:
    """A flag, an argument or a command, and what it is."""

    panel: str
    left: str
    help: str


def everything() -> TyperOption:
    """The option --help-all of a command."""

    def show(ctx: Any, param: Any, asked: bool) -> None:
        if asked and not ctx.resilient_parsing:
            typer.echo(page(ctx.command, ctx, everything=True).rstrip("\n"))
            ctx.exit()

    return TyperOption(
        param_decls=[HELP_ALL],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show all options.",
    )


def page(command: Any, ctx: Any, *, everything: bool) -> str:
    """The help of one command."""
    examples = command.declared.examples
    shown = [*_opening(command, ctx), *_panels(_rows(command, ctx, everything))]
    if examples:
        shown += [_heading("Examples"), *(f"  {one_line(example)}" for example in examples)]
    shown.append("")
    if not everything and any(spec.rare for spec in command.specs.values()):
        shown.append(MORE.format(path=ctx.command_path))
    return "\n".join([*shown, *_wrapped(f"{EPILOG} {SHARED}" if everything else EPILOG), ""])


def overview(group: Any, ctx: Any) -> str:
    """The help of a group: its commands, and what it takes where no command is named."""
    rows = list(_commands(group, ctx))
    shown = [*_opening(group, ctx), *_panels(rows)]
    bare = group.real(ctx, group.bare) if group.bare else None
    if bare is not None:
        within = typer.Context(bare, info_name=group.bare, parent=ctx, resilient_parsing=True)
        shown += ["", *_wrapped(f"Without a command: {ctx.command_path} {_usage(bare, within)}")]
        shown += _panels(_rows(bare, within, everything=False))
        if any(spec.rare for spec in bare.specs.values()):
            shown += ["", MORE.format(path=within.command_path)]
    else:
        shown += _panels(_row(param, ctx) for param in group.get_params(ctx))
    path = ctx.command_path
    return "\n".join([*shown, "", f"Options of a command: {path} COMMAND --help", ""])


def _opening(command: Any, ctx: Any) -> Iterator[str]:
    """The usage, and what the command does."""
    yield from _wrapped(f"Usage: {ctx.command_path} {_usage(command, ctx)}", indent=7)
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield ""
        yield from _wrapped(one_line(" ".join(paragraph.split())))


def _usage(command: Any, ctx: Any) -> str:
    """What follows the name of a command."""
    arguments = [
        _named(param) if param.required or _named(param).startswith("[") else f"[{_named(param)}]"
        for param in command.params
        if param.param_type_name == "argument"
    ]
    after = command.collect_usage_pieces(ctx)[1 + len(arguments) :]  # COMMAND, of a group
    return " ".join(["[OPTIONS]", *arguments, *after])


def _named(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _commands(group: Any, ctx: Any) -> Iterator[HelpRow]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is not None and not command.hidden:
            summary = inspect.cleandoc(command.help or "").partition("\n\n")[0]
            yield HelpRow(command.rich_help_panel or "Commands", name, " ".join(summary.split()))


def _rows(command: Any, ctx: Any, everything: bool) -> Iterator[HelpRow]:
    """Arguments and options, those that are rare only on request."""
    for param in command.get_params(ctx):
        spec = command.specs.get(param.name)
        if spec is None or everything or not spec.rare:
            yield _row(param, ctx, spec, param.name in command.from_file, everything)


def _row(
    param: Any, ctx: Any, spec: Spec | None = None, from_file: bool = False, everything: bool = True
) -> HelpRow:
    if param.param_type_name == "argument":
        return HelpRow(
            "Arguments", _named(param).replace("[", "").replace("]", ""), param.help or ""
        )
    shorts = [flag for flag in param.opts if not flag.startswith("--")]
    longs = [flag for flag in param.opts if flag.startswith("--")]
    names = " / ".join([*longs[:1], *param.secondary_opts])
    value, choices = _value(param, spec)
    left = f"{shorts[0] + ', ' if shorts else '    '}{names}{value and ' ' + value}"
    also = f"(also {', '.join(longs[1:])})" if longs[1:] and everything else ""
    parts = [param.help or "", also, choices, _range(spec), _default(param, ctx, spec, from_file)]
    return HelpRow(param.rich_help_panel or GENERAL, left, " ".join(filter(None, parts)))


def _value(param: Any, spec: Spec | None) -> tuple[str, str]:
    """What stands for an option's value, and its choices where they are too long for that."""
    if param.is_flag:
        return "", ""
    if param.metavar:
        return param.metavar, ""
    choices = getattr(param.type, "choices", None)
    if choices is None:
        numbers = getattr(param.type, "name", "") in ("int", "float", "integer")
        named = spec.names if spec and spec.names else ""
        return ("N" if numbers else "FILE" if named in ("file", "folder") else "TEXT"), ""
    joined = "|".join(map(str, choices))
    return (joined, "") if len(joined) <= MAX_CHOICES_WIDTH else ("CHOICE", f"({joined})")


def _range(spec: Spec | None) -> str:
    """The range, if both ends are of use to a reader."""
    if spec is None or spec.high is None:
        return ""
    short = all(bound is None or bound < MAX_SHOWN_BOUND for bound in (spec.high, spec.low))
    return f"({spec.range})".replace(" ", JOINED) if short else ""


def _default(param: Any, ctx: Any, spec: Spec | None, from_file: bool) -> str:
    if spec is None:
        return ""
    if spec.shown_default and not from_file:
        text = spec.shown_default
    else:
        text = _shown(param, param.get_default(ctx, call=False))
    shown = f"[default: {text}]" if text else ""
    return shown.replace(" ", JOINED) if len(shown) <= MAX_DEFAULT_WIDTH else shown


def _shown(param: Any, value: Any) -> str:
    """A default as --help shows it; nothing for what is off or empty."""
    if param.secondary_opts and isinstance(value, bool):
        return str((param.opts if value else param.secondary_opts)[0]).lstrip("-")
    if value is None or value is False:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(_shown(param, item) for item in value)
    return one_line(str(value))


def _panels(rows: Iterator[HelpRow] | Sequence[HelpRow]) -> Iterator[str]:
    """Rows by panel, in the order in which panels come up, general options last."""
    panels: dict[str, list[HelpRow]] = {}
    for row in rows:
        panels.setdefault(row.panel, []).append(row)
    for panel in sorted(panels, key=GENERAL.__eq__):
        yield _heading(panel)
        for row in panels[panel]:
            yield from _lines(row)


def _lines(row: HelpRow) -> Iterator[str]:
    """A row: two columns, or one below the other where the left one is too long."""
    left = f"  {one_line(row.left)}"
    beside = width(left) < COLUMN
    first = filled(left, COLUMN) if beside else " " * COLUMN
    if not beside or not row.help:
        yield left
    for line in _wrapped(one_line(row.help.replace(JOINED, "\u00a0")), indent=COLUMN):
        yield (first + line.lstrip()).replace("\u00a0", " ")
        first = " " * COLUMN


def _wrapped(text: str, indent: int = 0) -> list[str]:
    """Text cut into lines, all but the first indented; in columns the first is as short."""
    room = max(MIN_WIDTH, min(MAX_WIDTH, shutil.get_terminal_size().columns))
    before = " " * indent
    first = before if indent == COLUMN else ""
    cut = word_wrap.lines(text, room - len(before), room - len(first))
    return [(before if place else first) + line for place, line in enumerate(cut)]


def _heading(panel: str) -> str:
    room = max(MIN_WIDTH, min(MAX_WIDTH, shutil.get_terminal_size().columns))
    line = filled(f"─ {one_line(panel)} ", room, "─")
    return f"{BOLD}{line}{PLAIN}" if stderr.styled(stderr.stdout_is_terminal()) else line
