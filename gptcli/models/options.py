"""The options of `gptcli models`."""

from __future__ import annotations

from dataclasses import dataclass

from gptcli.options import Agreement
from gptcli.options.shared import ASKED, OVERWRITE
from gptcli.options.spec import Options, option


@dataclass(frozen=True, kw_only=True)
class Which(Options):
    """Which of several revisions is meant."""

    panel = "Model"

    revision: str | None = option(
        None,
        "--revision",
        "Branch, tag or commit; the first digits of a commit will do.",
        redeclares="what is on the disk can be named by the first digits of its commit",
    )


@dataclass(frozen=True, kw_only=True)
class Removal(Agreement):
    """How a removal is agreed to."""

    dry_run: bool = option(
        False,
        "--dry-run",
        "Print what would be removed, remove nothing.",
        instead=ASKED,
        redeclares="it is about files, not about prompts",
    )


@dataclass(frozen=True, kw_only=True)
class Extent(Options):
    """How much is verified."""

    panel = "Model"

    all: bool = option(
        False, "--all", "Every model on the machine.", instead=ASKED, redeclares="all models"
    )


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
        redeclares="it is a folder",
    )
    step: int | None = option(
        None,
        "--step",
        "Of a training run that kept several steps, take this one instead of the latest.",
        metavar="N",
        low=0,
        instead="It is another step each time.",
    )
    force: bool = OVERWRITE
