"""`gptcli models`: know and keep the models on this machine.

The commands are listed here as those of the root are: a line each, imported when called. Left out:
int8 weights, which are made again whenever they are missing, see `gptcli.cli.cache`.
"""

from __future__ import annotations

from typing import Any

from gptcli.cli.listing import Listing, group
from gptcli.cli.registry import Entry
from gptcli.cli.root import Listed

PARTS = (
    Entry(
        "list", "gptcli.cli.modellist", "List the models on this machine.", attribute="list_models"
    ),
    Entry("info", "gptcli.cli.modelinfo", "Show what is known of a model, without loading it."),
    Entry("path", "gptcli.cli.modelinfo", "Print the folder of a model."),
    Entry("verify", "gptcli.cli.verification", "Compare a model's files with their checksums."),
    Entry(
        "pull",
        "gptcli.cli.pull",
        "Download a model, or what is new of it, and check its files.",
    ),
    Entry("rm", "gptcli.cli.removal", "Remove a model from the cache."),
    Entry("alias", "gptcli.cli.aliases", "Give models short names of your own."),
    Entry("convert", "gptcli.cli.conversion", "Make safetensors of pickled weights."),
)


class Models(Listing):
    """The group of `PARTS`; it lists when no command is named."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for entry in PARTS:
            self.add_command(Listed(entry))


models = group("Know and keep the models on this machine.", Models)


@models.callback()
def _models() -> None:
    """Know and keep the models on this machine: those of the Hugging Face cache and ours."""
