"""What is asked about models, and how far one may go: the options of `gptcli models`."""

from __future__ import annotations

from dataclasses import dataclass

from gptcli.specs import Options, option

ASKED = "It is asked for each time."


@dataclass(frozen=True, kw_only=True)
class Which(Options):
    """Which of several revisions is meant."""

    panel = "Model"

    revision: str | None = option(
        None, "--revision", "Branch, tag or commit; the first digits of a commit will do."
    )


@dataclass(frozen=True, kw_only=True)
class Removal(Options):
    """How a removal is agreed to."""

    panel = "General"

    yes: bool = option(False, "-y --yes", "Do not ask.", instead=ASKED)
    dry_run: bool = option(
        False, "--dry-run", "Print what would be removed, and remove nothing.", instead=ASKED
    )


@dataclass(frozen=True, kw_only=True)
class Extent(Options):
    """How much is verified."""

    panel = "Model"

    all: bool = option(False, "--all", "Every model on the machine.", instead=ASKED)


@dataclass(frozen=True, kw_only=True)
class Target(Options):
    """Where a converted checkpoint goes."""

    panel = "Output"

    output: str | None = option(
        None,
        "-o --output",
        "Make a whole model in this folder instead of adding the weights to the old one.",
        metavar="FOLDER",
        names="folder",
        instead="It is another folder each time.",
    )
    force: bool = option(False, "--force", "Overwrite what is there.", instead=ASKED)
