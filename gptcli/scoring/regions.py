"""Regions of interest: parts of a sentence whose surprisal is summed, cut by marks or by labels.

Marks stand in the text: "The horse | raced past the barn | fell." A mark is not part of the text.
White space on both sides of a mark counts once, so the model reads the sentence as without marks.
Two marks in a row make an empty region: regions of different sentences keep their numbers.

Labels stand in a column, one for each word (what a word is, --units says), as "subj subj verb" or
as a list of JSON. Equal labels in a row are one region.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from gptcli.errors import BadInput
from gptcli.scoring import words
from gptcli.scoring.units import CharRange
from gptcli.system.units import counted

_BLANK = words.BLANK.decode()
_HOW = "Give one label for each word, separated by spaces, or cut the text by marks such as |."


@dataclass(frozen=True)
class Region:
    """Characters `start` to `end` (exclusive) of a text, without white space around them."""

    start: int
    end: int
    label: str | None = None


def is_mark(text: str) -> bool:
    """Whether a value of --regions is a mark, and not the name of a column."""
    return bool(text) and not any(sign.isalnum() or sign.isspace() for sign in text)


def marked(text: str, mark: str) -> tuple[str, tuple[Region, ...]]:
    """The text without its marks, and the regions between them; one region without a mark."""
    first, *others = text.split(mark)
    clean = first if first.strip(_BLANK) or not others else ""
    found = [_region(clean, 0)]
    for piece in others:
        open_end = not clean or clean[-1] in _BLANK
        rest = piece.lstrip(_BLANK) if open_end else piece
        found.append(_region(rest, len(clean) if rest.strip(_BLANK) else found[-1].end))
        clean += rest
    if others and not others[-1].strip(_BLANK):
        clean = clean.rstrip(_BLANK)
    return clean, tuple(found)


def labelled(found: Sequence[CharRange], labels: Sequence[str]) -> tuple[Region, ...]:
    """The regions of a text with one label for each word, from the places of its words.

    Raises BadInput for another count.
    """
    if len(found) != len(labels):
        why = f"{counted(len(labels), 'label')} for {counted(len(found), 'word')}"
        raise BadInput("the regions do not fit the text", why, _HOW)
    groups = groupby(zip(found, labels, strict=True), key=lambda pair: pair[1])
    return tuple(_joined(label, [place for place, _ in pairs]) for label, pairs in groups)


def tokens_of(
    text: str, regions: tuple[Region, ...], places: list[CharRange]
) -> Iterator[words.TokenSpan]:
    """Each region's tokens; tokens of white space belong to the region after them.

    Raises BadInput where a border lies inside a token: its surprisal belongs to neither side.
    """
    token = 0
    for region in regions:
        first = token
        while token < len(places) and _inside(text, places[token], region.end):
            token += 1
        yield words.TokenSpan(region.start, region.end, first, token - 1)


def _inside(text: str, place: CharRange, end: int) -> bool:
    """Whether a token belongs to a region that ends at `end`, or to one before."""
    if place[0] >= end:
        return False
    if text[end : place[1]].strip(_BLANK):
        piece = text[place[0] : place[1]]
        why = f"the border after {text[max(0, end - 20) : end]!r} lies inside the token {piece!r}"
        hint = "Move the border to a token's end: gptcli inspect tokens shows them."
        raise BadInput("the regions do not fit the tokens", why, hint)
    return True


def _region(piece: str, at: int) -> Region:
    """The region of a piece that begins at `at` in the text without marks."""
    start = at + len(piece) - len(piece.lstrip(_BLANK))
    content = piece.strip(_BLANK)
    return Region(start, start + len(content)) if content else Region(at, at)


def _joined(label: str, places: list[CharRange]) -> Region:
    return Region(places[0][0], places[-1][1], label)
