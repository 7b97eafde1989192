"""`gptcli models alias`: short names of your own for models, kept in config.toml."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from gptcli.checkpoints.names import ALIASES, BUNDLED, check_hub_id
from gptcli.checkpoints.resolve import looks_like_path
from gptcli.cli.command_groups import Listing, group
from gptcli.cli.completion import candidates
from gptcli.cli.declaration import command
from gptcli.cli.output.sink import write, write_json
from gptcli.cli.output.table import table
from gptcli.cli.root import register
from gptcli.cli.session import Session
from gptcli.config import aliases, editing, place, reading
from gptcli.errors import UsageError
from gptcli.options import AsJson, Talk
from gptcli.options.shared import ASKED
from gptcli.options.spec import Options, option

HOME = "Write the whole path."
Name = Annotated[str, typer.Argument(help="The short name.", show_default=False)]


@dataclass(frozen=True, kw_only=True)
class Listed(Options):
    """Which names are listed."""

    panel = "Output"

    all: bool = option(
        False,
        "--all",
        "List those of gptcli, too.",
        instead=ASKED,
        redeclares="all names",
    )


alias = group("Give models short names of your own.", Listing)


@command(configured=False)
def add(
    name: Name,
    model: Annotated[
        str,
        typer.Argument(
            help="A folder, a Hub id, or a name such as gpt2.",
            show_default=False,
            autocompletion=candidates.models,
        ),
    ],
    *,
    talk: Talk,
) -> None:
    """Let NAME stand for MODEL wherever a model is asked for."""
    known = _known(talk)
    if model not in ALIASES and model != BUNDLED:
        if model in known:
            why = f"{model} is an alias itself"
            raise UsageError("alias", why, f"Name what it stands for: {known[model]}.")
        if looks_like_path(model):
            try:
                model = str(Path(model).expanduser().absolute())  # it holds wherever one stands
            except RuntimeError:
                raise UsageError("alias", f"no user has the home folder of {model}", HOME) from None
        else:
            check_hub_id(model)
    aliases.check(name, model)
    editing.put(place(talk.config), (reading.ALIAS_TABLE, name), model)
    if name in known and known[name] != model:
        Session.of(talk).note(f"{name} stood for {known[name]} until now")


@command(configured=False)
def rm(name: Name, *, talk: Talk) -> None:
    """Take a short name away; the model stays."""
    if name not in _known(talk):
        hint = "gptcli models alias list shows yours; those of gptcli stay."
        raise UsageError("alias", f"there is no {name[:40]!r} of your own", hint)
    editing.drop(place(talk.config), (reading.ALIAS_TABLE, name))


@command(configured=False)
def list_aliases(
    *,
    extent: Listed,
    shape: AsJson,
    talk: Talk,
) -> None:
    """List your short names and what they stand for. The default command."""
    found = _known(talk) | (ALIASES if extent.all else {})
    if shape.json:
        write_json(found)
    else:
        write(table(list(found.items())))


for _name, _command in {"add": add, "rm": rm, "list": list_aliases}.items():
    register(alias, _name, _command)


def _known(talk: Talk) -> dict[str, str]:
    path = place(talk.config)
    return aliases.aliases(path, reading.read(path)) if os.path.exists(path) else {}  # noqa: PTH110
