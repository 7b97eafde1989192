"""`gptcli cache`: what of weights in fewer bits is kept on disk, and how it is removed.

Nothing here is ever lost for good: what is removed is made again when it is asked for. Left out:
the checkpoints themselves, which are in the Hugging Face cache.
"""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gptcli import reduced
from gptcli.cli import streams
from gptcli.cli.root import Group, register
from gptcli.cli.sink import opened
from gptcli.errors import UsageError, WriteFailed
from gptcli.files import reason
from gptcli.names import ALIASES
from gptcli.options import Output, Talk
from gptcli.reduced import Entry
from gptcli.sanitizer import one_line

ALL = "gptcli cache shows them all."


class Listing(Group):
    """A group that lists when no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Options without a command are those of `list`."""
        own = {"-h", "--help"}
        named = bool(args) and (args[0] in own or not args[0].startswith("-"))
        return super().parse_args(ctx, args if named else ["list", *args])


cache = typer.Typer(
    cls=Listing,
    help="Show and remove the int8 weights kept on disk.",
    add_completion=False,
    rich_markup_mode="rich",
)


def list_weights(
    *,
    json: Annotated[
        bool, typer.Option("--json", help="Write JSON.", rich_help_panel="Output")
    ] = False,
    talk: Talk,
) -> None:
    """List what is kept: model, numbers, size, last use. This is what the bare command does."""
    found = reduced.entries()
    if json:
        shown = [entry.to_dict() for entry in found]
        _write(jsonlib.dumps(shown, ensure_ascii=False, indent=2) + "\n")
        return
    rows = [(_name(entry), entry.dtype, reduced.shown(entry.size), _used(entry)) for entry in found]
    _write(_table(rows))
    if not talk.quiet:
        total = reduced.shown(sum(entry.size for entry in found)) if found else "nothing"
        streams.note(f"{total} in {reduced.folder()}")


def clear(
    name: Annotated[
        str | None,
        typer.Argument(help="Only those of this model.", show_default=False),
    ] = None,
    *,
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="Do not ask.", rich_help_panel="General")
    ] = False,
    talk: Talk,
) -> None:
    """Remove what is kept, or only what is kept of one model."""
    found = [entry for entry in reduced.entries() if name is None or _meant(entry, name)]
    if not found:
        if name is not None:
            raise UsageError(name, "no weights of such a model are kept", ALL)
        return
    size = reduced.shown(sum(entry.size for entry in found))
    count = f"{len(found)} file{'s' if len(found) > 1 else ''}"
    if not yes and not _agreed(f"Remove {count}, {size}?"):
        return
    for entry in found:
        try:
            reduced.remove(entry)
        except OSError as error:
            hint = "Check the permissions of its folder."
            raise WriteFailed(str(entry.path), reason(error), hint) from None
    if not talk.quiet:
        streams.note(f"removed {count}, {size}")


for _command_name, _command in {"list": list_weights, "clear": clear}.items():
    register(cache, _command_name, _command)


def _agreed(question: str) -> bool:
    """Ask on the terminal. Raises UsageError where there is none."""
    stdin = streams.stdin_bytes()
    if stdin is None or not stdin.isatty():
        why = "it asks first, and standard input is no terminal"
        raise UsageError("gptcli cache clear", why, "Add -y.")
    return typer.confirm(question, err=True)


def _meant(entry: Entry, name: str) -> bool:
    """Whether a name, an alias, or the last part of either is that of an entry's model."""
    return name in (_name(entry), entry.model.rpartition("/")[2]) or (
        ALIASES.get(name, name) == entry.model
    )


def _name(entry: Entry) -> str:
    return entry.model or "(unreadable)"


def _used(entry: Entry) -> str:
    return f"{entry.used.astimezone():%Y-%m-%d %H:%M}"


def _table(rows: Sequence[tuple[str, str, str, str]]) -> str:
    """Rows as lines, columns two spaces apart, sizes to the right."""
    wide = max((len(one_line(name)) for name, *_ in rows), default=0)
    return "".join(
        f"{one_line(name).ljust(wide)}  {dtype}  {size:>6}  {used}\n"
        for name, dtype, size, used in rows
    )


def _write(text: str) -> None:
    with opened(Output()) as out:
        out.write(text)
