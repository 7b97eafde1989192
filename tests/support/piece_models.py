"""sentencepiece models: written field by field, or trained with the package; odd texts for them."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)
SPACE = "\u2581"
LINES = [
    "吾輩は猫である。",
    "名前はまだ無い。",
    "どこで生れたかとんと見当がつかぬ。",
    "何でも薄暗いじめじめした所でニャーニャー泣いていた事だけは記憶している。",
    "Once upon a time, there was a little fox who lived in the forest;",
    "she wasn't afraid of 1,234 wolves.",
    "Det var en gång en räv som bodde i skogen.",
    "def f(x):    return x  # 12,345.67",
    "Hello   world <uds> foo",
    "\uff21\uff22\uff23 ①②③ が か\u3099",
] * 3


def varint(value: int) -> bytes:
    """A number of up to any size, as it stands in a file."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def field(number: int, value: bytes | str | int | float) -> bytes:
    """One field: bytes and texts with their length, whole numbers, and floats of 32 bits."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(*fields: tuple[int, Any]) -> bytes:
    """A message of fields."""
    return b"".join(field(number, value) for number, value in fields)


@dataclass(frozen=True)
class Piece:
    """One piece of a model."""

    text: str
    score: float = 0.0
    kind: int = NORMAL

    def field(self) -> bytes:
        """The piece as a field of the file."""
        kind = [] if self.kind == NORMAL else [(3, self.kind)]
        return field(1, message((1, self.text), (2, self.score), *kind))


SPECIAL = [Piece("<unk>", kind=UNKNOWN), Piece("<s>", kind=CONTROL), Piece("</s>", kind=CONTROL)]
LETTERS = [Piece(text, -float(place) - 1) for place, text in enumerate("abcdeo \u2581,1")]
WORDS = [Piece(text, -2.5) for text in ("ab", "abc", "\u2581a", "bc", "de")]
PIECES = [*SPECIAL, *LETTERS, *WORDS]
BYTES = [Piece(f"<0x{number:02X}>", kind=BYTE) for number in range(256)]


def written(
    pieces: Sequence[Piece] = PIECES,
    trainer: bytes = b"",
    normalizer: bytes = b"",
    more: bytes = b"",
) -> bytes:
    """A model's file; trainer and normalizer are messages."""
    fields = [piece.field() for piece in pieces]
    return b"".join([*fields, field(2, trainer), field(3, normalizer), more])


def trained(model_type: str, size: int = 300, **options: object) -> bytes:
    """A model that the sentencepiece package trains on LINES."""
    import sentencepiece

    found = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_writer=found,
        model_type=model_type,
        vocab_size=size,
        minloglevel=2,
        hard_vocab_limit=False,
        num_threads=1,
        **options,
    )
    return found.getvalue()


_RANGES = [(32, 126)] * 4 + [(0, 31), (127, 159), (0xA0, 0x24F), (0x370, 0x4FF), (0x600, 0x6FF)]
_RANGES += [(0x900, 0x97F), (0x1100, 0x11FF), (0xAC00, 0xD7A3), (0x3040, 0x30FF), (0x4E00, 0x9FFF)]
_RANGES += [(0xFF00, 0xFFEF), (0x2000, 0x206F), (0xFFF0, 0xFFFF), (0x1F300, 0x1FAFF)]
_RANGES += [(0, 0xD7FF), (0x10000, 0x10FFFF)]
_BASES, _MARKS = (
    "かきはaeouAEN가",
    ["", "\u3099", "\u309a", "\u0301", "\u0308", "\u0323\u0302", "\u0327"],
)
_SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u3000", "\u00a0", "\u2003", "\u200b", "\ufeff", SPACE]
_WHOLE = ["<s>", "</s>", "<S>", "<unk>", "[PAD]", "[CLS]", "<pad>", "<mask>", "<0x41>", "<ctl>"]
_WHOLE += [
    "<uds>",
    "\uff26\uff2f\uff2f",
    "foo",
    "👩\u200d🚀",
    "🇯🇵",
    "❤️",
    "㍿",
    "ﬁ",
    "Ⅷ",
    "½",
    "ｶﾞ",
    "﷽",
    "1,2,3,",
]
_WHOLE += [
    "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u03a3\u0391\u03a3",
    "İstanbul",
    "``quoted''",
]


def odd_texts(count: int, seed: int = 1) -> list[str]:
    """Texts of everything that is hard on a tokenizer; one in fifty is long."""
    chance = random.Random(seed)
    longer = (40 if number % 50 == 0 else 1 for number in range(count))
    return [
        "".join(_part(chance) for _ in range(times * chance.randrange(1, 9))) for times in longer
    ]


def _part(chance: random.Random) -> str:
    count = range(chance.randrange(1, 9))
    match chance.randrange(6):
        case 0:
            return "".join(chance.choice(_BASES) + chance.choice(_MARKS) for _ in count)
        case 1:
            return "".join(chance.choice(_SPACES) for _ in count)
        case 2:
            return chance.choice(_WHOLE)
        case 3:
            line = chance.choice(LINES)
            return line[chance.randrange(len(line)) :]
        case _:
            low, high = chance.choice(_RANGES)
            return "".join(chr(chance.randint(low, high)) for _ in count)
