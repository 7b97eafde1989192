"""What judges a text: a number from 0 to 1, and how many matches were found in it.

`judge_of` is the place where a judge is chosen: lists of phrases here, a classifier elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from gptcli.audit.sets.pairs import digest
from gptcli.errors import BadInput, UsageError
from gptcli.inputs.encoding import refuse_foreign
from gptcli.inputs.records import decoded
from gptcli.scoring.texts import read_bytes

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


class TextJudge(Protocol):
    """Judges texts; the same text always alike."""

    @property
    def about(self) -> Mapping[str, object]:
        """What it is, for a record: its kind, and the SHA-256 of each of its files."""
        ...

    def score(self, text: str) -> float:
        """How much of what is looked for is in a text, from 0 to 1; of a list 0 or 1."""
        ...

    def matches(self, text: str) -> int:
        """How many matches are in a text."""
        ...


@dataclass(frozen=True)
class PhraseJudge:
    """Finds phrases at the borders of words, whatever their case (NFKC, casefold)."""

    sha256: Mapping[str, str]
    phrases: int
    by_first: Mapping[str, tuple[tuple[str, ...], ...]] = field(repr=False)

    @property
    def about(self) -> Mapping[str, object]:
        """Of `TextJudge`."""
        return {"kind": "phrases", "phrases": self.phrases, "sha256": dict(self.sha256)}

    def score(self, text: str) -> float:
        """1 where a phrase is in the text."""
        return float(self.matches(text) > 0)

    def matches(self, text: str) -> int:
        """How many places of the text hold a phrase."""
        words = _words(text)
        return sum(
            any(tuple(words[at : at + len(phrase)]) == phrase for phrase in self.by_first[word])
            for at, word in enumerate(words)
            if word in self.by_first
        )


def judge_of(lists: Sequence[str], stdin: BinaryIO | None) -> TextJudge:
    """The judge that the options ask for. Raises UsageError, MissingInput, BadInput."""
    if not lists:
        hint = "Name a list of phrases, one a line: --filter FILE."
        raise UsageError("--filter", "nothing says what is looked for", hint)
    data = {name: read_bytes(name, stdin) for name in lists}
    found = {phrase for name, held in data.items() for phrase in _phrases(held, name)}
    by_first: dict[str, tuple[tuple[str, ...], ...]] = {}
    for phrase in sorted(found):
        by_first[phrase[0]] = (*by_first.get(phrase[0], ()), phrase)
    return PhraseJudge({name: digest(held) for name, held in data.items()}, len(found), by_first)


def _phrases(data: bytes, name: str) -> list[tuple[str, ...]]:
    """The phrases of a list: one a line, # begins a comment. Raises BadInput without any."""
    refuse_foreign(data, f"file {name}")
    lines = (decoded(line, name, "strict").removeprefix("\ufeff") for line in data.splitlines())
    found = [tuple(words) for line in lines if (words := _words(line.partition("#")[0]))]
    if not found:
        raise BadInput(name, "there is no phrase in it", "Write one phrase a line.")
    return found


def _words(text: str) -> list[str]:
    import unicodedata  # loads a library of its own

    normal = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    return _WORD.findall(normal)
