"""UTF-16 and UTF-32 are told from UTF-8 by their first bytes, and are refused once, whole.

Line by line they would be read as text full of NUL characters. A byte order mark decides; without
one the bytes do: in UTF-16 every other byte of most scripts is small, and some are NUL, which text
in UTF-8 never holds.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from gptcli.errors import BadInput

SAMPLE_BYTES = 4096
_MARKS = (  # UTF-32's little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MIN_BYTES, _MIN_WIDE_BYTES = 8, 16  # that tell without a mark
_INVALID_SHARE = 1 / 8  # share of the bytes that UTF-8 cannot have
_UPPER_BYTES = bytes(range(0x10))  # upper bytes of the alphabets from Latin to Thai
_SPACES = b"\t\n\r"  # are no upper bytes in a sample as short as this
_SHORT_BYTES = 64
_EXPECTED_SHARE = 0.9  # share of the bytes, or characters, that are as expected


def foreign_encoding(head: bytes, *, marked_only: bool = False) -> str | None:
    """The encoding that these first bytes are in, as iconv names it; None for UTF-8 or no text.

    `marked_only`: only a byte order mark counts, because NUL bytes are expected.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    return None if marked_only else _unmarked(head[:SAMPLE_BYTES])


def refuse_foreign(head: bytes, source: str, *, marked_only: bool = False) -> None:
    """Raises BadInput, with the way out, where the first bytes are UTF-16 or UTF-32."""
    encoding = foreign_encoding(head, marked_only=marked_only)
    if encoding is not None:
        shown = encoding.upper()[:6]
        hint = f"Convert it: iconv -f {encoding} -t utf-8 OLD > NEW"
        raise BadInput(source, f"its text is {shown}, not UTF-8", hint)


def not_utf8(source: str, at: int) -> BadInput:
    """The error for a byte that is not UTF-8; `at` counts from 0."""
    hint = "Convert it with iconv, or replace such bytes with --errors replace."
    return BadInput(source, f"invalid UTF-8 at byte {at}", hint)


def checked(
    pieces: Iterator[bytes | None], source: str, *, marked_only: bool = False
) -> Iterator[bytes | None]:
    """The pieces, after a look at the first bytes; None is handed on. Raises BadInput."""
    head = b""
    for piece in pieces:
        if piece is not None and len(head) < SAMPLE_BYTES:  # nothing is held back
            head += piece
            refuse_foreign(head, source, marked_only=marked_only)
        yield piece


def _unmarked(sample: bytes) -> str | None:
    sample = sample[: len(sample) // 2 * 2]
    if len(sample) < _MIN_BYTES or b"\0" not in sample:
        return None
    for upper, lower, encoding in ((1, 0, "utf-16le"), (0, 1, "utf-16be")):
        high, low = sample[upper::2], sample[lower::2]
        if 0 in high and 0 not in low and max(low) >= 0x20 and _is_small(high):
            return encoding
        if 0 in high and _is_wide(sample, encoding):
            return encoding
    return None


def _is_small(high: bytes) -> bool:
    small = _UPPER_BYTES.translate(None, _SPACES) if len(high) * 2 < _SHORT_BYTES else _UPPER_BYTES
    return len(high) - len(high.translate(None, small)) >= _EXPECTED_SHARE * len(high)


def _is_wide(sample: bytes, encoding: str) -> bool:
    """Whether these bytes, such as Chinese, are text in UTF-16 and none in UTF-8."""
    spoilt = sample.decode("utf-8", "replace").count("\ufffd")
    if len(sample) < _MIN_WIDE_BYTES or spoilt < len(sample) * _INVALID_SHARE:
        return False
    text = _text(sample, encoding)
    shown = sum(letter.isprintable() or letter.isspace() for letter in text)
    return ("\n" in text or " " in text) and shown >= _EXPECTED_SHARE * len(text)


def _text(sample: bytes, encoding: str) -> str:
    """The text of a sample that may end inside a character; empty if it is none."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return ""
