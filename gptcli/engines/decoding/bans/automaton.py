"""Which tokens may not come next, so that no sequence of tokens writes a banned word.

A position in a text is the end of it that begins a banned form, and the bytes after it that are no
whole character yet. For each position there is a set of forbidden tokens: those that would complete
a form. A text may end behind any token (by its length, a stop string, a signal), so a token that
completes a word is forbidden even where letters could follow: ` cat` is never written, but a token
` category` is, and ` ca` with `tegory` behind it.

The proof is short. Marked text (see `borders`) has a word at its borders where its form is a
substring. A form ends in the text of some token, or at the border behind it. Before that token the
position held the form's beginning, as the longest end that begins any form has all shorter ones as
its own ends. So the token was forbidden.

A text is read alone, and behind its prompt. So there may be two positions: one where the text's
beginning is a border, one where a word of the prompt goes on. What the prompt has itself is not
forbidden. In runs of `loose` bytes there is one for the text if the run turns out broken.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from gptcli.checkpoints.tokenization.text.joining import LOOKBACK
from gptcli.engines.decoding.bans.borders import (
    BORDER,
    OTHER,
    WORD,
    closed,
    form_of,
    is_word,
    marked,
    open_form_of,
)
from gptcli.engines.decoding.bans.prefixes import TokenIndex
from gptcli.engines.decoding.bans.written import (
    BROKEN,
    ByteTokens,
    WordTokens,
    Written,
    written_by,
)

if TYPE_CHECKING:
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer

Ids = NDArray[np.int64]
PROMPT_CHARACTERS = 1024  # of the prompt's end, in which a banned form may begin
MAX_LISTS = 16  # of banned words that are kept for one vocabulary
MAX_POSITIONS = 1024  # whose tokens are kept


class Position(NamedTuple):
    """Where a text is among the banned forms."""

    end: str = ""  # of the marked text; the longest that begins a form
    kind: str = OTHER  # of the last character
    rest: bytes = b""  # of a character
    last: str = ""  # characters, where tokens are joined by what stands around them


State = tuple[Position, ...]


class Bans:
    """The forms that a request bans, over one vocabulary. A state is never changed."""

    def __init__(self, vocabulary: _Vocabulary, words: Sequence[str], stop: Sequence[str]) -> None:
        self._written, self._index = vocabulary.written, vocabulary.index
        self._forms = sorted({*map(form_of, words), *_cut_by(stop, words)})
        self._starts = {form[:size] for form in self._forms for size in range(1, len(form))}
        self._longest = max(map(len, self._forms))
        self._everywhere: dict[str, Ids] = {}
        self._inside: list[int] | None = None
        self._found: dict[Position, Ids] = {}

    def begin(self, prompt_ids: Sequence[int], prompt: str) -> State:
        """The state behind a prompt."""
        text, rest = self._written.begun(prompt_ids[-PROMPT_CHARACTERS:], prompt)
        behind = self._moved(Position(), text[-PROMPT_CHARACTERS:], rest)
        return _distinct([behind, Position(rest=rest, last=behind.last)])

    def after(self, state: State, token: int) -> State:
        """The state behind one more token."""
        moved = [
            self._moved(position, *self._written.after(token, position.rest, position.last))
            for position in state
        ]
        if token in self._written.loose:
            moved += [self._moved(position, BROKEN, b"") for position in state]
        return _distinct(moved)

    def forbidden(self, state: State) -> list[Ids]:
        """The tokens that would complete a form, in parts that may overlap."""
        parts = []
        for position in state:
            if isinstance(self._written, ByteTokens):
                parts.append(self._always(OTHER if position.rest else position.kind))
            parts.append(self._here(position))
        return parts

    def _moved(self, position: Position, text: str, rest: bytes) -> Position:
        added, kind = marked(text, position.kind)
        last = (position.last + text)[-LOOKBACK:] if isinstance(self._written, WordTokens) else ""
        return Position(self._end(position.end + added), kind, rest, last)

    def _end(self, text: str) -> str:
        """The longest end of a marked text that begins a form, but is none."""
        for start in range(max(len(text) - self._longest + 1, 0), len(text)):
            if text[start:] in self._starts:
                return text[start:]
        return ""

    def _always(self, kind: str) -> Ids:
        """The tokens that complete a form by themselves, after a character of some kind."""
        if kind not in self._everywhere:
            if self._inside is None:
                containing = (self._index.containing(form) for form in self._forms)
                self._inside = [id for ids in containing for id in ids]
            own = (self._index.completing(form, kind) for form in self._forms)
            self._everywhere[kind] = _ids([*self._inside, *(id for ids in own for id in ids)])
        return self._everywhere[kind]

    def _here(self, position: Position) -> Ids:
        """The tokens that complete a form which the text has begun; of words, all."""
        found = self._found.get(position)
        if found is None:
            if len(self._found) >= MAX_POSITIONS:
                self._found.clear()
            found = self._found[position] = _ids(self._computed(position))
        return found

    def _computed(self, position: Position) -> Iterator[int]:
        if isinstance(self._written, WordTokens):
            few = {*self._always(position.kind).tolist()}
            few |= {*self._completing(position.end, position.kind)}
            yield from (id for id in few if self.completes(position, id))
        elif position.rest:
            # A token that does not go on with the character breaks it.
            broken = self._moved(position, BROKEN, b"")
            yield from self._completing(broken.end, broken.kind)
            yield from (id for id in self._written.heads if self.completes(position, id))
        else:
            yield from self._completing(position.end, position.kind)

    def _completing(self, end: str, kind: str) -> Iterator[int]:
        """The tokens that complete a form of which the text's end has some."""
        for start in range(len(end)):
            for rest in self._rests(end[start:]):
                yield from self._index.completing(rest, kind)

    def _rests(self, begun: str) -> Iterator[str]:
        """What the forms that begin so have behind it."""
        if begun not in self._starts:
            return
        for at in range(bisect_right(self._forms, begun), len(self._forms)):
            if not self._forms[at].startswith(begun):
                return
            yield self._forms[at][len(begun) :]

    def completes(self, position: Position, token: int) -> bool:
        """Whether a token would complete a form, read from its text."""
        text, _ = self._written.after(token, position.rest, position.last)
        added = closed(text, position.kind) if text else ""
        whole, done = position.end + added, len(position.end)
        if position.kind == WORD and added[:1] == BORDER:
            done += 1  # the border of a word that is there already
        for start in range(len(whole)):
            end = start + 1
            while end <= len(whole):
                if end > done and self._is_form(whole[start:end]):
                    return True
                if whole[start:end] not in self._starts:
                    break
                end += 1
        return False

    def _is_form(self, text: str) -> bool:
        at = bisect_left(self._forms, text)
        return self._forms[at : at + 1] == [text]


class _Vocabulary:
    """What the tokens of one model write, and the lists of words that were banned last."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self.written: Written = written_by(tokenizer, size)
        self.index = TokenIndex(self.written.texts())
        self._lists: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], Bans] = OrderedDict()

    def bans(self, words: tuple[str, ...], stop: tuple[str, ...]) -> Bans:
        key = words, stop
        if key not in self._lists:
            self._lists[key] = Bans(self, words, stop)
        self._lists.move_to_end(key)
        while len(self._lists) > MAX_LISTS:
            self._lists.popitem(last=False)
        return self._lists[key]


_VOCABULARIES: WeakKeyDictionary[Tokenizer, dict[int, _Vocabulary]] = WeakKeyDictionary()


def bans_of(
    words: tuple[str, ...], stop: tuple[str, ...], tokenizer: Tokenizer, vocabulary: int
) -> Bans | None:
    """The bans of words over the tokens of a model with so many embeddings; None of no words."""
    if not words:
        return None
    sizes = _VOCABULARIES.setdefault(tokenizer, {})
    if vocabulary not in sizes:
        sizes[vocabulary] = _Vocabulary(tokenizer, vocabulary)
    return sizes[vocabulary].bans(words, stop)


def _cut_by(stop: Sequence[str], words: Sequence[str]) -> Iterator[str]:
    """Words with a stop string behind them, which would be their border."""
    for end in stop:
        if is_word(end[0]):
            yield from (open_form_of(word + end) for word in words if is_word(word[-1]))


def _distinct(positions: list[Position]) -> State:
    return tuple(dict.fromkeys(positions))


def _ids(ids: Iterator[int] | list[int]) -> Ids:
    return np.array(sorted(set(ids)), np.int64)
