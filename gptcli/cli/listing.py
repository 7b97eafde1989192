"""The groups of commands that list, show and remove things, and the flags these share."""

from __future__ import annotations

from typing import Annotated, ClassVar

import typer

from gptcli.cli.root import Group

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.", rich_help_panel="Output")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.", rich_help_panel="General")]


class Listing(Group):
    """A group that lists when no command is named."""

    bare: ClassVar[str] = "list"

    def expanded(self, args: list[str]) -> list[str]:
        """Options without a command are those of the bare one."""
        own = {"-h", "--help"}
        named = bool(args) and (args[0] in own or not args[0].startswith("-"))
        return args if named else [self.bare, *args]


class Showing(Listing):
    """A group that shows when no command is named."""

    bare = "show"


def group(help: str, kind: type[Group] = Group) -> typer.Typer:
    """An empty Typer app of commands, to be filled by `gptcli.cli.root.register`."""
    return typer.Typer(cls=kind, help=help, add_completion=False, rich_markup_mode="rich")
