"""The options of `gptcli audit`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from gptcli.options import SEED_LIMIT, Device, Dtype, Load
from gptcli.options.formats import format_of, holds
from gptcli.options.shared import BATCH_SIZE, BOS, FORCE, JSON, OUTPUT
from gptcli.options.spec import Options, option

ReportFormat = Literal["text", "json", "jsonl", "csv", "tsv", "svg", "png"]
FORMATS: tuple[ReportFormat, ...] = get_args(ReportFormat)
SEED = 0  # without --seed, so that the same measure gives the same numbers
_OF_LOAD: dict[str, Any] = {item.name: item for item in fields(Load)}


@dataclass(frozen=True, kw_only=True)
class Measure(Options):
    """How pairs are measured."""

    panel = "Measure"

    seed: int = option(
        SEED,
        "--seed",
        "The seed of the intervals: the same seed gives the same numbers.",
        low=0,
        high=SEED_LIMIT - 1,
        redeclares="it has a default, so that a measure can be repeated without one",
    )
    bos: bool = BOS
    batch_size: int = BATCH_SIZE


@dataclass(frozen=True, kw_only=True)
class Place(Options):
    """Where two models run that the arguments name: what `Load` has for both of them."""

    panel = "Model"

    device: Device = _OF_LOAD["device"]
    dtype: Dtype = _OF_LOAD["dtype"]
    threads: int | None = _OF_LOAD["threads"]
    offline: bool = _OF_LOAD["offline"]

    def load(self, model: str) -> Load:
        """How a model is opened."""
        return Load(
            model=model,
            device=self.device,
            dtype=self.dtype,
            threads=self.threads,
            offline=self.offline,
        )


@dataclass(frozen=True, kw_only=True)
class Judging(Options):
    """What is looked for in the texts, and in how many."""

    panel = "Measure"

    filter: tuple[str, ...] = option(
        (),
        "--filter",
        "A list of what to look for: a phrase a line, # begins a comment; repeatable.",
        metavar="FILE",
        names="file",
    )
    sample: int | None = option(
        None,
        "--sample",
        "Only so many of the prompts, at random by the seed.",
        metavar="N",
        low=1,
        high=10**9,
        shown_default="all",
    )
    batch_size: int = BATCH_SIZE


@dataclass(frozen=True, kw_only=True)
class Report(Options):
    """Where a report goes, and in which shapes."""

    panel = "Output"

    details: bool = option(
        False, "--details", "A row for each pair or prompt, too; in CSV instead of the summary."
    )
    output: str | None = OUTPUT
    force: bool = FORCE
    format: ReportFormat | None = option(
        None,
        "--format",
        "Format of the report; svg and png are a chart.",
        shown_default="by the suffix of -o, else text",
        redeclares="a report is also a chart",
    )
    json: bool = JSON
    svg: str | None = option(
        None,
        "--svg",
        "Write a chart as well.",
        metavar="FILE",
        names="file",
        check=holds("svg", "--svg"),
        redeclares="it is a chart of shares, not a plot of tokens",
    )
    png: str | None = option(
        None,
        "--png",
        "Write the chart as a picture as well.",
        metavar="FILE",
        names="file",
        check=holds("png", "--png"),
        redeclares="it is a chart of shares, not a plot of tokens",
    )

    @property
    def shape(self) -> ReportFormat:
        """The format: of a flag, else of the suffix of --output. Raises UsageError."""
        return "json" if self.json else self.format or format_of(self.output, FORMATS, "text")
