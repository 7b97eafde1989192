"""Long documents cut into texts that a tokenizer reads one by one, and the ids stay the same.

GPT-2's pre-tokenizer cuts a text into words first, and each word gets its ids alone. No word spans
the place between a character that is no white space and a space or line break behind it, and what
stands on one side of that place changes nothing on the other. So there a document may be cut. In
text without spaces, such as Chinese, the place between a letter and a comma or full stop is one,
too. Any other tokenizer may look further, and gets a document whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from gptcli.errors import BadInput
from gptcli.training.data.input.separating import DocumentPart

if TYPE_CHECKING:
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer

UNIT_CHARACTERS = 1 << 15  # of a text that the tokenizer reads at a time
NEAR = 1 << 10  # characters before a text's longest, where a border is looked for first
MAX_WORD = 1 << 20  # characters without a border
MAX_WHOLE = 1 << 24  # characters of a document that cannot be cut
# U+180E was white space before Unicode 6.3; the two libraries may be of different ages.
_SPACE = re.compile(r"(?<=[^\s\u180e])(?=[ \n])")
_LETTER = r"A-Za-z\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3"
_MARK = re.compile(rf"(?<=[{_LETTER}])(?=[0-9.,;:!?()\"\u3001\u3002\uff0c\uff01\uff1f])")


class Unit(NamedTuple):
    """A text for the tokenizer; `last`: its document ends with it. `first`: begins with it."""

    text: str
    first: bool
    last: bool
    prompt: bool = False  # its ids are a prompt's
    pair: bool = False  # a prompt's or completion's


def can_cut(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer cuts words as GPT-2's does, and looks at nothing beyond a word."""
    from tokenizers.pre_tokenizers import ByteLevel

    raw = tokenizer.raw
    words = raw.pre_tokenizer
    if raw.normalizer is not None or raw.num_special_tokens_to_add(False):
        return False
    if not isinstance(words, ByteLevel) or not words.use_regex or words.add_prefix_space:
        return False
    return not any(
        token.lstrip or token.rstrip or token.single_word or re.search(r"\s", token.content)
        for token in raw.get_added_tokens_decoder().values()
    )


class DocumentCutter:
    """Makes units of the parts of documents.

    Line breaks at both ends of a document belong to none, and one of white space alone is empty.
    """

    def __init__(self, whole: bool, name: str = "") -> None:
        self.name = name  # of the file, for errors
        self.empty = 0  # documents
        self._whole = whole
        self._held, self._begun = "", False

    def units(self, part: DocumentPart) -> Iterator[Unit]:
        """The texts that are complete with this part. Raises BadInput."""
        if part.role != "text":
            prompt = part.role == "prompt"
            yield Unit(part.text, prompt, part.last, prompt, pair=True)
            return
        text = self._held + part.text if self._held else part.text
        if not self._begun:
            text = text.lstrip("\n")
        self._held = ""
        if part.last:
            yield from self._ended(text.rstrip("\n"))
            return
        yield from self._cut(text)

    def _ended(self, text: str) -> Iterator[Unit]:
        if not self._begun and not text.strip():
            self.empty += 1
            return
        if len(text) > UNIT_CHARACTERS and not self._whole:
            yield from self._cut(text)
            text, self._held = self._held, ""
        yield Unit(text, not self._begun, last=True)
        self._begun = False

    def _cut(self, text: str) -> Iterator[Unit]:
        """Units of a text that goes on; the rest, from a border on, is held."""
        at = 0
        while len(text) - at > UNIT_CHARACTERS and not self._whole:
            end = border(text, at, at + UNIT_CHARACTERS)
            if not end:
                break
            if self._begun or text[at:end].strip():
                yield Unit(text[at:end], not self._begun, last=False)
                self._begun = True
            at = end
        self._held = text[at:]
        if len(self._held) > (MAX_WHOLE if self._whole else MAX_WORD):
            raise self._too_long()

    def _too_long(self) -> BadInput:
        if self._whole:
            why = f"a document of over {MAX_WHOLE >> 20} million characters"
            hint = "This tokenizer needs a document whole: make them shorter (--documents)."
        else:
            why = f"{MAX_WORD >> 20} million characters without a space or line break"
            hint = "This is hardly text: break it into lines."
        return BadInput(self.name, why, hint)


def border(text: str, start: int, end: int) -> int:
    """The last place after `start`, up to `end` if there is one, that words do not span.

    Else the first place behind; 0 where there is none.
    """
    for low in (max(end - NEAR, start + 1), start + 1):
        for pattern in (_SPACE, _MARK):
            if low > start + 1 and pattern is _MARK:
                continue
            found = 0
            for match in pattern.finditer(text, low, end + 1):
                found = match.start()
            if found:
                return found
    later = _SPACE.search(text, end) or _MARK.search(text, end)
    return later.start() if later else 0
