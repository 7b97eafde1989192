"""`gptcli models`: the models on this machine."""

from __future__ import annotations

from gptcli.cli.aliases import alias
from gptcli.cli.listing import Listing, group

models = group("Know and keep the models on this machine.", Listing)
models.add_typer(alias, name="alias")
