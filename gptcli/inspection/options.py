"""The options of `gptcli inspect`: what is looked at, and where it is written.

Layers, heads and positions count from 0. Every view that a model makes has --bos/--no-bos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from gptcli.inspection.reading import STEPS, Method
from gptcli.options.formats import format_of, holds
from gptcli.options.shared import BOS, FORCE, JSON, OUTPUT, STRIDE
from gptcli.options.spec import Options, option

ViewFormat = Literal["text", "json", "jsonl", "csv", "tsv", "html", "svg", "png", "npz"]
FORMATS: tuple[ViewFormat, ...] = get_args(ViewFormat)
MAX_ALTERNATIVES = 100  # of a token


@dataclass(frozen=True, kw_only=True)
class ViewOutput(Options):
    """Where a view goes, and in which shapes."""

    panel = "Output"

    output: str | None = OUTPUT
    force: bool = FORCE
    format: ViewFormat | None = option(
        None,
        "--format",
        "Format of the view; jsonl is JSON in one line, csv has a row for each number.",
        shown_default="by the suffix of -o, else text",
        redeclares="a view is also a plot or a page",
    )
    json: bool = JSON
    html: str | None = option(
        None,
        "--html",
        "Write a page for a browser as well.",
        metavar="FILE",
        names="file",
        check=holds("html", "--html"),
    )
    svg: str | None = option(
        None,
        "--svg",
        "Write a plot as well.",
        metavar="FILE",
        names="file",
        check=holds("svg", "--svg"),
    )
    png: str | None = option(
        None,
        "--png",
        "Write the plot as a picture as well; letters beyond ASCII are in --svg alone.",
        metavar="FILE",
        names="file",
        check=holds("png", "--png"),
    )
    npz: str | None = option(
        None,
        "--npz",
        "Write the numbers as numpy arrays as well.",
        metavar="FILE",
        names="file",
        check=holds("npz", "--npz"),
    )

    @property
    def shape(self) -> ViewFormat:
        """The format: of a flag, else of the suffix of --output. Raises UsageError."""
        return "json" if self.json else self.format or format_of(self.output, FORMATS, "text")


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(Options):
    """How a text is read and shown token by token."""

    panel = "View"

    table: bool = option(
        False, "--table", "Print one line per token, not coloured text; always so on a pipe."
    )
    by: Literal["rank", "probability"] = option(
        "rank", "--by", "Colour tokens by rank (top 10, 100, 1000, beyond), or probability."
    )
    top: int = option(
        5,
        "--top",
        "How many of the likeliest tokens to show at each position.",
        low=0,
        high=MAX_ALTERNATIVES,
        redeclares="it counts alternatives, not rows",
    )
    bos: bool = BOS
    stride: int | None = STRIDE


@dataclass(frozen=True, kw_only=True)
class NextOptions(Options):
    """How much of the next token's distribution is shown."""

    panel = "View"

    top: int = option(
        20,
        "--top",
        "How many tokens to show, the likeliest first.",
        low=1,
        high=10**6,
        redeclares="it counts candidates, and is the size of the whole view",
    )
    bos: bool = BOS


@dataclass(frozen=True, kw_only=True)
class AttentionOptions(Options):
    """Which layers and heads."""

    panel = "View"

    layer: int | None = option(
        None, "--layer", "The layer, from 0.", low=0, high=10**6, shown_default="the last"
    )
    head: int | None = option(
        None, "--head", "The head, from 0.", low=0, high=10**6, shown_default="the mean of all"
    )
    all: bool = option(
        False,
        "--all",
        "A small map of every head of every layer asked for.",
        redeclares="all heads",
    )
    bos: bool = BOS


@dataclass(frozen=True, kw_only=True)
class LensOptions(Options):
    """Which place of the text is read through the lens."""

    panel = "View"

    position: int | None = option(
        None,
        "--position",
        "After which token, from 0.",
        low=0,
        high=10**9,
        shown_default="the last",
    )
    top: int = option(
        5,
        "--top",
        "How many of the likeliest tokens to show for each layer.",
        low=1,
        high=MAX_ALTERNATIVES,
        redeclares="it counts alternatives, and a layer has at least one",
    )
    all: bool = option(
        False,
        "--all",
        "The likeliest token after each token, layer by layer.",
        redeclares="all positions",
    )
    bos: bool = BOS


@dataclass(frozen=True, kw_only=True)
class AttributionOptions(Options):
    """What is explained, and how."""

    panel = "View"

    target: str | None = option(
        None,
        "--target",
        "The next token to explain: its text or id.",
        metavar="TOKEN",
        shown_default="the likeliest",
    )
    method: Method = option("gradient-x-input", "--method", "How attributions are computed.")
    steps: int = option(
        STEPS,
        "--steps",
        "Points of integrated gradients; more are more accurate.",
        low=1,
        high=1000,
    )
    bos: bool = BOS
