"""Completions and answers as JSON, JSON lines and CSV.

Each function takes what is finished and gives the exact text to write; text itself is streamed by
the command. Left out: where it goes, see `gptcli.cli.sink`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence

from gptcli.results import Completion
from gptcli.tasks.answers import Answer

Result = Completion | Answer
COLUMNS = (
    "id",
    "index",
    "prompt",
    "text",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "seed",
    "model",
    "revision",
    "truncated",
    "error",
)
OF_ANSWERS = (
    "task",
    *("input" if column == "prompt" else column for column in COLUMNS),
    "mean_logprob",
    "abstained",
    "labels",
    "entities",
)


def as_json(completions: Sequence[Result], single: bool) -> str:
    """One indented object when `single`, else a list of them."""
    shown = [item.to_dict() for item in completions]
    return json.dumps(shown[0] if single else shown, ensure_ascii=False, indent=2) + "\n"


def as_json_lines(completions: Iterable[Result]) -> Iterator[str]:
    """One object a line."""
    for item in completions:
        yield json.dumps(item.to_dict(), ensure_ascii=False) + "\n"


def as_csv(completions: Iterable[Result], columns: Sequence[str] = COLUMNS) -> Iterator[str]:
    """A header, then one row a completion; lines end in LF, line breaks in a text are quoted.

    What is no text or number (labels, entities) is JSON.
    """
    yield _row(columns)
    for item in completions:
        flat = {**item.to_dict(), **item.usage.to_dict()}
        flat["error"] = item.error.message if item.error else None
        yield _row([_cell(flat.get(column)) for column in columns])


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _row(cells: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
