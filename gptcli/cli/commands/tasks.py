"""`gptcli tasks`: list the tasks there are, show one, make one.

A task is a file; these commands find, print and create such files. Not here: running a task is in
`gptcli.cli.commands.task`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from gptcli.cli.command_groups import Listing, group
from gptcli.cli.completion import candidates
from gptcli.cli.output.sink import opened, write, write_json
from gptcli.cli.output.table import table
from gptcli.cli.root import register
from gptcli.cli.session import Session
from gptcli.errors import CannotCreate
from gptcli.options import AsJson, Output, Overwrite, Talk
from gptcli.system.os_errors import reason
from gptcli.tasks.definition import catalog, schema

Name = Annotated[
    str,
    typer.Argument(help="The name of a task.", show_default=False, autocompletion=candidates.tasks),
]

tasks = group(
    "List, show and make tasks. A task is a small text file: a prompt and how to use it.", Listing
)


def list_tasks(*, shape: AsJson, talk: Talk) -> None:
    """List your tasks, the built-in ones, and those of packages. The default command."""
    found = catalog.listing()
    if shape.json:
        write_json([item.to_dict() for item in found])
        return
    write(table([(item.name, _origin(item), _said(item)) for item in found]))
    broken = sum(bool(item.error) for item in found)
    if broken:
        Session.of(talk).note(f"{broken} of {len(found)} cannot be used")


def show(name: Name, *, shape: AsJson, talk: Talk) -> None:
    """Print the file of a task; with --json the parsed task."""
    if shape.json:
        write_json(asdict(catalog.find(name)))
    else:
        write(schema.read_text(catalog.locate(name)))


def new(
    name: Annotated[str, typer.Argument(help="A name for the task.", show_default=False)],
    *,
    overwrite: Overwrite,
    talk: Talk,
) -> None:
    """Create a file for a task of your own, to be edited; prints its path.

    A task of your own replaces another of the same name.
    """
    catalog.check_name(name)
    path = catalog.user_folder() / f"{name}{catalog.SUFFIX}"
    hidden = name in catalog.names() and not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = reason(error)
        raise CannotCreate(str(path.parent), why, "Check the folders above it.") from None
    skeleton = catalog.SKELETON.read_text(encoding="utf-8")
    with opened(Output(output=str(path), force=overwrite.force)) as out:
        out.write(skeleton.replace("NAME", name))
    write(f"{path}\n")
    if hidden:
        Session.of(talk).note(f"from now on this is the task {name}, in place of the one there was")


def path(
    name: Annotated[
        str | None,
        typer.Argument(
            help="The name of a task.", show_default=False, autocompletion=candidates.tasks
        ),
    ] = None,
    *,
    talk: Talk,
) -> None:
    """Print the folder of your own tasks, or the file of the task NAME."""
    found = catalog.user_folder() if name is None else catalog.locate(name)
    write(f"{found}\n")


for _name, _command in {"list": list_tasks, "show": show, "new": new, "path": path}.items():
    register(tasks, _name, _command)


def _origin(item: catalog.ListedTask) -> str:
    return f"{item.origin} (not {', '.join(item.overrides)})" if item.overrides else item.origin


def _said(item: catalog.ListedTask) -> str:
    return f"error: {item.error}" if item.error else item.description
