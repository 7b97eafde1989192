"""Options of data to learn from: how files are read, what is kept apart, a new tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.options.shared import DELIMITER, ERRORS, OVERWRITE, QUOTING, Errors, Quoting
from gptcli.options.spec import Options, option

Documents = Literal["auto", "file", "line", "blank", "row", "end-token"]
LossOn = Literal["all", "completion"]


@dataclass(frozen=True, kw_only=True)
class DataReading(Options):
    """Which columns of tables are text, and how files are read."""

    panel = "Data"

    column: str | None = option(
        None,
        "--column",
        "The text's column or key in a table: a name, or a column's number from 1.",
        metavar="NAME",
        shown_default="text, else content, else the only column",
        redeclares="a text to learn is no prompt",
    )
    prompt_column: str | None = option(
        None,
        "--prompt-column",
        "The prompt's column or key, where rows are prompts and completions.",
        metavar="NAME",
        shown_default="prompt, where there is a completion",
        rare=True,
    )
    completion_column: str | None = option(
        None,
        "--completion-column",
        "The completion's column or key.",
        metavar="NAME",
        shown_default="completion",
        rare=True,
    )
    delimiter: str | None = DELIMITER
    quoting: Quoting | None = QUOTING
    errors: Errors = ERRORS


@dataclass(frozen=True, kw_only=True)
class TrainingData(DataReading):
    """What is learned from, and where one document ends."""

    documents: Documents = option(
        "auto",
        "--documents",
        "What a document of a text is: the file, a line, a paragraph between blank lines, or what"
        " lies between end tokens (<|endoftext|>), which end one in any case. auto is the file; of"
        " a table it is the row.",
    )
    loss_on: LossOn = option(
        "completion", "--loss-on", "Which tokens of prompts and completions are learned.", rare=True
    )
    valid: str | None = option(
        None,
        "--valid",
        "Validate on this file or folder, in place of a share of the data.",
        metavar="FILE",
        names="file",
    )
    valid_share: float = option(
        0.05,
        "--valid-share",
        "Share of the text that is kept for validation, in whole documents; 0 is none.",
        low=0,
        high=0.5,
        rare=True,
    )


@dataclass(frozen=True, kw_only=True)
class NewTokenizer(Options):
    """A tokenizer that is trained, and where it goes."""

    panel = "Tokenizer"

    size: int = option(
        4096,
        "--size",
        "Tokens, with the 256 bytes and the one that ends a text.",
        low=257,
        high=10**6,
    )
    output: str | None = option(
        None,
        "-o --output",
        "Folder of the tokenizer that is made.",
        metavar="FOLDER",
        names="file",
        redeclares="it is a folder, and it is needed",
    )
    force: bool = OVERWRITE
