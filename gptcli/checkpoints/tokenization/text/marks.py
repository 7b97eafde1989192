"""How vocabularies write tokens: marks of spaces and of the ends of words, and bytes."""

from __future__ import annotations

import re

SPACE = "\u2581"  # sentencepiece's, which mostly begins a word
BYTE_SPACE = "\u0120"  # the byte of a space, in GPT-2's kind
WORD_ENDS = "</w>"  # behind the last token of a word, in GPT-1's kind
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))  # of the byte fallback

_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")  # the library's decoder takes small letters, too


def byte_of(token: str | None) -> int | None:
    """The byte that a token of the byte fallback is; None for any other token."""
    found = _BYTE.fullmatch(token or "")
    return int(found[1], 16) if found else None
