"""`gptcli docs`: the guides that come with the package, readable offline.

A guide is a Markdown file of `gptcli/docs`; the name without its suffix is the topic. The first
line is the title. The first sentence of the next paragraph is the guide's line in the list, so that
no list of guides is kept by hand.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

import gptcli
from gptcli.cli import registry
from gptcli.cli.declaration import command
from gptcli.cli.output import pager, render
from gptcli.cli.output.sink import opened, write
from gptcli.cli.output.table import table
from gptcli.errors import MissingInput, UsageError
from gptcli.options import Output, Talk
from gptcli.system.os_errors import reason

FOLDER = Path(gptcli.__file__).with_name("docs")
LIST_HINT = "gptcli docs lists the guides."


def topics() -> list[tuple[str, str]]:
    """All topics, each with the line of its guide. Raises MissingInput."""
    if not FOLDER.is_dir():
        raise MissingInput(str(FOLDER), "this installation has no guides", "Install gptcli again.")
    return [(path.stem, _summary(_read(path))) for path in sorted(FOLDER.glob("*.md"))]


@command(configured=False)
def docs(
    topic: Annotated[
        str | None,
        typer.Argument(
            help="The guide to show.", show_default=False, autocompletion=lambda: topics()
        ),
    ] = None,
    *,
    talk: Talk,
) -> None:
    """Show a guide, or list them all.

    On a terminal a guide is shown by the pager that PAGER names, else by less. A pipe gets its
    Markdown.
    """
    if topic is None:
        write(table(topics()))
        return
    text = _read(_guide(topic))
    with opened(Output()) as out:
        if not out.terminal or os.environ.get("TERM") == "dumb":
            out.write(text)
            return
        shown = render.markdown(text)
        if not pager.page(shown):
            out.paint(shown)


def _guide(topic: str) -> Path:
    """The file of a topic. Raises UsageError, which names the nearest topic if there is one."""
    names = [name for name, _ in topics()]
    if topic in names:
        return FOLDER / f"{topic}.md"
    near = get_close_matches(topic.lower(), names, 1)
    if near:
        hint = f"Did you mean gptcli docs {near[0]}?"
    elif topic in {entry.name for entry in registry.COMMANDS}:
        hint = f"See gptcli {topic} --help. {LIST_HINT}"
    else:
        hint = LIST_HINT
    raise UsageError(topic, "there is no such guide", hint)


def _summary(text: str) -> str:
    """The first sentence of the paragraph below the title, without markup and full stop."""
    _title, _, body = text.partition("\n\n")
    paragraph = " ".join(body.partition("\n\n")[0].replace("`", "").split())
    return paragraph.partition(". ")[0].removesuffix(".")


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise MissingInput(str(path), reason(error), "Install gptcli again.") from None
