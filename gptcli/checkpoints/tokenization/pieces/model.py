"""What a sentencepiece model's file says: its pieces, and how texts are normalized.

Read with the rules of the sentencepiece package: what it does not load is refused here. Raises
ValueError with the rule that is broken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

from gptcli.checkpoints.tokenization.pieces.wire import (
    BYTES,
    VARINT,
    Field,
    fields,
    float_of,
    of_kind,
    text_of,
)
from gptcli.checkpoints.tokenization.text.marks import BYTE_TOKENS

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
IN_TEXTS = frozenset({NORMAL, USER_DEFINED, UNUSED})  # pieces that a text can hold
UNIGRAM, BPE, WORD, CHAR = range(1, 5)
MAX_PIECES = 2**19  # the largest vocabularies in use have 2^18
LONGEST_PIECE = 2**10  # characters; sentencepiece's own limit is 16 unless told otherwise
_PIECE, _TRAINER, _NORMALIZER, _DENORMALIZER = 1, 2, 3, 5  # fields of the file


@dataclass(frozen=True)
class Normalization:
    """How a text becomes what is cut into pieces."""

    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True
    whitespace_as_suffix: bool = False


@dataclass(frozen=True)
class PieceModel:
    """A sentencepiece model. A piece's id is its place in `texts`, `scores` and `kinds`."""

    texts: tuple[str, ...]
    scores: tuple[float, ...]
    kinds: bytes
    algorithm: int
    normalization: Normalization
    denormalization: Normalization | None
    byte_fallback: bool
    unknown: int  # the id of the unknown piece
    unknown_text: str  # what it is decoded to

    def of_kind(self, *kinds: int) -> Iterator[int]:
        """The ids of all pieces of these kinds."""
        return (id for id, kind in enumerate(self.kinds) if kind in kinds)


def parse(data: bytes) -> PieceModel:
    """The model that a file holds."""
    pieces: list[tuple[str, float, int]] = []
    parts: dict[int, bytes] = {}
    for field in fields(data, 0, len(data)):
        if field.number == _PIECE:
            if len(pieces) == MAX_PIECES:
                raise ValueError(f"more than {MAX_PIECES} pieces")
            pieces.append(_piece(data, of_kind(field, BYTES)))
        elif field.number in (_TRAINER, _NORMALIZER, _DENORMALIZER):
            of_kind(field, BYTES)  # a message that comes twice is one, in two parts
            known = parts.get(field.number, b"")
            parts[field.number] = known + data[field.start : field.end]
    if not pieces:
        raise ValueError("it holds no pieces")
    texts, scores, kinds = (tuple(column) for column in zip(*pieces, strict=True))
    trainer = _Message(parts.get(_TRAINER, b""))
    fallback = trainer.flag(35, False)
    _check(texts, kinds, fallback)
    denormalizer = _Message(parts.get(_DENORMALIZER, b""))
    return PieceModel(
        texts=texts,
        scores=scores,
        kinds=bytes(kinds),
        algorithm=trainer.choice(3, UNIGRAM, CHAR),
        normalization=_normalization(
            _Message(parts.get(_NORMALIZER, b"")), suffix=trainer.flag(24, False)
        ),
        denormalization=_normalization(denormalizer) if denormalizer.blob(2) else None,
        byte_fallback=fallback,
        unknown=kinds.index(UNKNOWN),
        unknown_text=trainer.text(44, " \u2047 "),
    )


def _piece(data: bytes, whole: Field) -> tuple[str, float, int]:
    text, score, kind = "", 0.0, NORMAL
    for field in fields(data, whole.start, whole.end):
        if field.number == 1:
            text = text_of(data, field)
        elif field.number == 2:
            score = float_of(data, field)
        elif field.number == 3:
            kind = of_kind(field, VARINT).value
    _check_piece(text, score, kind)
    return text, score, kind


def _check_piece(text: str, score: float, kind: int) -> None:
    if not text or "\0" in text:
        raise ValueError("a piece is empty, or holds a NUL")
    if len(text) > LONGEST_PIECE:
        raise ValueError(f"a piece has {len(text)} characters")
    if not isfinite(score):
        raise ValueError(f"the score of {text!r} is not a number")
    if not NORMAL <= kind <= BYTE:
        raise ValueError(f"{text!r} is of the kind {kind}")


def _check(texts: tuple[str, ...], kinds: tuple[int, ...], fallback: bool) -> None:
    if len(set(texts)) < len(texts):
        text, times = Counter(texts).most_common(1)[0]
        raise ValueError(f"{times} pieces are written {text!r}")
    if kinds.count(UNKNOWN) != 1:
        raise ValueError(f"{kinds.count(UNKNOWN)} pieces stand for the unknown, not one")
    found = [text for text, kind in zip(texts, kinds, strict=True) if kind == BYTE]
    if sorted(found) != (sorted(BYTE_TOKENS) if fallback else []):
        raise ValueError("its pieces for bytes are not those of byte_fallback")
    if IN_TEXTS.isdisjoint(kinds):
        raise ValueError("no piece stands for a text")


def _normalization(spec: _Message, suffix: bool = False) -> Normalization:
    return Normalization(
        charsmap=spec.blob(2),
        add_dummy_prefix=spec.flag(3, True),
        remove_extra_whitespaces=spec.flag(4, True),
        escape_whitespaces=spec.flag(5, True),
        whitespace_as_suffix=suffix,
    )


class _Message:
    """The last field of each number in a message: it is the one that counts."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fields = {field.number: field for field in fields(data, 0, len(data))}

    def _found(self, number: int, kind: int) -> Field | None:
        field = self._fields.get(number)
        return None if field is None else of_kind(field, kind)

    def flag(self, number: int, default: bool) -> bool:
        field = self._found(number, VARINT)
        return default if field is None else field.value != 0

    def choice(self, number: int, default: int, last: int) -> int:
        field = self._found(number, VARINT)
        value = default if field is None else field.value
        if not 1 <= value <= last:
            raise ValueError(f"field {number} is {value}, which means nothing")
        return value

    def blob(self, number: int) -> bytes:
        field = self._found(number, BYTES)
        return b"" if field is None else self._data[field.start : field.end]

    def text(self, number: int, default: str) -> str:
        field = self._fields.get(number)
        return default if field is None else text_of(self._data, field)
