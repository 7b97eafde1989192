"""What a benchmark measures, and against whom: the options of `gptcli bench`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.bench.peers.roster import PEERS, Contender, contenders
from gptcli.errors import UsageError
from gptcli.options.formats import holds
from gptcli.options.shared import ASKED, FORCE
from gptcli.options.spec import Options, option

Part = Literal["start", "decode", "mixed", "prefill", "tasks", "batch", "score", "quality"]


@dataclass(frozen=True, kw_only=True)
class Bench(Options):
    """What is measured, and how often."""

    panel = "Benchmark"

    against: str | None = option(
        None,
        "--against",
        f"Run these beside gptcli, in turn, and show ratios: {', '.join(PEERS)}, separated by"
        " commas, each with a data type if you like: ctranslate2:int8, llama.cpp:q8_0. They come"
        " with gptcli[bench].",
        metavar="NAMES",
        check=contenders,
    )
    only: Part | None = option(
        None,
        "--only",
        "Measure only start-up, decoding, rows of mixed lengths, prompts, a task over many lines,"
        " many rows, sentences scored beside a plain loop over transformers, or what a smaller"
        " data type costs in perplexity. The last three take long, so they run only if named.",
    )
    rows: int = option(
        500, "--rows", "Rows of --only batch, sentences of --only score.", low=1, high=10**6
    )
    runs: int = option(5, "--runs", "Pairs of runs for each figure.", low=1, high=100)
    text: str | None = option(
        None, "--text", "The UTF-8 text that --only quality scores.", metavar="FILE", names="file"
    )
    json: bool = option(
        False,
        "--json",
        "Print every run as JSON lines.",
        instead=ASKED,
        redeclares="it prints each run, not the medians",
    )
    svg: str | None = option(
        None,
        "--svg",
        "Draw the figures into this file, as a bar chart.",
        metavar="FILE",
        names="file",
        check=holds("svg", "--svg"),
        redeclares="it is a chart of all figures",
    )
    force: bool = FORCE

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.only == "quality" and self.text is None:
            raise UsageError("--only quality", "it needs a text", "Give one with --text FILE.")

    @property
    def peers(self) -> tuple[Contender, ...]:
        """Who runs beside gptcli."""
        return () if self.against is None else contenders(self.against)

    def wants(self, part: Part) -> bool:
        """Whether a part is measured: the one named, or else all that do not take long."""
        return part == self.only if self.only else part not in ("batch", "score", "quality")
