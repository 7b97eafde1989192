"""Where input comes from, where the answer goes, and how much is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.specs import Options, option

Overflow = Literal["error", "truncate-left", "truncate-right"]
Format = Literal["text", "json", "jsonl", "csv"]


@dataclass(frozen=True, kw_only=True)
class Input(Options):
    """Where the prompt comes from, and what is done when it does not fit."""

    panel = "Input"

    file: str | None = option(
        None, "-f --file", "Read the prompt from a file; - is standard input.", names="file"
    )
    on_overflow: Overflow = option(
        "error", "--on-overflow", "What to do with a prompt longer than the model's context."
    )
    allow_empty: bool = option(
        False, "--allow-empty", "Take an empty prompt: start a text from nothing."
    )
    errors: Literal["strict", "replace"] = option(
        "strict", "--errors", "What to do with bytes that are not UTF-8."
    )


@dataclass(frozen=True, kw_only=True)
class Many(Options):
    """Many inputs in one run, or none."""

    panel = "Input"

    lines: bool = option(
        False, "--lines", "Take every line as an input of its own; one answer a line."
    )
    batch_size: int = option(
        16, "-b --batch-size", "How many are computed at a time.", low=1, high=1024
    )
    dry_run: bool = option(
        False, "--dry-run", "Print the prompt instead of running it.", panel="General"
    )


@dataclass(frozen=True, kw_only=True)
class Output(Options):
    """Where the answer goes, and in which shape."""

    panel = "Output"

    output: str | None = option(
        None, "-o --output", "Write to a file instead of standard output.", names="file"
    )
    force: bool = option(False, "--force", "Overwrite the output file.")
    format: Format = option("text", "--format", "Shape of the answer.")
    json: bool = option(
        False, "--json", "The same as --format json.", instead='Write format = "json".'
    )
    echo: bool | None = option(
        None,
        "--echo/--no-echo",
        "Print the prompt before the continuation.  [default: echo, in text]",
    )
    stream: bool | None = option(
        None,
        "--stream/--no-stream",
        "Print text as it is made.  [default: stream, for one sequence of text]",
    )

    @property
    def shape(self) -> Format:
        """The format asked for, by either flag."""
        return "json" if self.json else self.format


@dataclass(frozen=True, kw_only=True)
class Record(Options):
    """What of a run is kept, for it to be run again."""

    panel = "Output"

    record: str | None = option(
        None,
        "--record",
        "Write down what was asked and answered, for gptcli replay.",
        metavar="FILE",
        names="file",
    )
    record_prompt: Literal["text", "hash"] = option(
        "text",
        "--record-prompt",
        "What the record holds of prompts and answers: their text, or its SHA-256 alone.",
    )


@dataclass(frozen=True, kw_only=True)
class Talk(Options):
    """How much is said on stderr."""

    panel = "General"

    quiet: bool = option(False, "-q --quiet", "Say nothing on stderr but errors.")
    verbose: bool = option(False, "-v --verbose", "Say what ran, how fast, and with which seed.")
    debug: bool = option(False, "--debug", "Show a traceback when it fails.")
    profile_startup: bool = option(
        False,
        "--profile-startup",
        "Show at the end where the time to the first token went.",
        instead="Set GPTCLI_PROFILE_STARTUP=1.",
    )
    config: str | None = option(
        None, "--config", "Read defaults from this file.", metavar="FILE", names="file"
    )
