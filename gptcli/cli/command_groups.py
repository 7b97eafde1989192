"""The groups of commands that list, show and remove things."""

from __future__ import annotations

import typer

from gptcli.cli.root import Group


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
