"""`gptcli models`: know and keep the models on this machine."""

from __future__ import annotations

from gptcli.cli.listing import group
from gptcli.cli.pull import pull
from gptcli.cli.root import register

models = group("Know and keep the models on this machine.")


@models.callback()
def _models() -> None:
    """Know and keep the models on this machine."""


register(models, "pull", pull)
