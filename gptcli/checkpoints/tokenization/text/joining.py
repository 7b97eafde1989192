"""How the texts of tokens that are words are joined: where a space stands between two of them.

WordPiece keeps no spaces. Its decoder puts one before each token that is no continuation, so also
between all characters of Chinese, which are cut one by one. Chinese and Japanese are written
without spaces. The rule here, for two neighbours with a space between them:

- two letters or digits of any other script keep it, as the decoder has it (`new york`);
- a wide character (Han, kana, their marks, full-width forms) takes none, whatever
  stands beside it (`天气`, `。”`, `2023年`);
- except a letter of another script beside a Han or kana character (`使用 model 写`);
- two marks that Chinese shares with other scripts take none between them (`。”“`, `……`);
- a number is one word: none between its dot and a digit, nor before its percent sign (`3.5%`).

Behind a space or a line break none is added. A vocabulary of characters that has the space among
them, and no decoder, is joined without spaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gptcli.system.text.scripts import is_unspaced

if TYPE_CHECKING:
    import tokenizers

LOOKBACK = 2  # characters that say what stands before the next token
_SHARED = frozenset("\u2018\u2019\u201c\u201d\u2026\u2014\u00b7")  # quotes, ellipsis, dash, dot
ANCHOR = "x"  # a token before another, to see what the decoder puts between


class Joining:
    """The text that each token adds to one before it, of a tokenizer whose tokens are words."""

    def __init__(self, raw: tokenizers.Tokenizer, between: str | None) -> None:
        """between: what stands between two tokens; None where the decoder says it."""
        self._raw, self._between = raw, between
        self._texts: dict[int, str] = {}  # filled as tokens come up

    def text(self, id: int, before: str) -> str:
        """What a token adds to the text `before`, of which the last LOOKBACK characters count."""
        if not before:
            return self._after(id, "")
        added = self._texts.get(id)
        if added is None:
            added = self._texts[id] = self._after(id, ANCHOR).removeprefix(ANCHOR)
        if added[:1] != " " or len(added) < 2:
            return added
        joined = self._between is None and not keeps_space(before[-LOOKBACK:], added[1])
        return added[1:] if joined or before[-1].isspace() else added

    def joined(self, ids: list[int], before: str = "") -> str:
        """What the tokens add to the text `before`."""
        last, pieces = before, list[str]()
        for id in ids:
            pieces.append(self.text(id, last))
            last = (last + pieces[-1])[-LOOKBACK:]
        return "".join(pieces)

    def _after(self, id: int, before: str) -> str:
        token = self._raw.id_to_token(id)
        if token is None:
            return before
        if self._between is not None:
            return f"{before}{self._between if before else ''}{token}"
        decoded: str = self._raw.decoder.decode([before, token] if before else [token])
        return decoded


def joining_of(raw: tokenizers.Tokenizer) -> Joining | None:
    """How a tokenizer's tokens are joined; None where only its decoder knows."""
    from tokenizers import decoders

    if isinstance(raw.decoder, decoders.WordPiece):
        return Joining(raw, None)
    if raw.decoder is None:
        return Joining(raw, "" if _keeps_spaces(raw) else " ")
    return None


def keeps_space(before: str, right: str) -> bool:
    """Whether the space between a text and a character, where words were cut, is one of it."""
    left = before[-1]
    if right == "%":
        return not left.isdecimal()
    if left == "." and right.isdecimal():
        return not before[:-1].isdecimal()
    wide = is_unspaced(left), is_unspaced(right)
    if not any(wide):
        return not {left, right} <= _SHARED
    return not all(wide) and _is_letter(left) and _is_letter(right)


def _is_letter(character: str) -> bool:
    import unicodedata  # loads a library of its own: only for texts of mixed scripts

    return unicodedata.category(character)[0] in "LM"


def _keeps_spaces(raw: tokenizers.Tokenizer) -> bool:
    """Whether the tokens of a text hold its spaces: they are not cut away before it is a model's.

    A whole text that is one word of a vocabulary says nothing of spaces.
    """
    from tokenizers import models

    if raw.pre_tokenizer is None:
        return not isinstance(raw.model, models.WordLevel | models.WordPiece)
    pieces = raw.pre_tokenizer.pre_tokenize_str(f"{ANCHOR} {ANCHOR}")
    return any(not piece.strip() or " " in piece for piece, _ in pieces)
