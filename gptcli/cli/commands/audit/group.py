"""`gptcli audit`: a model's bias and toxicity, measured.

The commands are listed in `gptcli.cli.registry`, each imported when called.
"""

from __future__ import annotations

from typing import Any

from gptcli.cli.command_groups import group
from gptcli.cli.registry import AUDIT
from gptcli.cli.root import Group, LazyCommand


class Audit(Group):
    """The group of `AUDIT`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for entry in AUDIT:
            self.add_command(LazyCommand(entry))


audit = group("Measure the bias and the toxicity of a model.", Audit)


@audit.callback()
def _audit() -> None:
    """Measure the bias and the toxicity of a model; gptcli docs audit says what numbers mean."""
