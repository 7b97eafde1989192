"""A text as sentencepiece cuts it: rewritten, its spaces marked, each character with its source."""

from __future__ import annotations

from collections.abc import Iterable

from gptcli.checkpoints.tokenization.pieces.charsmap import CharsMap
from gptcli.checkpoints.tokenization.pieces.model import Normalization
from gptcli.checkpoints.tokenization.text.marks import SPACE


class Symbols:
    """Finds the longest of some texts (user-defined symbols) at a place of a text."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self._symbols = frozenset(symbols)
        lengths: dict[str, set[int]] = {}
        for symbol in self._symbols:
            lengths.setdefault(symbol[0], set()).add(len(symbol))
        self._lengths = {first: sorted(found)[::-1] for first, found in lengths.items()}

    def __bool__(self) -> bool:
        return bool(self._symbols)

    def at(self, text: str, place: int) -> int:
        """How many characters the longest symbol at this place has; 0 if there is none."""
        for length in self._lengths.get(text[place], ()):
            if (found := text[place : place + length]) in self._symbols:
                return len(found)  # which is less at the end of the text
        return 0


class Normalizer:
    """Rewrites a text by a model's rules."""

    def __init__(self, spec: Normalization, symbols: Symbols) -> None:
        self._spec, self._symbols = spec, symbols
        self._map = CharsMap(spec.charsmap)
        self._space = SPACE if spec.escape_whitespaces else " "

    def text(self, text: str) -> str:
        """The rewritten text alone."""
        return self.places(text)[0]

    def places(self, text: str) -> tuple[str, list[int]]:
        """The rewritten text, and where the source of each of its characters begins.

        The last place is where the source of the whole ends.
        """
        spec = self._spec
        begin = self._leading(text) if spec.remove_extra_whitespaces else 0
        if begin == len(text):
            return "", [0]
        written: list[str] = []
        sources: list[int] = []
        if spec.add_dummy_prefix and not spec.whitespace_as_suffix:
            written.append(self._space)
            sources.append(begin)
        end = self._rewrite(text, begin, written, sources)
        if spec.remove_extra_whitespaces:
            while written and written[-1] == self._space:
                written.pop()
                end = sources.pop()
        if spec.add_dummy_prefix and spec.whitespace_as_suffix:
            written.append(self._space)
            sources.append(end)
        return "".join(written), [*sources, end]

    def _rewrite(self, text: str, begin: int, written: list[str], sources: list[int]) -> int:
        removes = self._spec.remove_extra_whitespaces
        after_space, place = removes, begin
        while place < len(text):
            piece, length = self._next(text, place)
            if after_space:
                piece = piece.lstrip(" ")
            if piece:
                written.extend(piece.replace(" ", self._space))
                sources.extend([place] * len(piece) if len(piece) > 1 else (place,))
                after_space = removes and piece[-1] == " "
            place += length
        return place

    def _leading(self, text: str) -> int:
        """Where the text begins behind its leading spaces."""
        place = 0
        while place < len(text):
            piece, length = self._next(text, place)
            if piece != " ":
                break
            place += length
        return place

    def _next(self, text: str, place: int) -> tuple[str, int]:
        """What the text's next characters become, and how many they are."""
        if self._symbols and (length := self._symbols.at(text, place)):
            return text[place : place + length], length
        target, length = self._map.match(text, place)
        return (target, length) if length else (text[place], 1)
