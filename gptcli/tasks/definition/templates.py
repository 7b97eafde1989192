"""Templates: text with fields in braces, `{input}`, and `{{` for a brace.

They look like Python's format strings but can only name a field: no attribute, index, conversion or
format, because a task file may come from a stranger and `{input.__class__}` leads into the
interpreter. Not here: which fields exist is in `gptcli.tasks.definition.schema`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from string import Formatter

FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadTemplate(ValueError):
    """A template that cannot be filled; its text is the rule that is broken."""


def fields(template: str) -> tuple[str, ...]:
    """The names of the fields, in order, each as often as it stands there.

    Raises BadTemplate for a single brace and for anything but a name between braces.
    """
    return tuple(name for _, name in _parts(template) if name is not None)


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with every field replaced; a brace inside a value is an ordinary character.

    Raises BadTemplate as `fields` does, KeyError where `values` lacks a field.
    """
    parts = list(_parts(template))  # all of it is looked at before a field is missed
    return "".join(literal + ("" if name is None else values[name]) for literal, name in parts)


def _parts(template: str) -> Iterator[tuple[str, str | None]]:
    """Literal text, and the field after it if there is one."""
    try:
        for literal, name, format_, conversion in Formatter().parse(template):
            if format_ or conversion or (name is not None and not FIELD.fullmatch(name)):
                raise BadTemplate(f"{{{(name or '')[:40]}}} is not a plain name in braces")
            yield literal, name
    except BadTemplate:
        raise
    except ValueError as error:
        raise BadTemplate(f"unpaired brace ({error})") from None
