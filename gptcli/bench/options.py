"""What a benchmark measures, and against whom: the options of `gptcli bench`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.bench.peers.roster import PEERS, TRAINER, Contender, contenders
from gptcli.errors import UsageError
from gptcli.options.formats import holds
from gptcli.options.shared import ASKED, FORCE
from gptcli.options.spec import Options, option

Part = Literal["start", "decode", "mixed", "prefill", "tasks", "batch", "score", "train", "quality"]
LONG: tuple[Part, ...] = ("batch", "score", "train", "quality")
ROWS, DOCUMENTS = 500, 24  # of --only train fewer, each of which is a long text


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
        " many rows, sentences scored beside a plain loop over transformers, steps of training, or"
        " what a smaller data type costs in perplexity. The last four take long, so they run only"
        " if named.",
    )
    rows: int | None = option(
        None,
        "--rows",
        "Rows of --only batch, sentences of --only score, documents of --only train.",
        low=1,
        high=10**6,
        shown_default=f"{ROWS}, {DOCUMENTS} documents",
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
        if self.only == "train" and any(peer != TRAINER for peer in self.peers):
            why = f"{self.against!r} does not train in float32 here"
            raise UsageError("--against", why, "With --only train name transformers alone.")

    @property
    def peers(self) -> tuple[Contender, ...]:
        """Who runs beside gptcli."""
        return () if self.against is None else contenders(self.against)

    def wants(self, part: Part) -> bool:
        """Whether a part is measured: the one named, or else all that do not take long."""
        return part == self.only if self.only else part not in LONG

    @property
    def count(self) -> int:
        """How many rows, sentences or documents there are."""
        return self.rows or (DOCUMENTS if self.only == "train" else ROWS)
