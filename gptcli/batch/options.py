"""The options of a batch: how its inputs are read, what is written, how safely, and where it runs.

`BatchInput` stands beside the `Input` of the other commands: a batch has many inputs, and of each a
format, a column and an id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.errors import UsageError
from gptcli.options.common import TableInput
from gptcli.options.formats import holds
from gptcli.options.shared import (
    ADDRESS,
    ALLOW_EMPTY,
    ERRORS,
    EXAMPLE,
    ON_OVERFLOW,
    RUNNER,
    Errors,
    Overflow,
    Runs,
)
from gptcli.options.spec import Options, option

MAX_ROWS_AT_A_TIME = 1024
InputFormat = Literal["auto", "lines", "jsonl", "openai", "csv", "tsv", "parquet", "files"]


def parse_size(text: str) -> str:
    """`auto`, or a number of rows. Raises UsageError."""
    number = text if text.isascii() and text.isdigit() and len(text) < 5 else ""
    if text != "auto" and not (number and 1 <= int(number) <= MAX_ROWS_AT_A_TIME):
        hint = f"Give auto, or 1 to {MAX_ROWS_AT_A_TIME}."
        raise UsageError("--batch-size", f"{text!r} is no size", hint)
    return text


@dataclass(frozen=True, kw_only=True)
class BatchInput(TableInput):
    """How the inputs are read: format, columns, bad bytes, empty prompts."""

    panel = "Input"

    input_format: InputFormat = option(
        "auto",
        "--input-format",
        "Format of the inputs; files: each is one prompt. auto goes by name and first bytes.",
    )
    null: bool = option(
        False, "-0 --null", "Prompts end in a NUL byte, not in a line break.", rare=True
    )
    row_settings: bool = option(
        True,
        "--row-settings/--no-row-settings",
        "Columns and keys named as sampling options, such as seed, set them for their row.",
        rare=True,
    )
    allow_empty: bool = ALLOW_EMPTY
    errors: Errors = ERRORS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.null and self.input_format not in ("auto", "lines"):
            raise UsageError(
                "--null", f"it does not go with {self.input_format}", "Leave one of them out."
            )


@dataclass(frozen=True, kw_only=True)
class Batch(Options):
    """What is written, how safely, and where rows are computed."""

    panel = "Batch"

    output: str = option(
        "-",
        "-o --output",
        "Where the rows go: .jsonl, .json, .csv, .tsv or .parquet; - is standard output.",
        names="file",
        redeclares="a batch goes on with the file that is there",
    )
    task: str | None = option(
        None, "--task", "Run this task on every row.", metavar="NAME", names="task"
    )
    set: tuple[str, ...] = option(
        (),
        "--set",
        "An option of the task, such as to=de; repeatable.",
        metavar="NAME=VALUE",
        names="task's option",
        needs="task",
    )
    example: tuple[str, ...] = EXAMPLE
    on_overflow: Overflow = ON_OVERFLOW
    batch_size: str = option(
        "auto",
        "-b --batch-size",
        "How many rows are computed at a time; auto finds out what is fastest.",
        metavar="N|auto",
        check=parse_size,
        digits=True,
        redeclares="auto is a size, too",
    )
    workers: int = option(
        1,
        "--workers",
        "Processes that compute rows. On few cores one is as fast.",
        low=1,
        high=256,
        rare=True,
    )
    runner: Runs = RUNNER
    address: str | None = ADDRESS
    force: bool = option(
        False,
        "--force",
        "Start over, whatever the output holds.",
        redeclares="without it a batch goes on with the file that is there",
    )
    resume: bool | None = option(
        None,
        "--resume/--no-resume",
        "Go on with an output that is there.",
        shown_default="if it was made from the same",
    )
    retry_failed: bool = option(
        False, "--retry-failed", "Compute those rows of the output again that are errors."
    )
    allow_changed_input: bool = option(
        False,
        "--allow-changed-input",
        "Go on although the input changed: rows with the same contents are kept.",
        rare=True,
    )
    max_failures: int | None = option(
        None, "--max-failures", "Stop when more rows than this have failed.", low=0, high=10**12
    )
    fsync: Literal["row", "1s", "off"] = option(
        "1s", "--fsync", "How often rows are forced to the disk.", rare=True
    )
    summary: str | None = option(
        None,
        "--summary",
        "Write the summary to this file, as JSON.",
        names="file",
        check=holds("json", "--summary"),
        rare=True,
    )
    dry_run: bool = option(
        False,
        "--dry-run",
        "Count rows and tokens, estimate time and memory, compute nothing.",
        redeclares="a batch prints an estimate, not its prompts",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for flag, given in (("--set", self.set), ("--example", self.example)):
            if given and self.task is None:
                raise UsageError(flag, "it is for a task", "Name the task with --task.")
        if self.address is not None and self.runner != "ray":
            raise UsageError("--address", "it is Ray's", "Add --runner ray.")
        if self.workers > 1 and self.runner == "ray":
            raise UsageError("--workers", "Ray decides that", "Leave it out.")
        ways = [self.force, self.resume is False, self.retry_failed, self.allow_changed_input]
        if sum(ways) > 1 and not (self.force and self.resume is False):
            raise UsageError(
                "--force, --no-resume, --retry-failed, --allow-changed-input",
                "they contradict each other",
                "Give one of them.",
            )

    @property
    def size(self) -> int | None:
        """The batch size as a number; None for auto."""
        return None if self.batch_size == "auto" else int(self.batch_size)
