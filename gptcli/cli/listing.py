"""What commands that list and remove things share: group, table, question, output."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Collection, Sequence

import typer

from gptcli.cli import streams
from gptcli.cli.root import Group
from gptcli.cli.sink import opened
from gptcli.errors import UsageError
from gptcli.options import Output
from gptcli.sanitizer import one_line


class Listing(Group):
    """A group that lists when no command is named."""

    bare = "list"

    def expanded(self, args: list[str]) -> list[str]:
        """Options without a command are those of the bare one."""
        own = {"-h", "--help"}
        named = bool(args) and (args[0] in own or not args[0].startswith("-"))
        return args if named else [str(self.bare), *args]


class Showing(Listing):
    """A group that shows when no command is named."""

    bare = "show"


def group(help: str, kind: type[Group] = Group) -> typer.Typer:
    """An empty Typer app of commands, to be filled by `gptcli.cli.root.register`."""
    return typer.Typer(cls=kind, help=help, add_completion=False, rich_markup_mode=None)


def table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Rows as lines, columns two spaces apart, those in `right` to the right; all sanitised."""
    shown = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]

    def line(row: list[str]) -> str:
        cells = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip() + "\n"

    return "".join(map(line, shown))


def agreed(question: str, command: str) -> bool:
    """Ask on the terminal. Raises UsageError, naming the command, where there is none."""
    stdin = streams.stdin_bytes()
    if stdin is None or not stdin.isatty():
        why = "it asks first, and standard input is no terminal"
        raise UsageError(command, why, "Add -y.")
    return typer.confirm(question, err=True)


def write(text: str) -> None:
    """Write to standard output."""
    with opened(Output()) as out:
        out.write(text)


def write_json(value: object) -> None:
    """Write a value to standard output as indented JSON."""
    write(jsonlib.dumps(value, ensure_ascii=False, indent=2) + "\n")
