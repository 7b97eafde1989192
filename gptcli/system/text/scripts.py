"""Which script a text is in, as far as it matters here: whether words stand without spaces.

Chinese and Japanese write no space between words, nor after their marks; Korean does. Which of the
three a text or a vocabulary is, is told by its letters: kana are Japanese, Hangul is Korean, Han
characters alone are Chinese.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache

KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
HANGUL = "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3"
HAN = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
MARKS = "\u3001-\u3004\u3008-\u3020\u3030\u30fb\ufe10-\ufe4f\uff01-\uff65"
"""Marks that need no space around them, full-width ones among them."""

_FIRST = "\u2e80"  # of the characters without spaces
_LETTERS = {"ja": f"[{KANA}]", "ko": f"[{HANGUL}]", "zh": f"[{HAN}]", "": r"[^\W\d_]"}
_KANA_SHARE = 10  # at least one in so many letters of a Japanese text


def is_unspaced(character: str) -> bool:
    """Whether a character is of a script without spaces: Han, kana, or a mark of theirs."""
    return character >= _FIRST and _unspaced().match(character) is not None


@cache  # to compile such a pattern takes milliseconds, which most texts do not need
def _unspaced() -> re.Pattern[str]:
    return re.compile(f"[{HAN}{KANA}{MARKS}]")


def language_of_letters(texts: Iterable[str]) -> str | None:
    """`zh`, `ja` or `ko` where most of the texts that have letters are of it; None for any other.

    A text counts once, for the first script in it of kana, Hangul, Han and others.
    """
    patterns = [(name, re.compile(letters)) for name, letters in _LETTERS.items()]
    found = Counter(
        next((name for name, letters in patterns if letters.search(text)), None) for text in texts
    )
    japanese, korean, chinese = found["ja"], found["ko"], found["zh"]
    half = (japanese + korean + chinese + found[""]) / 2
    if not half:
        return None
    if korean >= half:
        return "ko"
    if japanese + chinese < half:
        return None
    return "ja" if japanese * _KANA_SHARE >= japanese + chinese else "zh"
