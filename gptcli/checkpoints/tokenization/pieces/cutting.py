"""The parts that the `tokenizers` library calls: they cut a text into tokens, and join them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from gptcli.checkpoints.tokenization.pieces import cleaning
from gptcli.checkpoints.tokenization.pieces.classes import TokenizerClass
from gptcli.checkpoints.tokenization.pieces.cleaning import Cleaner, Placed, placed
from gptcli.checkpoints.tokenization.pieces.encoding import Decoder, Encoder, Piece
from gptcli.checkpoints.tokenization.pieces.model import PieceModel
from gptcli.checkpoints.tokenization.roles import token_text
from gptcli.checkpoints.tokenization.text.marks import SPACE
from gptcli.system.strict_json import Object

if TYPE_CHECKING:
    import tokenizers


class Cutter:
    """Gives the tokens of each part of a text that holds no special token.

    It is a pre-tokenizer to the library; as it gives tokens, the library's model has nothing to do.
    """

    def __init__(
        self,
        model: PieceModel,
        known: Mapping[str, int],
        ids: Sequence[int],
        special: Sequence[str],
    ) -> None:
        """known: the id of each token's text; ids: of the model's pieces."""
        self._known, self._ids = known, ids
        self._shown = {id: text for text, id in known.items()}
        longest_first = sorted(special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or "$^")
        self._lower = False
        self._clean: Cleaner = _unchanged
        self._pieces: _Pieces | _NewPieces = _Pieces(model)

    def as_class(self, model: PieceModel, found: TokenizerClass, settings: Object) -> Cutter:
        """The same with what a tokenizer class does to texts."""
        self._lower = _flag(settings, "do_lower_case", found.lower)
        if found.cleaning == "albert":
            self._clean = cleaning.albert(
                remove_space=_flag(settings, "remove_space", True),
                keep_accents=_flag(settings, "keep_accents", False),
                lower=self._lower,
            )
            self._pieces = _CommaPieces(model)
        elif found.cleaning == "gpt_sw3":
            self._clean = cleaning.gpt_sw3
        elif found.can_be_new and settings.get("legacy") is False:
            unknown = token_text(settings.get("unk_token")) or model.texts[model.unknown]
            self._pieces = _NewPieces(model, unknown, _flag(settings, "add_prefix_space", True))
        return self

    def pre_tokenize(self, text: tokenizers.PreTokenizedString) -> None:
        """Called by the library with a text whose special tokens are cut out."""
        from tokenizers import Token

        special = [tokens is not None for _, _, tokens in text.get_splits()]
        first = special[:1] == [False]  # a prefix stands before a text, not behind a special token
        alone = first and special[1:2] == [True]

        def cut(part: str) -> list[Token]:
            nonlocal first
            given = self._pieces.prepared(placed(part), first)
            found = list(self._cut(given))
            if first and alone:
                found = self._pieces.without_prefix(found)
            first = False
            sizes = [0, *accumulate(len(character.encode()) for character in part)]
            return [
                Token(id, self._shown[id], (sizes[start], sizes[end])) for id, start, end in found
            ]

        text.tokenize(cut)

    def _cut(self, given: Placed) -> Iterator[Piece]:
        place = 0
        if self._lower:
            given = cleaning.lowered(given)
            for match in self._special.finditer(given.text):  # one that was written larger
                yield from self._part(given.part(place, match.start()))
                place = match.end()
                start, end = given.starts[match.start()], given.ends[place - 1]
                yield Piece(self._known[match.group()], start, end)
        yield from self._part(given.part(place, len(given.text)) if place else given)

    def _part(self, given: Placed) -> Iterator[Piece]:
        given = self._clean(given)
        for id, start, end in self._pieces.of(given.text):
            yield Piece(self._ids[id], given.starts[start], given.ends[end - 1])


class Joiner:
    """The text of tokens; a decoder to the library."""

    def __init__(self, model: PieceModel, special: Sequence[str]) -> None:
        self._decoder = Decoder(model, special)

    def decode(self, tokens: list[str]) -> str:
        """Called by the library, and so is the next."""
        return self._decoder.text(tokens)

    def decode_chain(self, tokens: list[str]) -> list[str]:
        return [self._decoder.text(tokens)]


class _Pieces:
    """Cuts as the model says."""

    def __init__(self, model: PieceModel) -> None:
        self._model = model
        self._encoder = Encoder(model)

    def prepared(self, given: Placed, first: bool) -> Placed:
        return given

    def without_prefix(self, found: list[Piece]) -> list[Piece]:
        return found

    def of(self, text: str) -> list[Piece]:
        return self._encoder.pieces(text)


class _CommaPieces(_Pieces):
    """Cuts as ALBERT and XLNet do: a comma behind a digit is a piece by itself."""

    def __init__(self, model: PieceModel) -> None:
        super().__init__(model)
        self._by_text = {text: id for id, text in enumerate(model.texts)}

    def of(self, text: str) -> list[Piece]:
        found: list[Piece] = []
        for piece in super().of(text):
            written = self._model.texts[piece.id]
            if len(written) > 1 and written[-1] == "," and written[-2].isdigit():
                parts = [*self._parts(written[:-1]), self._of(",")]
                found += [Piece(part, piece.start, piece.end) for part in parts]
            else:
                found.append(piece)
        return found

    def _parts(self, written: str) -> list[int]:
        parts = [piece.id for piece in super().of(written.replace(SPACE, ""))]
        first = self._model.texts[parts[0]] if parts else ""
        if written[0] == SPACE or not first.startswith(SPACE):
            return parts
        return parts[1:] if first == SPACE else [self._of(first[1:]), *parts[1:]]

    def _of(self, text: str) -> int:
        return self._by_text.get(text, self._model.unknown)


class _NewPieces(_Pieces):
    """Cuts as LLaMA's and T5's classes do with `legacy: false`: a prefix at the beginning alone."""

    def __init__(self, model: PieceModel, unknown: str, prefix: bool) -> None:
        spec = replace(model.normalization, add_dummy_prefix=False)
        super().__init__(replace(model, normalization=spec))
        self._before, self._prefix = unknown, prefix
        self._skipped = len(super().of(unknown))
        self._prefix_alone = [id for id, text in enumerate(model.texts) if text == SPACE]

    def prepared(self, given: Placed, first: bool) -> Placed:
        text = given.text.replace(SPACE, " ")
        if not (first and self._prefix):
            return Placed(text, given.starts, given.ends)
        return Placed(SPACE + text, (0, *given.starts), (given.ends[0], *given.ends))

    def without_prefix(self, found: list[Piece]) -> list[Piece]:
        return [] if [piece.id for piece in found] == self._prefix_alone else found

    def of(self, text: str) -> list[Piece]:
        if not text.startswith((SPACE, " ")):
            return super().of(text)
        found = super().of(self._before + text)  # sentencepiece would drop leading spaces
        size = len(self._before)
        kept = found[self._skipped :] if len(found) >= self._skipped else found
        return [Piece(id, max(start - size, 0), max(end - size, 1)) for id, start, end in kept]


def _unchanged(given: Placed) -> Placed:
    return given


def _flag(settings: Object, name: str, default: bool) -> bool:
    value = settings.get(name)
    return value if isinstance(value, bool) else default
