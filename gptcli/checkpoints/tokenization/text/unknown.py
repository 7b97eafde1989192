"""Characters of a text that a vocabulary lacks: which they are, and how they are told.

A token such as [UNK] or <unk> stands for them, a whole word in WordPiece; without such a token they
are dropped. The model never sees them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from gptcli.system.units import counted

if TYPE_CHECKING:
    import tokenizers

UNKNOWN_CHARACTER = "\ue000"  # of the private use area: no vocabulary has it
MAX_SHOWN = 5  # parts that are named
MAX_PART = 20  # characters of one


@dataclass
class UnknownCharacters:
    """Counts unknown characters, and keeps the first ones."""

    count: int = 0
    shown: dict[str, None] = field(default_factory=dict)  # a set in order of first occurrence

    def add(self, parts: Iterable[str]) -> None:
        """Count the parts of one text, see `Tokenizer.unknown`."""
        for part in parts:
            self.count += len(part)
            if len(self.shown) <= MAX_SHOWN:
                self.shown[part if len(part) <= MAX_PART else f"{part[:MAX_PART]}..."] = None

    def notices(self, place: str = "the prompt") -> tuple[str, ...]:
        """What to tell of them, if there are any; `place` is where they stand."""
        if not self.count:
            return ()
        named = ", ".join(list(self.shown)[:MAX_SHOWN]) + ", ..." * (len(self.shown) > MAX_SHOWN)
        are = "is" if self.count == 1 else "are"
        return (
            f"{counted(self.count, 'character')} of {place} {are} not in the vocabulary: {named}",
        )


def unknown_notices(parts: Iterable[str], place: str) -> tuple[str, ...]:
    """What to tell of the unknown parts of one text, if there are any."""
    found = UnknownCharacters()
    found.add(parts)
    return found.notices(place)


def stood_for(
    text: str, encoded: tokenizers.Encoding, unknown: int, token: str | None
) -> Iterator[str]:
    """The parts of the text for which the unknown `token` stands, unless it is written there."""
    if unknown not in encoded.ids:
        return
    for id, (start, end) in zip(encoded.ids, encoded.offsets, strict=True):
        part = text[start:end].strip()
        if id == unknown and part and part != token:
            yield part


def lost(text: str, raw: tokenizers.Tokenizer) -> Iterator[str]:
    """The parts of the text that become no token; white space is none of them.

    Only BPE drops what it does not know: others refuse it, or have a token for it.
    """
    from tokenizers import models

    if not isinstance(raw.model, models.BPE):
        return
    dropped = {
        character
        for character in set(text)
        if character.isprintable()
        and not character.isspace()
        and not raw.encode(character, add_special_tokens=False).ids
    }
    for gone, part in groupby(text, dropped.__contains__):
        if gone:
            yield "".join(part)
