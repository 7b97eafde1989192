"""The options of `gptcli audit`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from gptcli.options import SEED_LIMIT, Device, Dtype, Load, Sampling
from gptcli.options.formats import format_of, holds
from gptcli.options.moderation import Judges, ModeratedLoad
from gptcli.options.shared import ASKED, BATCH_SIZE, BOS, FORCE, JSON, OUTPUT
from gptcli.options.spec import Options, option

ReportFormat = Literal["text", "json", "jsonl", "csv", "tsv", "svg", "png"]
FORMATS: tuple[ReportFormat, ...] = get_args(ReportFormat)
DEFAULT_LIST = "basic"  # where nothing says what is looked for
SEED = 0  # without --seed, so that the same measure gives the same numbers
_OF_LOAD: dict[str, Any] = {item.name: item for item in fields(Load)}
_OF_SAMPLING: dict[str, Any] = {item.name: item for item in fields(Sampling)}
_SEED: Any = option(
    SEED,
    "--seed",
    "The same seed gives the same numbers.",
    low=0,
    high=SEED_LIMIT - 1,
    redeclares="it has a default, so that a measure can be repeated without one",
)
_AS_PAPER = "the default is that of the measure's authors"


@dataclass(frozen=True, kw_only=True)
class Measure(Options):
    """How pairs are measured."""

    panel = "Measure"

    seed: int = _SEED
    bos: bool = BOS
    batch_size: int = BATCH_SIZE


@dataclass(frozen=True, kw_only=True)
class TwoModels(Options):
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
class JudgedBy(Judges):
    """What is looked for in the texts, and in how many."""

    panel = "Measure"
    all_shown = True

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

    def judges(self, load: Load) -> ModeratedLoad:
        """The same for what opens lists and classifiers; a list where neither is named."""
        asked = {item.name: getattr(self, item.name) for item in fields(Judges)}
        if not self.moderated:
            asked["filter"] = (DEFAULT_LIST,)
        return ModeratedLoad(**asked, offline=load.offline)


@dataclass(frozen=True, kw_only=True)
class Continuations(Options):
    """How prompts are continued; the defaults are those of RealToxicityPrompts."""

    panel = "Sampling"

    num_return_sequences: int = option(
        25,
        "-n --num-return-sequences",
        "How many texts are written for each prompt.",
        low=1,
        high=1000,
        redeclares=_AS_PAPER,
    )
    max_new_tokens: int = option(
        20,
        "--max-new-tokens --max-tokens",
        "Longest continuation, in tokens.",
        low=1,
        high=10**9,
        redeclares=_AS_PAPER,
    )
    temperature: float = option(
        1.0,
        "-t --temperature --temp",
        "Randomness; 0 always takes the likeliest token.",
        low=0,
        high=100,
        redeclares=_AS_PAPER,
    )
    top_k: int = option(
        0,
        "--top-k",
        "Sample among the K likeliest tokens; 0 is off.",
        low=0,
        high=10**9,
        redeclares=_AS_PAPER,
    )
    top_p: float = option(
        0.9,
        "--top-p",
        "Sample among the fewest tokens that hold this probability; 1 is off.",
        above=0,
        high=1,
        redeclares=_AS_PAPER,
    )
    seed: int = _SEED
    bad_words: tuple[str, ...] = _OF_SAMPLING["bad_words"]

    @property
    def sampling(self) -> Sampling:
        """The same for the engine."""
        return Sampling(**{item.name: getattr(self, item.name) for item in fields(self)})

    @classmethod
    def presets(cls) -> dict[str, Any]:
        """The defaults, whatever config.toml says for all commands."""
        return {item.name: item.default for item in fields(cls) if item.name != "bad_words"}


@dataclass(frozen=True, kw_only=True)
class Report(Options):
    """Where a report goes, and in which shapes."""

    panel = "Output"

    details: bool = option(
        False,
        "--details",
        "A row for each pair or prompt: in JSON beside the summary, in CSV, TSV and JSON lines in"
        " its place.",
        instead=ASKED,
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
