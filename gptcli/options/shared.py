"""Options that several groups have, each declared once.

A group assigns one to the field of the same name: `force: bool = FORCE`. So a flag has one help,
one range and one default in all commands, and every group keeps its own order. A group that needs
another help, default or type declares the flag again and gives the reason in `redeclares`; a test
lists those that do not.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from gptcli.errors import UsageError
from gptcli.options.formats import format_of
from gptcli.options.spec import option

Overflow = Literal["error", "truncate-left", "truncate-right"]
Errors = Literal["strict", "replace"]
Format = Literal["text", "json", "jsonl", "csv", "tsv"]
"""Formats of a command that writes a text or rows."""
FORMATS: tuple[Format, ...] = get_args(Format)

Quoting = Literal["minimal", "none"]
Runs = Literal["local", "ray"]

ASKED = "It is asked for each time."
_DELIMITERS = {
    "tab": "\t",
    r"\t": "\t",
    "comma": ",",
    "semicolon": ";",
    "bar": "|",
    "pipe": "|",
    "space": " ",
}


def parse_delimiter(text: str) -> str:
    """A single character, or its name. Raises UsageError."""
    found = _DELIMITERS.get(text.lower(), text)
    if len(found) != 1 or found in '"\r\n\0' or "\ud800" <= found <= "\udfff":
        hint = f"Give one character, or {', '.join(name for name in _DELIMITERS if len(name) > 2)}."
        raise UsageError("--delimiter", f"{text!r} is no separator", hint)
    return found


# Input
LINES: Any = option(False, "--lines", "Take every line as an input of its own.")
BATCH_SIZE: Any = option(
    16, "-b --batch-size", "How many inputs are computed at a time.", low=1, high=1024, rare=True
)
ON_OVERFLOW: Any = option(
    "error",
    "--on-overflow",
    "What to do with a prompt longer than the model's context.",
    rare=True,
)
ALLOW_EMPTY: Any = option(
    False, "--allow-empty", "Accept an empty prompt: start a text from nothing.", rare=True
)
ERRORS: Any = option("strict", "--errors", "What to do with bytes that are not UTF-8.", rare=True)
EXAMPLE: Any = option(
    (),
    "--example",
    "An example: its input and output, separated by a spaced =; repeatable.",
    metavar="INPUT = OUTPUT",
    needs="task",  # of commands that have it; a task's own command needs none
    rare=True,
)
COLUMN: Any = option(
    None,
    "--column",
    "The text's column or key in a table: a name, or a column's number from 1.",
    metavar="NAME",
    shown_default="prompt, else text, else the only column",
    needs="lines",  # of commands that have it; others always read tables
)
ID_COLUMN: Any = option(
    None,
    "--id-column",
    "The column or key of a row's id.",
    metavar="NAME",
    shown_default="id, where there is one",
    needs="lines",
    rare=True,
)
DELIMITER: Any = option(
    None,
    "--delimiter",
    "The character between the columns of a table, such as ; or tab.",
    metavar="CHARACTER",
    parse=parse_delimiter,
    shown_default="the one that the header is written with",
    needs="lines",
    rare=True,
)
QUOTING: Any = option(
    None,
    "--quoting",
    "Quotation marks in a table. minimal: they enclose fields. none: they are text.",
    shown_default="minimal; between tabs, those that enclose no field are text",
    needs="lines",
    rare=True,
)

# Model
OFFLINE: Any = option(False, "--offline", "Never use the network.")
REVISION: Any = option(None, "--revision", "Branch, tag or commit of a Hub model.", rare=True)

# Scoring
BOS: Any = option(
    True,
    "--bos/--no-bos",
    "Put the token that begins a text before it, so that its first token has a probability, too.",
    rare=True,
)
STRIDE: Any = option(
    None,
    "--stride",
    "How many tokens the window moves on in a text longer than the context. Smaller steps give"
    " every token more context, and take longer.",
    low=1,
    high=10**9,
    shown_default="half the context",
    rare=True,
)

# Output
OUTPUT: Any = option(
    None, "-o --output", "Write to a file instead of standard output.", names="file"
)
FORMAT: Any = option(
    None,
    "--format",
    "Format of the output.",
    shown_default="by the suffix of -o, else text",
)
FORCE: Any = option(False, "--force", "Overwrite existing files.")
JSON: Any = option(False, "--json", "The same as --format json.", instead='Write format = "json".')
ONLY_JSON: Any = option(
    False,
    "--json",
    "Write JSON.",
    panel="Output",
    instead=ASKED,
    redeclares="of commands that have no --format",
)
OVERWRITE: Any = option(
    False,
    "--force",
    "Overwrite what is there.",
    instead=ASKED,
    redeclares="what it overwrites was made by hand or downloaded: no file may ask for it",
)

# Where it is computed
RUNNER: Any = option(
    "local", "--runner", "Compute here, or on a Ray cluster (gptcli[ray]).", rare=True
)
ADDRESS: Any = option(
    None,
    "--address",
    "The address of the Ray cluster.",
    shown_default="one is started on this machine",
    needs="runner",
    rare=True,
)

# General
YES: Any = option(False, "-y --yes", "Do not ask.", panel="General", instead=ASKED)


def chosen_format(output: str | None, format: Format | None, json: bool) -> Format:
    """The format that --json, --format or the suffix of --output asks for, in this order.

    Raises UsageError for a suffix that stands for none.
    """
    if json:
        return "json"
    return format or format_of(output, FORMATS, "text")
