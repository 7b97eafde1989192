"""Where sentences and paragraphs begin and end in a text.

The text on both sides of a gap decides whether it is a border. So while a text is still being
generated its last border is uncertain. `borders` says so: a streamed answer can be cut as soon as
its border is certain. Rules and short word lists serve English, French, German, Spanish, Italian,
Portuguese, Dutch and Hindi; the signs are those of the Latin, CJK, Arabic, Devanagari (and other
Indic), Armenian, Ethiopic, Khmer and Burmese scripts. Abbreviations are not learned from the text.
"""

# ruff: noqa: RUF001 - quotes and marks of other scripts are what this is about

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from gptcli.system.text.scripts import HAN, HANGUL, KANA

CharSpan = tuple[int, int]
"""Where a piece begins and ends: `text[start:end]` is the piece."""
WORD = re.compile(r"[^\s、，；：]+[、，；：]*|[、，；：]+")
"""What a sentence may be cut into: a word, or a clause where no spaces set words apart."""

_CLOSING = "\"'”’“‘»«›‹)]}」』）】》〉"
_WIDE = "。！？｡"  # no space follows them
# Arabic question mark and Urdu full stop, Greek question mark, double marks
_SPACED = "!?؟۔\u037e‼⁇⁈⁉‽"
# Danda and double danda, Armenian, Ethiopic, Khmer, Burmese: a space follows, in most texts
_LOOSE = "।॥։።፧។៕။"
_STRONG = _WIDE + _SPACED + _LOOSE
_ENDING = ".…" + _STRONG
_AFTER = set(_CLOSING + _ENDING + ",;:،؛")  # a word of these alone belongs to the sentence before

_LETTER_UNSPACED = f"[{HAN}{KANA}]"
_CLOSING_WIDE = "[」』）】》〉”’]"
_SAID_CHARS = 6  # that it looks at, at most
_SYMBOLS = re.compile(r"[^\w\s]*")  # what a sentence can begin with before its first word
_VOWEL_SIGNS = "\u0900-\u0903\u093a-\u093c\u093e-\u094f"  # of Devanagari: not in \w
_WORD = re.compile(rf"[\w{_VOWEL_SIGNS}]+")
_LAST_WORD = re.compile(r"[^\s(\[{\"'“„«‘’¿¡—–/-]*$")
# The J of J., the U.S of U.S.; a syllable of Hangul is a word.
_LETTER = rf"[^\W\d_{HAN}{KANA}{HANGUL}][{_VOWEL_SIGNS}]*"
_DOTTED = rf"{_LETTER}|(?:(?:{_LETTER}){{1,2}}\.)+(?:{_LETTER}){{1,2}}"
_LOOKBACK_CHARS = 24  # for an abbreviation


# Patterns with ranges of other scripts take milliseconds to compile, so each waits for its use.


@cache
def _place() -> re.Pattern[str]:
    """A gap between words, or the end of a sentence in a script that has none.

    Such an end is at a mark of its own, at an ellipsis that a quote closes, or at a Latin mark
    between two of its letters.
    """
    return re.compile(
        rf"\s+|[{_WIDE}]+(?:[{_WIDE}…]|{_CLOSING_WIDE})*|…+{_CLOSING_WIDE}+(?={_LETTER_UNSPACED})"
        rf"|(?<={_LETTER_UNSPACED})[.!?．]+{_CLOSING_WIDE}*(?={_LETTER_UNSPACED})"
        rf"|[{_LOOSE}]+(?=[^\W\d_])"
    )


@cache
def _said() -> re.Pattern[str]:
    """What makes a quotation a part of the sentence behind it: “……。”他说。 「…。」と言った。"""
    return re.compile(rf"[、，]|と|って|[{HAN}]{{1,4}}?[说說道问問答喊叫](?![着过過])")


@cache
def _dotted() -> re.Pattern[str]:
    """The J of J., the U.S of U.S."""
    return re.compile(_DOTTED)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Always followed by something.
_OPEN = _words(
    """mr mrs ms messrs dr dra drs prof profa rev hon gen col capt cpt lt sgt cmdr adm gov sen rep
    pres supt mt ft mme mmes mlle mgr ste hr hrn fr frl dhr mevr mw ing dipl sra srta dott avv sig
    vs e.g i.e z.b d.h u.a o.ä cf ca approx viz bzw vgl sog evtl ggf inkl bijv dwz o.a d.w.z p.ej
    env univ डॉ श्री श्रीमती प्रो पं"""
)
# Followed by a number, or else the end.
_BEFORE_NUMBER = _words(
    """no nos nr nrs núm num p pp s vol fig figs art abb sec ch chap cap par kap bd v vv jan feb mar
    apr jun jul aug sep sept oct okt nov dec dez"""
)
# In the middle or at the end: the next word tells.
_EITHER = _words("etc usw ecc enz inc ltd co corp bros jr sr st ex dept av ave")
_STARTERS = _words(
    """the he she it they we you i a an this that these those there but and so if when while after
    before then however his her its their our my what who where why how as for in on at not yes
    er sie es wir ihr ich ein eine dies diese dieser dieses der im am und aber doch wenn dann
    il elle nous vous ils elles je un une ce cet cette ces mais et dans les
    él ella ellos ellas nosotros yo este esta pero los las
    gli lui lei noi questo questa ma ele ela eles nós eu um uma mas os
    het een hij zij ze wij ik dit dat deze maar
    वह यह वे ये मैं हम तुम आप उस इस लेकिन और फिर जब तब क्या"""
)
# German ordinals: am 3. Oktober, der 2. Weltkrieg.
_BEFORE_ORDINAL = _words("am im vom zum beim der die das den dem des ab bis seit")
_AFTER_ORDINAL = _words(
    """januar jänner februar märz april mai juni juli august september oktober november dezember
    jahrhundert jahrhunderts"""
)


class Border(NamedTuple):
    """Between two sentences: the end of one, the start of the next, and whether it is one."""

    end: int
    start: int
    certain: bool = True


def sentences(text: str, *, lines: bool = False) -> list[CharSpan]:
    """The text's sentences, in order; between them, and around, there is only whitespace.

    A sentence ends at . ! ? … or their forms in other scripts (see the module), with the quotes and
    brackets that close after it, and always at a blank line; with `lines` at every line break.
    """
    return _pieces(text, borders(text, lines=lines))


def paragraphs(text: str) -> list[CharSpan]:
    """The text's paragraphs, set apart by blank lines; between them there is only whitespace."""
    gaps = (match for match in re.finditer(r"\s+", text) if match.group().count("\n") > 1)
    return _pieces(text, (Border(gap.start(), gap.end()) for gap in gaps if gap.start()))


def _pieces(text: str, found: Iterator[Border]) -> list[CharSpan]:
    spans, start = [], len(text) - len(text.lstrip())
    for border in found:
        spans.append((start, border.end))
        start = border.start
    if start < len(text):
        spans.append((start, len(text.rstrip())))
    return spans


def borders(text: str, *, lines: bool = False, finished: bool = True) -> Iterator[Border]:
    """Where one sentence ends and, maybe, the next begins, from left to right.

    Unless the text is `finished`, the last one can be uncertain: more text could show that it is
    none. Certain ones stay, whatever is added.
    """
    start = len(text) - len(text.lstrip())
    for match in _place().finditer(text, start):
        gap = match.group()
        verdict: bool | None
        after = match.end()
        if not gap[0].isspace():
            end = after = _past_quote(text, start, match.end())
            verdict = _ends_wide(text, end, finished)
        else:
            end = match.start()
            if gap.count("\n") > (0 if lines else 1):
                verdict = True
            elif match.end() == len(text):
                verdict = False if finished else None
            else:
                verdict = _ends(text, start, end, match.end(), finished)
        if verdict is None:
            yield Border(end, after, certain=False)
            return
        if verdict:
            yield Border(end, after)
            start = after


def _past_quote(text: str, start: int, end: int) -> int:
    """The end of a sentence, after a straight quote if that closes one of the sentence's."""
    closes = text[end : end + 1] == '"' and text.count('"', start, end) % 2
    return end + 1 if closes else end


def _ends_wide(text: str, end: int, finished: bool) -> bool | None:
    """Whether a sentence ends after a mark that needs no space; a space is a place of its own.

    None: more text is needed to tell.
    """
    after = text[end : end + 1]
    if not after or after.isspace():
        return False
    if text[end - 1] not in _CLOSING:
        return True
    if not finished and len(text) - end < _SAID_CHARS:
        return None
    return not _said().match(text, end)


def _ends(text: str, start: int, end: int, after: int, finished: bool) -> bool | None:
    """Whether the sentence from `start` ends at `end`, before the gap up to `after`.

    None: more text is needed to tell.
    """
    mark = _back(text, start, end, _CLOSING)
    closed = mark < end
    if closed:
        mark = _back(text, start, mark, " \u00a0\u202f")  # Ça va ? »
    stop = _back(text, start, mark, _ENDING)
    if stop == mark:
        return False
    symbols = _SYMBOLS.match(text, after)
    word = symbols.end() if symbols else after
    if word == len(text):
        return False if finished else None  # only signs are left, or the next word is to come
    if text[word].isspace():
        return not _AFTER.issuperset(text[after:word])
    marks, small = text[stop:mark], text[word].islower()
    if not set(_STRONG).isdisjoint(marks):
        return not (small and closed)  # “Really?” he said
    if small:
        return False
    return marks != "." or _ends_at_period(text, start, stop, word, finished)


def _back(text: str, start: int, end: int, signs: str) -> int:
    """Where the run of `signs` begins that stops at `end`, not before `start`."""
    while end > start and text[end - 1] in signs:
        end -= 1
    return end


def _ends_at_period(text: str, start: int, stop: int, word: int, finished: bool) -> bool | None:
    """Whether the period at `stop` ends the sentence, where the next word begins at `word`."""
    found = _LAST_WORD.search(text[max(start, stop - _LOOKBACK_CHARS) : stop])
    before = found.group().casefold() if found else ""
    if before in _OPEN:
        return False
    if before in _BEFORE_NUMBER and text[word].isdigit():
        return False
    if before.isdecimal() and len(before) < 3:
        return _ends_at_number(text, start, stop - len(before), word, finished)
    if before in _EITHER or _dotted().fullmatch(before):
        following = _whole_word(text, word, finished)
        return None if following is None else following in _STARTERS
    return True


def _ends_at_number(text: str, start: int, number: int, word: int, finished: bool) -> bool | None:
    """Whether a period after a short number ends the sentence: not in a list, nor of an ordinal."""
    words = text[max(start, number - _LOOKBACK_CHARS) : number].split()
    if not words or words[-1].casefold() in _BEFORE_ORDINAL:
        return False
    following = _whole_word(text, word, finished)
    return None if following is None else following not in _AFTER_ORDINAL


def _whole_word(text: str, start: int, finished: bool) -> str | None:
    """The word at `start` in small letters, "" if an initial or none; None if not yet complete."""
    match = _WORD.match(text, start)
    end = match.end() if match else start
    if end == len(text) and not finished:
        return None
    return "" if text[end : end + 1] == "." and end - start == 1 else text[start:end].casefold()
