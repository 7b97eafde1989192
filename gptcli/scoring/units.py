"""What a word is: where the units of a text are whose surprisal is summed.

Words stand between white space, which Chinese and Japanese text does not have. There a unit is a
character as a reader sees it, with its marks, or a word that the package jieba finds. White space
(for characters and jieba that of Unicode) is never a unit.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from gptcli.errors import Unavailable, UsageError
from gptcli.system.text.characters import characters

if TYPE_CHECKING:
    import jieba

Unit = Literal["word", "character", "jieba"]
CharRange = tuple[int, int]
Cutter = Callable[[str], Iterator[CharRange]]
"""(a text) -> where its units are, in code points, in order; the end is exclusive."""
_WORD = re.compile(r"[^ \t\n\v\f\r]+")


def cutter(unit: Unit) -> Cutter:
    """What finds the units. Raises Unavailable where jieba is not installed."""
    if unit == "jieba" and find_spec("jieba") is None:
        why, how = "the package jieba is not installed", "Run: pip install 'gptcli[languages]'"
        raise Unavailable("--units jieba", why, how)
    return {"word": _words, "character": _characters, "jieba": _by_jieba}[unit]


def refuse_trailing(unit: Unit) -> None:
    """Raise UsageError: the word method `trailing` needs white space between units."""
    if unit != "word":
        why = "it is about the white space between words"
        raise UsageError("--word-method trailing", why, f"Leave it out with --units {unit}.")


def _words(text: str) -> Iterator[CharRange]:
    return (found.span() for found in _WORD.finditer(text))


def _characters(text: str) -> Iterator[CharRange]:
    return (place for place in characters(text) if not text[slice(*place)].isspace())


def _by_jieba(text: str) -> Iterator[CharRange]:
    found = _jieba().tokenize(text)
    return ((start, end) for word, start, end in found if not word.isspace())


@cache
def _jieba() -> jieba.Tokenizer:
    """jieba with its own dictionary.

    It is read here, since jieba would keep it in a file of the temporary folder, which anyone may
    have written, and tell so on standard error.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its escape sequences, when it is first compiled
        import jieba
    found = jieba.Tokenizer()
    found.FREQ, found.total = found.gen_pfdict(found.get_dict_file())
    found.initialized = True
    return found
