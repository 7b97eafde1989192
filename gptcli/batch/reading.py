"""How the inputs of a batch are read, as options.

A group of its own, beside `Input`: a batch has many inputs, and of each a format, a column and an
id.
"""

# ruff: noqa: RUF009 - option() returns a dataclass field

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.errors import UsageError
from gptcli.options.shared import ALLOW_EMPTY, ERRORS, Errors
from gptcli.specs import Options, option

InputFormat = Literal["auto", "lines", "jsonl", "openai", "csv", "tsv", "parquet", "files"]


@dataclass(frozen=True, kw_only=True)
class Reading(Options):
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
    column: str | None = option(
        None,
        "--column",
        "The prompt's column or key: a name, or a column's number from 1.",
        metavar="NAME",
        shown_default="prompt, else text, else the only column",
    )
    id_column: str | None = option(
        None,
        "--id-column",
        "The column or key of a row's id.",
        metavar="NAME",
        shown_default="id, where there is one",
        rare=True,
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
        for flag, name in (("--column", self.column), ("--id-column", self.id_column)):
            if name == "":
                raise UsageError(flag, "the name is empty", "Name a column, or give its number.")
