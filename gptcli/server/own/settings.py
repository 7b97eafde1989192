"""Options of the commands as fields of a request: what belongs to which group.

The groups are those of the commands, so names, types and ranges are declared once. A field that
nobody knows is tolerated, as on all routes, unless it looks like a slip of the pen: then a default
would be taken for what was asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from gptcli.errors import UsageError
from gptcli.options.keywords import ELSEWHERE, field_of
from gptcli.options.spec import Options
from gptcli.server.body import field, shown
from gptcli.server.refusals import Refusal, bad_field
from gptcli.server.service import Service

NEAR = 0.8  # how like a known name an unknown one must be, from 0 to 1, to be a mistake
MAX_CHARACTERS = 2**20  # of one text: the engine waits while it is encoded
MAX_WHY = 300  # characters: a value may be long
COMMON = ("model", "input", "stream", "user")  # fields that every one of these routes takes


def given_settings(
    body: Mapping[str, Any], kind: type[Options], names: Sequence[str], others: Collection[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that are among `names`, and those of a group of options.

    `others` are fields that are read elsewhere. null is a field that was left out. Raises Refusal
    for a name that is meant to be one of these, and is not.
    """
    field(body, "user", str)
    own: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    known = [*names, *(item.name for item in fields(kind))]  # type: ignore[arg-type]
    for name, value in body.items():
        if value is None:
            continue
        if name in names:
            own[name] = value
        elif name in others or name in COMMON:
            continue
        elif _is_option(name, kind):
            rest[name] = value
        else:
            _refuse_slip(name, [*known, *others, *COMMON])
    return own, rest


def _is_option(name: str, kind: type[Options]) -> bool:
    try:
        field_of(name, [kind])
    except UsageError:
        return False
    return True


def _refuse_slip(name: str, known: Sequence[str]) -> None:
    meant = ELSEWHERE.get(name)
    near = [meant] if meant in known else get_close_matches(name[:60], known, 1, NEAR)
    if near:
        raise bad_field(name[:60], f"there is no such field; did you mean {near[0]}?")


def refused(error: UsageError, body: Mapping[str, Any]) -> Refusal:
    """The refusal of a value that a group of options refused, by the field's name."""
    told = error.in_python()
    why, hint = told.why, told.hint
    if hint.startswith("See its type") and "not one of" not in why:
        why, hint = f"{shown(body.get(told.what))} is not what it takes", "See /openapi.json."
    return bad_field(told.what, f"{why[:MAX_WHY]}. {hint}".rstrip(". "))


def input_texts(body: Mapping[str, Any], service: Service) -> tuple[tuple[str, ...], bool]:
    """The texts of `input`, and whether it is one alone. Raises Refusal."""
    given = body.get("input")
    texts = given if isinstance(given, list) else [given]
    for text in texts:
        check_text(text, "input", "a text, or a list of them, is needed")
    if not texts:
        raise bad_field("input", "the list is empty")
    if len(texts) > service.limits.sequences:
        raise bad_field("input", f"{len(texts)} texts; at most {service.limits.sequences}")
    return tuple(texts), not isinstance(given, list)


def check_text(text: object, name: str, needed: str) -> None:
    """Raise Refusal for what is no text, or longer than a line of `--lines` may be."""
    if not isinstance(text, str):
        raise bad_field(name, f"{needed}, not {shown(text)}")
    if len(text) > MAX_CHARACTERS:
        raise bad_field(name, f"a text of {len(text)} characters; at most {MAX_CHARACTERS}")


def asks_stream(body: Mapping[str, Any]) -> bool:
    """Whether the answers come as events. Raises Refusal."""
    return bool(field(body, "stream", bool, default=False))


def numbered(texts: Sequence[str], single: bool) -> Iterator[tuple[str, str]]:
    """Each text with its id: 0 alone, else its number from 1, as the commands have it."""
    return ((str(number), text) for number, text in enumerate(texts, 0 if single else 1))
