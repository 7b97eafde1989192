"""What each format makes of a record: a row of its own input, not yet one of many.

Numbering and the search for ids given twice need all inputs and happen in
`gptcli.batch.input.sources`; everything here is judged by looking at one record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gptcli.batch.input.notices import RowNotices
from gptcli.batch.input.overrides import HOW_OFF, SETTINGS_KEY, from_cell, overrides, settings_of
from gptcli.batch.input.row import digest
from gptcli.batch.options import BatchInput
from gptcli.errors import GptcliError
from gptcli.inputs.json_lines import plain
from gptcli.inputs.records import bad, place, text_of
from gptcli.inputs.table import TableRow
from gptcli.inputs.token_ids import listed
from gptcli.protocol import TextOrIds


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """A record as a prompt with its settings, or with the error that makes it none."""

    line: int  # from 1, where in its input it begins
    digest: str  # SHA-256 of the raw record, hexadecimal
    id: str | None = None  # None if the record has none of its own
    text: TextOrIds = ""
    overrides: Mapping[str, object] = field(default_factory=dict)  # fields of Sampling
    carried: Mapping[str, object] = field(default_factory=dict)  # other columns, as strict JSON
    error: GptcliError | None = None
    unit: str = "line"  # what `line` counts
    has_ids: bool = False  # whether rows of its input can have ids


def prompt(value: object, where: str, reading: BatchInput) -> TextOrIds:
    """The value as a prompt. Raises BadInput: no text, blank, half of a surrogate pair.

    A list is token ids.
    """
    text: TextOrIds
    if isinstance(value, list):
        text = listed(value, where)
        blank = not text
    else:
        text = text_of(value, where, "the prompt")
        blank = not text.strip()
    if not reading.allow_empty and blank:
        raise bad(
            where,
            "the prompt is empty",
            "Give some text, or start from nothing with --allow-empty.",
        )
    return text


def entry_of(
    row: TableRow,
    name: str,
    reading: BatchInput,
    notices: RowNotices,
    *,
    cells: bool = False,
    ids: list[object] | None = None,
) -> ParsedRow:
    """A row of the table `name`: its settings apart from what is only carried along.

    `cells`: its columns are texts in which settings are written. `ids`: its prompt, in place of a
    text.
    """
    where = place(name, row.unit, row.line)
    key, error = digest(row.raw), row.error
    text: TextOrIds = ""
    found: dict[str, object] = {}
    taken: frozenset[str] = frozenset()
    try:
        if error is None:
            text = prompt(row.texts[0] if ids is None else ids, where, reading)
            others = row.others
            if cells:
                others = {title: from_cell(title, str(cell)) for title, cell in others.items()}
            settings = settings_of(others, where, reading)
            taken = frozenset(settings.keys() & others.keys())
            if settings.keys() - taken:
                taken |= {SETTINGS_KEY}
            notices.settings(taken)
            found = overrides(settings, where, HOW_OFF)
    except GptcliError as problem:
        error = problem
    carried = plain(notices.carried(row.others, taken))
    assert isinstance(carried, dict)
    if error is not None:
        text = ""
    return ParsedRow(
        row.line, key, row.id, text, found, carried, error, row.unit, has_ids=row.has_ids
    )
