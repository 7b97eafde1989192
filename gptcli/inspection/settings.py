"""The options of `gptcli inspect`: what is looked at, and where it is written.

Layers, heads and positions are counted from 0, as in transformers. Left out: the model, the input
and the sampling filters, which other commands have too.
"""

# ruff: noqa: RUF009 - option() returns a dataclass field

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.errors import UsageError
from gptcli.inspection.reading import STEPS, Method
from gptcli.options import Format
from gptcli.specs import Options, option

MOST_SHOWN = 100  # alternatives of a token


@dataclass(frozen=True, kw_only=True)
class Report(Options):
    """Where a view goes, and in which shapes."""

    panel = "Output"

    output: str | None = option(
        None, "-o --output", "Write to a file instead of standard output.", names="file"
    )
    force: bool = option(False, "--force", "Overwrite files.")
    format: Format = option("text", "--format", "text, json, or jsonl: JSON in one line.")
    json: bool = option(
        False, "--json", "The same as --format json.", instead='Write format = "json".'
    )
    html: str | None = option(
        None, "--html", "Write a page for a browser as well.", metavar="FILE", names="file"
    )
    svg: str | None = option(None, "--svg", "Write a plot as well.", metavar="FILE", names="file")
    png: str | None = option(
        None,
        "--png",
        "Write the plot's pixels as well, without words.",
        metavar="FILE",
        names="file",
    )
    npz: str | None = option(
        None, "--npz", "Write the numbers as numpy arrays as well.", metavar="FILE", names="file"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape == "csv":
            why = "a view is no table"
            raise UsageError("--format csv", why, "Say --json or --npz FILE.")

    @property
    def shape(self) -> Format:
        """The format asked for, by either flag."""
        return "json" if self.json else self.format


@dataclass(frozen=True, kw_only=True)
class Reading(Options):
    """How a text is read and shown token by token."""

    panel = "View"

    table: bool = option(
        False, "--table", "A line a token, in place of the coloured text; always so on a pipe."
    )
    by: Literal["rank", "probability"] = option(
        "rank", "--by", "Colour tokens by rank (top 10, 100, 1000, beyond), or probability."
    )
    top: int = option(
        5, "--top", "How many of the likeliest tokens each place has.", low=0, high=MOST_SHOWN
    )
    bos: bool = option(
        True,
        "--bos/--no-bos",
        "Put <|endoftext|> before the text, so that its first token is expected too.",
    )
    stride: int | None = option(
        None,
        "--stride",
        "How far the window moves over a text beyond the context.  [default: half of it]",
        low=1,
        high=10**9,
    )


@dataclass(frozen=True, kw_only=True)
class Next(Options):
    """How much of the next token's distribution is shown."""

    panel = "View"

    top: int = option(20, "--top", "How many tokens, the likeliest first.", low=1, high=10**6)


@dataclass(frozen=True, kw_only=True)
class Attention(Options):
    """Which layers and heads."""

    panel = "View"

    layer: int | None = option(
        None, "--layer", "The layer, from 0.  [default: the last]", low=0, high=10**6
    )
    head: int | None = option(
        None, "--head", "The head, from 0.  [default: the mean of all]", low=0, high=10**6
    )
    all: bool = option(False, "--all", "A small map of every head of every layer asked for.")


@dataclass(frozen=True, kw_only=True)
class Lens(Options):
    """Which place of the text is read through the lens."""

    panel = "View"

    position: int | None = option(
        None, "--position", "After which token, from 0.  [default: the last]", low=0, high=10**9
    )
    top: int = option(
        5, "--top", "How many of the likeliest tokens each layer has.", low=1, high=MOST_SHOWN
    )
    all: bool = option(False, "--all", "The likeliest token after each token, layer by layer.")


@dataclass(frozen=True, kw_only=True)
class Attribution(Options):
    """What is explained, and how."""

    panel = "View"

    target: str | None = option(
        None,
        "--target",
        "The next token to be explained: its text or id.  [default: the likeliest]",
        metavar="TOKEN",
    )
    method: Method = option("gradient-x-input", "--method", "How scores are found.")
    steps: int = option(
        STEPS, "--steps", "Points of integrated gradients; more are more exact.", low=1, high=1000
    )
