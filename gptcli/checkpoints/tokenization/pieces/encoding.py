"""From a text to pieces with their places, and from pieces to a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gptcli.checkpoints.tokenization.pieces.model import (
    BYTE,
    CONTROL,
    USER_DEFINED,
    PieceModel,
)
from gptcli.checkpoints.tokenization.pieces.normalizing import Normalizer, Symbols
from gptcli.checkpoints.tokenization.pieces.segmenting import segmenter
from gptcli.checkpoints.tokenization.text.marks import SPACE


class Piece(NamedTuple):
    """A piece of a text: its id, and which characters of the text it stands for."""

    id: int
    start: int
    end: int


class Encoder:
    """Cuts texts into pieces as a model says."""

    def __init__(self, model: PieceModel) -> None:
        symbols = Symbols(model.texts[id] for id in model.of_kind(USER_DEFINED))
        self._normalizer = Normalizer(model.normalization, symbols)
        self._segment = segmenter(model)
        self._unknown = model.unknown
        self._bytes = {int(model.texts[id][3:5], 16): id for id in model.of_kind(BYTE)}

    def pieces(self, text: str) -> list[Piece]:
        """The pieces of a text. No place is empty: what stands for one character has its place."""
        written, sources = self._normalizer.places(text)
        found: list[Piece] = []
        begin, unknown_before = 0, False
        for end, id in self._segment(written):
            start, stop = _place(sources, begin, end)
            unknown = id == self._unknown
            if unknown and self._bytes:
                found += [
                    Piece(self._bytes[byte], start, stop) for byte in written[begin:end].encode()
                ]
            elif unknown and unknown_before:
                found[-1] = Piece(id, found[-1].start, stop)
            else:
                found.append(Piece(id, start, stop))
            begin, unknown_before = end, unknown
        return found


def _place(sources: list[int], begin: int, end: int) -> tuple[int, int]:
    """Where the source of a part of the written text is."""
    last = end
    while last < len(sources) - 1 and sources[last] <= sources[end - 1]:
        last += 1  # several characters were made of one, or a space was put before it
    start, stop = sources[begin], sources[last]
    return (start, stop) if stop > start else (max(0, stop - 1), stop)


class Decoder:
    """Turns pieces into a text."""

    def __init__(self, model: PieceModel, shown: Iterable[str]) -> None:
        """shown: texts of special tokens, which stand in the text as they are."""
        spec = model.normalization
        self._hidden = frozenset(model.texts[id] for id in model.of_kind(CONTROL))
        self._bytes = {model.texts[id]: int(model.texts[id][3:5], 16) for id in model.of_kind(BYTE)}
        self._unknown, self._unknown_text = model.texts[model.unknown], model.unknown_text
        self._shown = frozenset(shown)
        self._strips = spec.add_dummy_prefix or spec.remove_extra_whitespaces
        self._strips_all = spec.remove_extra_whitespaces
        spec_back = model.denormalization
        self._back = None if spec_back is None else Normalizer(spec_back, Symbols(()))

    def text(self, pieces: Iterable[str]) -> str:
        """The text of pieces."""
        whole = "".join(self._parts(pieces))
        return whole if self._back is None else self._back.text(whole)

    def _parts(self, pieces: Iterable[str]) -> Iterator[str]:
        at_begin, run = self._strips, bytearray()
        for piece in pieces:
            if piece in self._bytes:
                run.append(self._bytes[piece])
                continue
            if run:
                yield _decoded(run)
                at_begin, run = False, bytearray()
            text = self._text(piece)
            if at_begin and text.startswith(" ") and piece.startswith(SPACE):
                text = text[1:]
                at_begin = self._strips_all
            at_begin = at_begin and not text
            yield text
        yield _decoded(run)

    def _text(self, piece: str) -> str:
        if piece in self._shown:
            return piece
        if piece == self._unknown:
            return self._unknown_text
        return "" if piece in self._hidden else piece.replace(SPACE, " ")


def _decoded(run: bytearray) -> str:
    """The text of bytes, each that is none of UTF-8 as U+FFFD."""
    return "".join(
        "\ufffd" if "\udc80" <= character <= "\udcff" else character
        for character in run.decode("utf-8", "surrogateescape")
    )
