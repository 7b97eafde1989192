"""`gptcli train`: a group whose bare command trains.

`gptcli train DATA -o FOLDER` names no part; data that is called as a part is `./tokenizer`.
"""

from __future__ import annotations

from typing import Any

from gptcli.cli.command_groups import Listing, group
from gptcli.cli.registry import TRAIN
from gptcli.cli.root import LazyCommand


class Training(Listing):
    """The group of `TRAIN`; it trains where no part is named."""

    bare = "run"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for entry in TRAIN:
            self.add_command(LazyCommand(entry))

    def expanded(self, args: list[str]) -> list[str]:
        """Whatever is no part is of the bare command, its --help too."""
        named = not args or args[0] in (entry.name for entry in TRAIN)
        return args if named else [str(self.bare), *args]


train = group("Pre-train and fine-tune GPT-2 on your own text.", Training)


@train.callback()
def _train() -> None:
    """Pre-train and fine-tune GPT-2 on your own text."""
