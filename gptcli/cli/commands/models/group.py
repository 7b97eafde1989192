"""`gptcli models`: know and keep the models on this machine.

The commands are listed in `gptcli.cli.registry`, each imported when called. int8 weights, which are
made again whenever they are missing, have a command of their own: `gptcli.cli.commands.cache`.
"""

from __future__ import annotations

from typing import Any

from gptcli.cli.command_groups import Listing, group
from gptcli.cli.registry import MODELS
from gptcli.cli.root import LazyCommand


class Models(Listing):
    """The group of `MODELS`; it lists when no command is named."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for entry in MODELS:
            self.add_command(LazyCommand(entry))


models = group("Manage the models on this machine.", Models)


@models.callback()
def _models() -> None:
    """Manage the models on this machine: those of the Hugging Face cache and ours."""
