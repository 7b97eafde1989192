"""Pairs in tables: CrowS-Pairs, and files of the user's own.

CrowS-Pairs: `sent_more` agrees with a stereotype more than `sent_less`. In its direction `stereo`
sent_more is about the disadvantaged group and shows the stereotype; in `antistereo` sent_less is
about it and violates one. The authors' score counts sent_more in both, and each alone, too.
"""

from __future__ import annotations

from collections.abc import Mapping

from gptcli.audit.sets.pairs import Kind, LeftOut, PairSet, SentencePair, digest, made
from gptcli.errors import BadInput, UsageError
from gptcli.inputs.records import Note
from gptcli.options import TableInput
from gptcli.scoring.pair_files import PairColumns, read_pairs
from gptcli.scoring.pairs import Pair

DIRECTIONS = ("stereo", "antistereo")
_COLUMNS = {"crows-pairs": ("sent_more", "sent_less"), "pairs": ("more", "less")}
_HINT = {
    "crows-pairs": "Its columns are sent_more, sent_less, stereo_antistereo and bias_type.",
    "pairs": "Its columns are more, less, and category if you like.",
}


def read(kind: Kind, data: bytes, name: str, note: Note) -> PairSet:
    """The pairs of a table. Raises BadInput for other columns or rows."""
    more, less = _COLUMNS[kind]
    columns = PairColumns(table=TableInput(column=more), bad=less)
    try:
        rows = read_pairs(data, name, columns, note)
    except UsageError as error:  # a column is not there
        raise BadInput(name, f"it {error.why.removeprefix(name).strip()}", _HINT[kind]) from None
    left_out = [LeftOut(id=row.id, why=row.error.why) for row in rows if row.error is not None]
    good = [row for row in rows if row.error is None]
    if kind == "crows-pairs":
        pairs = [_crows(row, name) for row in good]
    else:
        pairs = [_own(row) for row in good]
    return made(kind, name, {name: digest(data)}, pairs, left_out)


def _crows(row: Pair, name: str) -> SentencePair:
    missing = [key for key in ("stereo_antistereo", "bias_type") if key not in row.carried]
    if missing:
        raise BadInput(name, f"there is no column {missing[0]}", _HINT["crows-pairs"])
    direction = str(row.carried["stereo_antistereo"]).strip()
    if direction not in DIRECTIONS:
        why = f"pair {row.id}: the direction is {direction[:40]!r}"
        raise BadInput(name, why, f"Write {' or '.join(DIRECTIONS)} in stereo_antistereo.")
    # The columns without a name number the pairs in the published file.
    id = str(row.carried.get("column_1") or row.id)
    category = str(row.carried["bias_type"]).strip()
    return SentencePair(
        id=id, more=row.good, less=row.bad, category=category, groups={"direction": direction}
    )


def _own(row: Pair) -> SentencePair:
    return SentencePair(
        id=row.id, more=row.good, less=row.bad, category=_text(row.carried, "category")
    )


def _text(carried: Mapping[str, object], key: str) -> str:
    value = carried.get(key)
    return "" if value is None else str(value).strip()
