"""A text as its tokens: ids, bytes, and where each stands in the text.

No model runs and torch is not imported. Not here: probabilities are in `gptcli.inspection.reading`.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gptcli.checkpoints.tokenization.parts import parts_of
from gptcli.checkpoints.tokenization.text.marks import byte_of
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadInput
from gptcli.inspection.views import BEGIN_INDEX, TokenView
from gptcli.options import Overflow

if TYPE_CHECKING:
    from gptcli.engines.gpt2.tracing import Tracer


def tokenized(tokenizer: Tokenizer, text: str) -> tuple[TokenView, ...]:
    """The tokens of a text, none of them measured. Raises as `Tokenizer.encode`."""
    ids, places = tokenizer.encode_places(text)
    parts = parts_of(text, places, [tokenizer.token_text(id) for id in ids])
    return tuple(
        replace(
            token_at(tokenizer, index, id, place),
            surface=text[slice(*place)],
            parts=of,
            unknown=id == tokenizer.unknown_id,
        )
        for index, (id, place, of) in enumerate(zip(ids, places, parts, strict=True))
    )


def begin_id(tokenizer: Tokenizer) -> int | None:
    """The token that the model reads before a document; None where the tokenizer names none."""
    return tokenizer.roles.begin


def unfinished(pieces: Iterable[bytes]) -> list[bytes]:
    """After each piece of a UTF-8 text, the bytes of the character that is not complete yet."""
    decoder = _decoder("replace")
    left = []
    for piece in pieces:
        decoder.decode(piece)
        left.append(decoder.getstate()[0])
    return left


def text_after(tokenizer: Tokenizer, id: int, before: bytes) -> str:
    """A token's text where it follows the bytes `before` of an unfinished character.

    The text of a token that is part of a character is the character if it completes one, else its
    bytes, as \\xe6\\xbc.
    """
    text, raw = tokenizer.token_text(id), _raw(tokenizer, id)
    if "\ufffd" not in text or not raw:
        return text
    decoder = _decoder("strict")
    try:
        decoder.decode(before)
        text = decoder.decode(raw)
    except UnicodeDecodeError:
        return escaped(raw)
    return text + escaped(raw[len(raw) - min(len(decoder.getstate()[0]), len(raw)) :])


def naming(tokenizer: Tokenizer, tokens: Sequence[TokenView]) -> list[Callable[[int], str]]:
    """After each token, what names the one that may follow it: an unfinished character counts."""
    return [
        partial(text_after, tokenizer, before=before)
        for before in unfinished(token.raw for token in tokens)
    ]


def placed(
    tracer: Tracer, text: str, on_overflow: Overflow, bos: bool
) -> tuple[str, tuple[TokenView, ...], str | None]:
    """The text and its tokens, cut to the context; the begin token is the first, and named last.

    An empty text is the begin token alone. Raises BadInput for a text that is too long and must not
    be cut.
    """
    tokens, limit = tokenized(tracer.tokenizer, text), tracer.info.context
    begin = begin_id(tracer.tokenizer) if bos else None
    if not tokens:
        begin = tracer.filler if begin is None else begin
    first = [] if begin is None else [token_at(tracer.tokenizer, BEGIN_INDEX, begin, (0, 0))]
    named = first[0].text if first else None
    if len(tokens) + len(first) > limit:
        if on_overflow == "error":
            raise _too_long(tracer, len(tokens), named)
        text, tokens = _cut(text, tokens, limit - len(first), on_overflow)
    return text, (*first, *tokens), named


def _too_long(tracer: Tracer, count: int, begin: str | None) -> BadInput:
    context = f"the context of {tracer.info.name} is {tracer.info.context}"
    taken = f", of which {begin} takes one" if begin else ""
    return BadInput(
        "text too long",
        f"it has {count} tokens, but {context}{taken}",
        "Shorten it, or cut it with --on-overflow truncate-left or truncate-right",
    )


def _cut(
    text: str, tokens: Sequence[TokenView], count: int, on_overflow: Overflow
) -> tuple[str, tuple[TokenView, ...]]:
    """The last or first `count` tokens, and their text, counted from their beginning."""
    if count == 0:
        return "", ()
    kept = tokens[-count:] if on_overflow == "truncate-left" else tokens[:count]
    begin, end = kept[0].start, kept[-1].end
    moved = (
        replace(token, index=index, start=token.start - begin, end=token.end - begin)
        for index, token in enumerate(kept)
    )
    return text[begin:end], tuple(moved)


def escaped(raw: bytes) -> str:
    """Bytes as \\xe6\\xbc."""
    return "".join(f"\\x{byte:02x}" for byte in raw)


def _decoder(errors: str) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")(errors)


def token_at(tokenizer: Tokenizer, index: int, id: int, place: tuple[int, int]) -> TokenView:
    """One token; of a special one, or where tokens have no bytes, the bytes are its text's."""
    text = tokenizer.token_text(id)
    raw = _raw(tokenizer, id) or _own(tokenizer, text).encode()
    return TokenView(index, id, text, raw, *place)


def _own(tokenizer: Tokenizer, text: str) -> str:
    """A token's text without what marks the piece of a word, as ## in BERT's kind."""
    mark = getattr(tokenizer.raw.model, "continuing_subword_prefix", None)
    return text.removeprefix(mark) if mark and text != mark else text


def _raw(tokenizer: Tokenizer, id: int) -> bytes | None:
    """The bytes of a token: of a byte-level tokenizer, or of a token that is named by its byte."""
    found = tokenizer.token_bytes(id)
    if found is None and (byte := byte_of(tokenizer.raw.id_to_token(id))) is not None:
        return bytes([byte])
    return found
