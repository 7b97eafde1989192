"""`gptcli train`: the group of its commands, listed in `gptcli.cli.registry`."""

from __future__ import annotations

from typing import Any

from gptcli.cli.command_groups import Listing, group
from gptcli.cli.registry import TRAIN
from gptcli.cli.root import LazyCommand


class Train(Listing):
    """The group of `TRAIN`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for entry in TRAIN:
            self.add_command(LazyCommand(entry))


train = group("Train models and tokenizers.", Train)


@train.callback()
def _train() -> None:
    """Train models and tokenizers on text of your own."""
