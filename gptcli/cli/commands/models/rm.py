"""`gptcli models rm`: take a model out of the Hugging Face cache, having asked."""

from __future__ import annotations

from typing import Annotated

import typer

from gptcli.cli.completion import candidates
from gptcli.cli.declaration import command
from gptcli.cli.output.sink import write, write_json
from gptcli.cli.session import Session
from gptcli.models.options import Removal, Which
from gptcli.models.removal import RemovalPlan, plans, remove
from gptcli.options import AsJson, Talk
from gptcli.system.sanitizer import one_line
from gptcli.system.units import model_size

COMMAND = "gptcli models rm"


@command(naming=("name",))
def rm(
    name: Annotated[
        str,
        typer.Argument(
            help="A model of the cache: Hub id or alias.",
            show_default=False,
            autocompletion=candidates.models,
        ),
    ],
    *,
    which: Which,
    removal: Removal,
    shape: AsJson,
    talk: Talk,
) -> None:
    """Remove a model from the cache, or one revision of it; it can be fetched again.

    --dry-run prints what would go: with --json as a list of models, their bytes and paths.
    """
    session = Session.of(talk)
    found = plans(name, which.revision)
    if removal.dry_run:
        _show(found, shape.json)
        return
    size = model_size(sum(plan.size for plan in found))
    what = " and ".join(_named(plan) for plan in found)
    if not removal.yes and not session.agreed(f"Remove {what}, {size}?", COMMAND):
        return
    for plan in found:
        remove(plan)
    if shape.json:
        _show(found, True)
    session.note(f"removed {what}, {size}")
    for entry in (entry for plan in found for entry in plan.packed):
        session.note(
            f"{model_size(entry.size)} of int8 weights made from it are still kept: to remove them,"
            f" gptcli cache clear {entry.model}"
        )


def _show(found: list[RemovalPlan], json: bool) -> None:
    if json:
        write_json([plan.to_dict() for plan in found])
    else:
        write("".join(one_line(str(path)) + "\n" for plan in found for path in plan.paths))


def _named(plan: RemovalPlan) -> str:
    return f"{plan.model} at {plan.revision[:7]}" if plan.revision else plan.model
