"""Options of many commands: input, output, recording and messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.errors import UsageError
from gptcli.options.formats import holds
from gptcli.options.shared import (
    ALLOW_EMPTY,
    BATCH_SIZE,
    COLUMN,
    DELIMITER,
    ERRORS,
    FORCE,
    FORMAT,
    ID_COLUMN,
    JSON,
    LINES,
    ON_OVERFLOW,
    ONLY_JSON,
    OUTPUT,
    OVERWRITE,
    QUOTING,
    YES,
    Errors,
    Format,
    Overflow,
    Quoting,
    chosen_format,
    parse_delimiter,
)
from gptcli.options.spec import Options, option


@dataclass(frozen=True, kw_only=True)
class Input(Options):
    """Where the prompt comes from, and what happens if it does not fit the context."""

    panel = "Input"

    file: str | None = option(
        None, "-f --file", "Read the input from a file; - is stdin.", names="file"
    )
    no_stdin: bool = option(False, "--no-stdin", "Leave standard input alone.")
    on_overflow: Overflow = ON_OVERFLOW
    allow_empty: bool = ALLOW_EMPTY
    errors: Errors = ERRORS


@dataclass(frozen=True, kw_only=True)
class TableInput(Options):
    """How a table is read: which column is the text, which the id, and how columns are set apart.

    It is for CSV, TSV and JSON lines, wherever rows are inputs.
    """

    panel = "Input"

    column: str | None = COLUMN
    id_column: str | None = ID_COLUMN
    delimiter: str | None = DELIMITER
    quoting: Quoting | None = QUOTING

    def __post_init__(self) -> None:
        super().__post_init__()
        for flag, name in (("--column", self.column), ("--id-column", self.id_column)):
            if name == "":
                raise UsageError(flag, "the name is empty", "Name a column, or give its number.")
        if self.delimiter is not None:
            parse_delimiter(self.delimiter)

    @property
    def separator(self) -> str | None:
        """The delimiter as the character that it is."""
        return None if self.delimiter is None else parse_delimiter(self.delimiter)

    @property
    def given(self) -> bool:
        """Whether anything says that the input is a table."""
        return any((self.column, self.id_column, self.delimiter, self.quoting))


@dataclass(frozen=True, kw_only=True)
class Many(Options):
    """Many inputs in one run, or none."""

    panel = "Input"

    lines: bool = LINES
    batch_size: int = BATCH_SIZE
    dry_run: bool = option(False, "--dry-run", "Print the prompts, run nothing.", panel="General")


@dataclass(frozen=True, kw_only=True)
class Output(Options):
    """Where the answer goes, and its format."""

    panel = "Output"

    output: str | None = OUTPUT
    force: bool = FORCE
    format: Format | None = FORMAT
    json: bool = JSON
    echo: bool | None = option(
        None,
        "--echo/--no-echo",
        "Print the prompt before the continuation.",
        shown_default="echo, in text",
    )
    stream: bool | None = option(
        None,
        "--stream/--no-stream",
        "Print text as it is generated.",
        shown_default="stream, for one sequence of text",
    )

    @property
    def as_ids(self) -> bool:
        """Whether token ids are written in place of text."""
        return False

    @property
    def shape(self) -> Format:
        """The format: of a flag, else of the suffix of --output. Raises UsageError."""
        return chosen_format(self.output, self.format, self.json)


@dataclass(frozen=True, kw_only=True)
class GeneratedOutput(Output):
    """As `Output`, for a text that can be written as its token ids, too."""

    format: Literal["text", "json", "jsonl", "csv", "tsv", "ids"] | None = option(  # type: ignore[assignment]
        None,
        "--format",
        "Output format.",
        shown_default="by the suffix of -o, else text",
        redeclares="a text that a model wrote is token ids, too",
    )

    @property
    def as_ids(self) -> bool:
        """As that of `Output`."""
        return self.format == "ids" and not self.json

    @property
    def shape(self) -> Format:
        """As that of `Output`; token ids are lines, as a text is."""
        return "text" if self.as_ids else super().shape


@dataclass(frozen=True, kw_only=True)
class AsJson(Options):
    """JSON from a command that has no other format beside text."""

    panel = "Output"

    json: bool = ONLY_JSON


@dataclass(frozen=True, kw_only=True)
class Overwrite(Options):
    """Whether to overwrite a file that the user may have written."""

    panel = "Output"

    force: bool = OVERWRITE


@dataclass(frozen=True, kw_only=True)
class Agreement(Options):
    """Whether to ask before something is removed."""

    panel = "General"

    yes: bool = YES


@dataclass(frozen=True, kw_only=True)
class Record(Options):
    """What to record of a run, for `gptcli replay`."""

    panel = "Output"

    record: str | None = option(
        None,
        "--record",
        "Record requests and answers in a file, or in a new file of a folder, for gptcli replay.",
        metavar="FILE",
        names="file",
        check=holds("jsonl", "--record"),
        rare=True,
    )
    record_prompt: Literal["text", "hash"] = option(
        "text",
        "--record-prompt",
        "What the record holds of prompts and answers: their text, or only its SHA-256.",
        rare=True,
    )


@dataclass(frozen=True, kw_only=True)
class Talk(Options):
    """What to report on stderr."""

    panel = "General"

    quiet: bool = option(False, "-q --quiet", "Print nothing on stderr but errors.")
    verbose: bool = option(False, "-v --verbose", "Report model, speed and seed on stderr.")
    color: Literal["auto", "always", "never"] = option(
        "auto",
        "--color --colour",
        "Colours on standard output: auto on a terminal, always also for a pipe to less -R.",
        rare=True,
    )
    debug: bool = option(False, "--debug", "Show a traceback if it fails.", rare=True)
    profile_startup: bool = option(
        False,
        "--profile-startup",
        "Report where the time to the first token went.",
        instead="Set GPTCLI_PROFILE_STARTUP=1.",
        rare=True,
    )
    config: str | None = option(
        None, "--config", "Read defaults from this file.", metavar="FILE", names="file", rare=True
    )
