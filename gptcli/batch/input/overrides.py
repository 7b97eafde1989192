"""A row's own sampling settings: which there can be, and what their values may be.

Names, types and ranges are those of `Sampling`, which is built from them once to check them; here
is only what other ways of writing them there are: OpenAI's `max_tokens`, one stop text without a
list, a bias as an object, a number in a cell of a table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from gptcli.batch.options import BatchInput
from gptcli.errors import UsageError
from gptcli.inputs.json_lines import DoubledObject, LongInteger, check_once, plain
from gptcli.inputs.records import bad, whole
from gptcli.options import Sampling
from gptcli.system.strict_json import parse_value

SETTING_ALIASES = {"max_tokens": "max_new_tokens", "stop_token_ids": "stop_token_id"}
SETTINGS_KEY = "sampling"  # a key under which settings can stand, too
REFUSAL_HINTS = {  # of settings that a row cannot have
    "greedy": "Write temperature = 0.",
    "num_return_sequences": "One row gives one answer: repeat the row.",
    "num_beams": "Give --num-beams, for all rows.",
}
HOW_OFF = " Where it is no setting: --no-row-settings."
_TEXTS = ("stop", "bad_words")


def _plain(hint: Any) -> Any:
    """The type beside None: int of `int | None`."""
    if get_origin(hint) in (Union, UnionType):
        return next(kind for kind in get_args(hint) if kind is not NoneType)
    return hint


_HINTS = get_type_hints(Sampling)
_KINDS = {item.name: _plain(_HINTS[item.name]) for item in fields(Sampling)}
SETTING_NAMES = frozenset(_KINDS.keys() | SETTING_ALIASES.keys())


def settings_of(row: Mapping[str, object], where: str, reading: BatchInput) -> dict[str, object]:
    """The settings among a row's keys, and those nested under `sampling`, as they are written.

    None are looked for without `reading.row_settings`. Raises BadInput: `sampling` holds a key that
    is no setting, or one that stands outside, too.
    """
    if not reading.row_settings:
        return {}
    settings = SETTING_NAMES - {reading.column, reading.id_column}
    found = {name: value for name, value in row.items() if name in settings and value is not None}
    check_once(row, tuple(found), where)
    nested = (
        row.get(SETTINGS_KEY) if SETTINGS_KEY not in (reading.column, reading.id_column) else None
    )
    if not isinstance(nested, Mapping):  # a column of another meaning
        return found
    if isinstance(nested, DoubledObject):
        check_once(nested, tuple(nested), f"{where}: {SETTINGS_KEY}")
    for name, value in nested.items():
        if name not in SETTING_NAMES:
            known = ", ".join(sorted(SETTING_NAMES - REFUSAL_HINTS.keys()))
            raise bad(where, f"{SETTINGS_KEY}: no setting {name!r}", f"Known: {known}.")
        if value is None:
            continue
        if name in found:
            raise bad(where, f"{name} stands in the row and in {SETTINGS_KEY}", "Drop one of them.")
        found[name] = value
    return found


def overrides(settings: Mapping[str, object], where: str, off: str = "") -> dict[str, object]:
    """Settings as fields of Sampling, checked.

    `off` tells, behind a hint, how not to have them. Raises BadInput, naming the setting.
    """
    found: dict[str, Any] = {}
    if not settings:  # as of most rows, and the check takes a tenth of a millisecond
        return found
    for written, value in settings.items():
        name = SETTING_ALIASES.get(written, written)
        if name in REFUSAL_HINTS:
            raise bad(where, f"{name} cannot be set by a row", REFUSAL_HINTS[name] + off)
        if name in found:
            raise bad(where, f"{name} is given twice", "Drop one of them." + off)
        found[name] = _value(name, value, where, off)
    try:
        Sampling(**found)
    except UsageError as error:
        name = error.what.removeprefix("--").replace("-", "_")
        hint = error.hint if error.why.endswith("range") else "Correct it."
        raise bad(where, f"{name}: {error.why}", hint + off) from None
    return found


def from_cell(name: str, cell: str) -> object:
    """A setting's value in a cell of a table of text: as in JSON, but texts without quotes.

    A cell of a column that is no setting stays as it is.
    """
    if name not in SETTING_NAMES and name != SETTINGS_KEY:
        return cell
    if cell == "" or name in _TEXTS:
        return cell or None
    try:
        return parse_value(cell.lower() if _KINDS.get(name) is bool else cell)
    except ValueError:  # left as it is, to be refused by its type
        return cell


def _value(name: str, value: object, where: str, off: str) -> object:
    """The value in the type of the field, where the two are only written differently."""
    if name in _TEXTS:
        return _texts(name, value, where, off)
    if name == "logit_bias":
        return _bias(value, where, off)
    if name == "stop_token_id":
        return _ids(name, value, where, off)
    if isinstance(value, LongInteger):
        raise bad(where, f"{name}: a number of {len(value)} digits", "Correct it." + off)
    if isinstance(value, float) and not math.isfinite(value):
        raise bad(
            where, f"{name}: {plain(value) or 'NaN'} is not a JSON number", "Correct it." + off
        )
    if _KINDS[name] is int and isinstance(value, float) and value.is_integer():
        return int(value)  # JSON has one kind of number, and a data frame may know only this one
    return value


def _texts(name: str, value: object, where: str, off: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise bad(where, f"{name}: {value!r} is no list of texts", 'Write ["one", "two"].' + off)
    return tuple(whole(text, where, name) for text in texts)


def _ids(name: str, value: object, where: str, off: str) -> tuple[int, ...]:
    ids = value if isinstance(value, list) else [value]
    found = tuple(int(id) for id in ids if isinstance(id, int | float) and _is_whole(id))
    if len(found) < len(ids):
        raise bad(where, f"{name}: {value!r} is no list of token ids", "Write [50256]." + off)
    return found


def _is_whole(value: float) -> bool:
    """Whether it is a whole number; JSON has one kind of number."""
    return not isinstance(value, bool) and float(value).is_integer()


def _bias(value: object, where: str, off: str) -> tuple[tuple[str, float], ...]:
    pairs: Iterable[Any] = value.items() if isinstance(value, Mapping) else ()
    found = tuple((whole(str(token), where, "logit_bias"), bias) for token, bias in pairs)
    numbers = all(isinstance(bias, int | float) and not isinstance(bias, bool) for _, bias in found)
    if not isinstance(value, Mapping) or not numbers:
        hint = 'Write {"50256": -100}.' + off
        raise bad(where, f"logit_bias: {value!r} is no object of numbers", hint)
    return found
