"""Where one document of a text ends and the next begins.

The text of an end token always ends a document, whatever else does, since the model would read it
as that. A text comes piece by piece and a document leaves part by part, so that a file that is one
line of gigabytes takes little memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

By = Literal["file", "line", "blank"]
MAX_SPACE = 1 << 20  # characters of white space that are held back to see what follows
_BLANK = r"\n[^\S\n]*(?:\n[^\S\n]*)*\n"
_SEPARATORS: dict[By, str] = {"file": "", "line": r"\n", "blank": _BLANK}


class DocumentPart(NamedTuple):
    """A part of a document; `last`: the document ends with it.

    role: of a prompt and its completion the one or the other, each a part of its own.
    """

    text: str
    last: bool
    role: Literal["text", "prompt", "completion"] = "text"


def separated(pieces: Iterator[str], by: By, ends: Sequence[str]) -> Iterator[DocumentPart]:
    """The documents of a text in parts; a document can be empty.

    ends: how end tokens are written.
    """
    marks = [re.escape(end) for end in sorted(ends, key=len, reverse=True)]
    pattern = re.compile("|".join(filter(None, [*marks, _SEPARATORS[by]])) or r"(?!)")
    held = max(map(len, ends), default=1) - 1
    text = ""
    for piece in pieces:
        text += piece
        limit = len(text)
        if by == "blank":
            limit = max(len(text.rstrip()), limit - MAX_SPACE)
        parts, text = _cut(text, pattern, max(limit - held, 0))
        yield from parts
    parts, text = _cut(text, pattern, len(text))
    yield from parts
    yield DocumentPart(text, last=True)


def _cut(text: str, pattern: re.Pattern[str], limit: int) -> tuple[list[DocumentPart], str]:
    """The parts up to a place, and what is left of the text."""
    found: list[DocumentPart] = []
    at = 0
    for match in pattern.finditer(text):
        if match.start() >= limit:
            break
        found.append(DocumentPart(text[at : match.start()], last=True))
        at = match.end()
    if at < limit:
        found.append(DocumentPart(text[at:limit], last=False))
        at = limit
    return found, text[at:]
