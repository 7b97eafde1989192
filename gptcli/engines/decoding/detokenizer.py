"""Turn tokens into text while they arrive, and end at a stop string.

Text that was shown cannot be taken back. So a piece is given out only when no later token can
change it: bytes wait for the rest of their character, and an end of the text waits while it could
begin a stop string. All pieces together equal the text of decoding all tokens at once, up to the
stop string. A byte-level token is bytes, so there a UTF-8 decoder does the work. Tokens that are
words are joined by `gptcli.checkpoints.tokenization.text.joining`. With other tokenizers the text
of a token depends on its neighbours, so a window of tokens is decoded.

Stop strings are searched in the new text only, not in the prompt. Which finish reason they give is
decided in `gptcli.engines.decoding.sequence`.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from gptcli.checkpoints.tokenization.text.joining import LOOKBACK
from gptcli.checkpoints.tokenization.text.marks import byte_of

if TYPE_CHECKING:
    from gptcli.checkpoints.tokenization.text.joining import Joining
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer

PROMPT_TOKENS = (8, 64)  # of the prompt's end that are decoded before what follows
MAX_CHARACTER = 4  # bytes of a character, and so tokens that can hold the beginning of one


class StopStrings:
    """Passes text on as it arrives, up to the first stop string.

    The first one is the one that is complete first, character by character; of several that end at
    the same character, the longest. So the result does not depend on how the text was cut.
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self.stopped = False
        self._stop = stop
        self._longest = max(map(len, stop), default=0)
        self._held = ""  # may be the beginning of a stop string
        self._given: list[str] = []

    @property
    def text(self) -> str:
        """All text returned so far."""
        return "".join(self._given)

    def give(self, new: str, last: bool) -> str:
        """Take new text and return what is certain by now; all of it if it is the `last`.

        After `stopped` further text is ignored.
        """
        if self.stopped:
            return ""
        # Every match that ends in the new text begins in what was held back, or later.
        text = self._held + new
        end = self._first_stop(text)
        if end is not None:
            self.stopped, certain = True, end
        else:
            certain = len(text) if last else self._open_from(text)
        self._held = "" if self.stopped else text[certain:]
        if certain:
            self._given.append(text[:certain])
        return text[:certain]

    def _first_stop(self, text: str) -> int | None:
        """Where the first stop string begins."""
        found = ((text.find(stop), len(stop)) for stop in self._stop)
        ends = [(start + length, start) for start, length in found if start >= 0]
        return min(ends)[1] if ends else None

    def _open_from(self, text: str) -> int:
        """Where the longest suffix begins that is a prefix of a stop string."""
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            if any(stop.startswith(text[start:]) for stop in self._stop):
                return start
        return len(text)


class Detokenizer(StopStrings):
    """Turns one sequence's tokens into text, up to the first stop string.

    The text continues the prompt: `prompt` and the text are what the tokens of both decode to.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: tuple[str, ...] = (),
        prompt_ids: Sequence[int] = (),
        prompt: str = "",
    ) -> None:
        super().__init__(stop)
        self._decoder = _decoder(tokenizer, prompt_ids, prompt)

    def push(self, token: int) -> str:
        """Take the next token and return the text that is certain by now, which may be empty."""
        return "" if self.stopped else self.give(self._decoder.push(token), last=False)

    def flush(self) -> str:
        """End the text and return what was held back. An incomplete character becomes U+FFFD."""
        return "" if self.stopped else self.give(self._decoder.flush(), last=True)


class _Decoder(Protocol):
    def push(self, token: int) -> str: ...

    def flush(self) -> str: ...


def _decoder(tokenizer: Tokenizer, prompt_ids: Sequence[int], prompt: str) -> _Decoder:
    if tokenizer.byte_level:
        return _ByteDecoder(tokenizer, prompt_ids)
    if tokenizer.joining is not None:
        return _WordDecoder(tokenizer, tokenizer.joining, prompt)
    return _WindowDecoder(tokenizer, prompt_ids, prompt)


class _ByteDecoder:
    """Decodes the tokens of a byte-level tokenizer.

    A prompt of token ids can end inside a character, which is then the first one of the text.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = ()) -> None:
        self._bytes_of = tokenizer.token_bytes
        # Python and Rust replace the same bytes: Unicode's "maximal subpart" practice.
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token in prompt_ids[-MAX_CHARACTER:]:
            self._utf8.decode(self._bytes_of(token) or b"")

    def push(self, token: int) -> str:
        return self._utf8.decode(self._bytes_of(token) or b"")

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


class _WordDecoder:
    """Joins tokens that are words: what one adds depends on the last characters before it alone."""

    def __init__(self, tokenizer: Tokenizer, joining: Joining, prompt: str) -> None:
        self._visible, self._joining, self._last = tokenizer.visible, joining, prompt[-LOOKBACK:]

    def push(self, token: int) -> str:
        piece = self._joining.joined(self._visible([token]), self._last)
        self._last = (self._last + piece)[-LOOKBACK:]
        return piece

    def flush(self) -> str:
        return ""


class _WindowDecoder:
    """Decodes the tokens of any other tokenizer, where text depends on the neighbouring tokens.

    A new piece is what the window of tokens decodes to, less what it decoded to before the new
    token. The window begins one piece early, because only a token with another before it gets its
    space; so it begins in the prompt. DecodeStream of tokenizers works alike, but gives out bytes
    that a later one turns into U+FFFD. Special tokens are in no window, except an unknown one of
    the prompt: it stands for text, and what follows has its space.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = (), prompt: str = ""
    ) -> None:
        self._tokenizer, self._decode = tokenizer, partial(tokenizer.decode, special=True)
        before = _end_of(tokenizer, prompt_ids)
        text = self._decode(before) if before else ""
        # Of spaces at its end the prompt's text has them all, its tokens mostly none.
        self._spaces = "" if text[-1:].isspace() else prompt[len(prompt.rstrip()) :]
        self._prompt_text, self._prompt_length = text, len(before)
        self._tokens: list[int] = before
        self._sent: list[str] = []
        self._window, self._done = 0, len(before)  # the window's beginning, and its part given out
        self._among_bytes = False

    def push(self, token: int) -> str:
        return self._after_spaces(self._push(token)) if self._tokenizer.visible([token]) else ""

    def flush(self) -> str:
        return self._after_spaces(self._flush())

    def _after_spaces(self, piece: str) -> str:
        """The piece without the spaces that the prompt ends in, or the one in place of them."""
        if piece.startswith(" ") and self._spaces and self._spaces[0] != " ":
            self._spaces, piece = "", piece[1:]
        while self._spaces and piece.startswith(self._spaces[0]):
            self._spaces, piece = self._spaces[1:], piece[1:]
        if piece:
            self._spaces = ""
        return piece

    def _push(self, token: int) -> str:
        self._tokens.append(token)
        if self._is_byte(token):
            self._among_bytes = True
        elif self._decode([token]):
            self._among_bytes = False
        if self._among_bytes:
            return ""
        before = self._decode(self._tokens[self._window : self._done])
        now = self._decode(self._tokens[self._window :])
        if now == before or not now.startswith(before) or now.endswith("\ufffd"):
            return ""
        self._window, self._done = self._done, len(self._tokens)
        self._sent.append(now[len(before) :])
        return self._sent[-1]

    def _flush(self) -> str:
        whole, sent = self._whole(), "".join(self._sent)
        # If the tokenizer rewrote text that was given out, the rest is unknown.
        rest = whole[len(sent) :] if whole.startswith(sent) else ""
        self._sent.append(rest)
        return rest

    def _whole(self) -> str:
        """What all new tokens decode to, after the prompt."""
        whole = self._decode(self._tokens)
        if whole.startswith(self._prompt_text):
            return whole[len(self._prompt_text) :]
        return self._decode(self._tokens[self._prompt_length :])

    def _is_byte(self, token: int) -> bool:
        # Byte fallback decodes a run of bytes as a whole: all of it, or a U+FFFD for each.
        return byte_of(self._tokenizer.raw.id_to_token(token)) is not None


def _end_of(tokenizer: Tokenizer, prompt_ids: Sequence[int]) -> list[int]:
    """As many of the prompt's last tokens as make a text; none where that ends inside a character.

    What comes before them does not change how the tokens after them decode.
    """
    end: list[int] = []
    for length in (*PROMPT_TOKENS, len(prompt_ids)):
        last = prompt_ids[-length:] if length else prompt_ids
        end = [id for id in last if id == tokenizer.unknown_id or tokenizer.visible([id])]
        text = tokenizer.decode(end, special=True)
        if text.strip():
            return [] if text.endswith("\ufffd") else end
    return end
