"""What each token of a vocabulary writes, in the terms of `detokenizer`: bytes, pieces or words.

A character may spread over tokens, so what a token adds depends on the bytes before it that are no
whole character yet. Where tokens are words, a space between two depends on what stands around it.
"""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast
from weakref import proxy

from gptcli.checkpoints.tokenization.text.marks import BYTE_SPACE, SPACE, WORD_ENDS, byte_of
from gptcli.engines.decoding.bans.borders import BORDER, alone

if TYPE_CHECKING:
    from gptcli.checkpoints.tokenization.text.joining import Joining
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer

BROKEN = "\ufffd"  # what is written for bytes that are no character
_MAX_ANCHORS = 4096  # tokens that are tried as the neighbours of others


class ByteTokens:
    """Tokens that write bytes, whatever stands before them.

    Of a run of `loose` bytes all are broken where one is.
    """

    loose: frozenset[int] = frozenset()

    def __init__(self, tokenizer: Tokenizer, silent: frozenset[int], vocabulary: int) -> None:
        # Who asks holds the tokenizer, and the tokenizer holds what was found of it.
        self._tokenizer = cast("Tokenizer", proxy(tokenizer))
        self._silent, self._vocabulary = silent, vocabulary

    def data(self, id: int) -> bytes:
        """The bytes of a token."""
        return b"" if id in self._silent else self._tokenizer.token_bytes(id) or b""

    def after(self, id: int, rest: bytes, last: str) -> tuple[str, bytes]:
        """What a token adds after the rest of a character, and the rest after it."""
        return decoded(rest + self.data(id))

    def begun(self, ids: Sequence[int], prompt: str) -> tuple[str, bytes]:
        """The text of a prompt, and the rest where its tokens end inside a character."""
        text, rest = decoded(b"".join(map(self.data, ids)))
        return text if rest else prompt, rest

    @cached_property
    def heads(self) -> tuple[int, ...]:
        """The tokens that begin inside a character."""
        firsts = ((id, self.data(id)[:1]) for id in range(self._vocabulary))
        return tuple(id for id, first in firsts if b"\x80" <= first < b"\xc0")

    def texts(self) -> Iterator[tuple[str, int]]:
        """The marked text of every token by itself, in each way that it is written."""
        raw = self._tokenizer.raw
        names: dict[str, int] = raw.get_vocab(with_added_tokens=False)
        added = raw.get_added_tokens_decoder()
        clear = len(set(names.values())) == len(names)  # else the library knows what an id is
        left = {*range(self._vocabulary)} - self._silent
        for token, id in names.items() if clear else ():
            spaced = token[:1] == BYTE_SPACE
            word = token[1:] if spaced else token
            if word.isascii() and word.isalnum() and id in left and id not in added:
                left.discard(id)
                lower = word.lower()
                yield f" {BORDER}{lower}{BORDER}" if spaced else f"{lower}{BORDER}", id
        for id in left:
            yield alone(decoded(self.data(id))[0]), id


class PieceTokens(ByteTokens):
    """Tokens with any decoder: pieces, and maybe bytes for what no piece writes."""

    def __init__(self, tokenizer: Tokenizer, silent: frozenset[int], vocabulary: int) -> None:
        super().__init__(tokenizer, silent, vocabulary)
        known = [
            (id, token)
            for id in tokenizer.visible(range(vocabulary))
            if id not in silent and (token := tokenizer.raw.id_to_token(id)) is not None
        ]
        loose = {id: byte for id, token in known if (byte := byte_of(token)) is not None}
        self.loose = frozenset(loose)
        self._data = {id: bytes([byte]) for id, byte in loose.items()}
        self._data |= _pieces(tokenizer, {id: token for id, token in known if id not in loose})

    def data(self, id: int) -> bytes:
        """The bytes of a token."""
        return self._data.get(id, b"")

    def begun(self, ids: Sequence[int], prompt: str) -> tuple[str, bytes]:
        """The text of a prompt, with the space that its last token writes before the next one."""
        spaced = bool(ids) and self.data(ids[-1]).endswith(b" ") and not prompt[-1:].isspace()
        return prompt + " " * spaced, b""

    def texts(self) -> Iterator[tuple[str, int]]:
        """The marked text of every token by itself, in each way that it is written."""
        return ((alone(decoded(data)[0]), id) for id, data in self._data.items())


class WordTokens:
    """Tokens that are words, joined with or without a space."""

    loose: frozenset[int] = frozenset()

    def __init__(self, joining: Joining, silent: frozenset[int], vocabulary: int) -> None:
        self._joining, self._silent, self._vocabulary = joining, silent, vocabulary

    def after(self, id: int, rest: bytes, last: str) -> tuple[str, bytes]:
        """What a token adds after the `last` characters."""
        return "" if id in self._silent else self._joining.text(id, last), b""

    def begun(self, ids: Sequence[int], prompt: str) -> tuple[str, bytes]:
        """The text of a prompt, and the rest where its tokens end inside a character."""
        return prompt, b""

    def texts(self) -> Iterator[tuple[str, int]]:
        """The marked text of every token by itself, in each way that it is written."""
        for id in range(self._vocabulary):
            text, _ = self.after(id, b"", "..")
            bare = text.removeprefix(" ")
            for written in (bare, f" {bare}") if bare else (text,):
                yield alone(written), id


Written = ByteTokens | WordTokens


def decoded(data: bytes) -> tuple[str, bytes]:
    """The text of bytes, and the rest that may begin a character."""
    if data.isascii():
        return data.decode(), b""
    text, used = utf_8_decode(data, "replace", False)
    return text, data[used:]


def written_by(tokenizer: Tokenizer, vocabulary: int) -> Written:
    """What the tokens of a model write. An end of the text writes nothing, unless it is a word."""
    silent = frozenset(tokenizer.roles.ends) - tokenizer.roles.words
    if tokenizer.byte_level:
        return ByteTokens(tokenizer, silent, vocabulary)
    if tokenizer.joining is None:
        return PieceTokens(tokenizer, silent, vocabulary)
    silent |= {*range(vocabulary)} - {*tokenizer.visible(range(vocabulary))}
    return WordTokens(tokenizer.joining, silent, vocabulary)


def _pieces(tokenizer: Tokenizer, known: dict[int, str]) -> dict[int, bytes]:
    """What tokens add between two others, whose own text is known."""
    anchor = _anchor(known)
    if anchor is None:
        return {id: tokenizer.token_text(id).encode() for id in known}
    raw, found = tokenizer.raw, {}
    before = raw.decode([anchor], skip_special_tokens=False)
    behind = raw.decode([anchor, anchor], skip_special_tokens=False).removeprefix(before)
    wholes = raw.decode_batch([[anchor, id, anchor] for id in known], skip_special_tokens=False)
    for id, whole in zip(known, wholes, strict=True):
        fits = whole.startswith(before) and whole.endswith(behind)
        text = whole[len(before) : len(whole) - len(behind)] if fits else tokenizer.token_text(id)
        found[id] = text.encode()
    return found


def _anchor(known: dict[int, str]) -> int | None:
    """A token of letters that brings no space; else any with letters."""
    found = None
    for id, token in list(known.items())[:_MAX_ANCHORS]:
        if token.isascii() and token.isalnum():
            return id
        if found is None and token.removeprefix(SPACE).removesuffix(WORD_ENDS).isalnum():
            found = id
    return found
