"""Where tokens begin in the text that they decode to.

A byte-level token is bytes, and a character can spread over several tokens: a token begins at the
character that holds its first byte. Bytes that make no character are one U+FFFD or several, exactly
as Python and the tokenizer write them.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.decoding.detokenizer import Detokenizer

UTF8 = codecs.getincrementaldecoder("utf-8")


class TextPlaces:
    """Takes one token after the other; `offset` is the length of the text so far, in characters.

    prompt_ids, prompt: what stands before the text, whose tokens are not counted; begun: the bytes
    of a character that has begun there.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        offset: int = 0,
        prompt_ids: Sequence[int] = (),
        prompt: str = "",
        begun: bytes = b"",
    ) -> None:
        self.offset, self._tokenizer = offset, tokenizer
        self._utf8 = UTF8("replace")
        self._utf8.decode(begun)
        self._other = (
            None if tokenizer.byte_level else Detokenizer(tokenizer, (), prompt_ids, prompt)
        )

    @property
    def begun(self) -> bytes:
        """The bytes of a character that is not complete."""
        return self._utf8.getstate()[0]

    def push(self, id: int) -> int:
        """Where the next token begins."""
        if self._other is None:
            return self.push_bytes(self._tokenizer.token_bytes(id) or b"")
        start = self.offset
        self.offset += len(self._other.push(id))
        return start

    def push_bytes(self, data: bytes) -> int:
        """Where the next token's bytes begin."""
        other = self.begun and data and not _goes_on(self.begun, data[:1])
        start = self.offset + bool(other)  # behind the U+FFFD of what has begun
        self.offset += len(self._utf8.decode(data))
        return start


def shown_bytes(tokenizer: Tokenizer, id: int) -> bytes:
    """The bytes of a byte-level token; of a special token those of its text."""
    return tokenizer.token_bytes(id) or tokenizer.token_text(id).encode()


def _goes_on(begun: bytes, byte: bytes) -> bool:
    """Whether a byte belongs to a character that has begun."""
    try:
        UTF8("strict").decode(begun + byte)
    except UnicodeDecodeError:
        return False
    return True
