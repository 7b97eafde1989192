"""Split a long text into passages that fit a model, or find the most relevant one.

Only an engine can count tokens, and counting costs time. So whether a passage fits is asked through
a function, and passages grow and shrink by doubling steps from the length of the previous one: a
few calls a passage are enough. Passages are spans of the text and lose nothing; between them is
only white space. They do not overlap, except in the search for one window.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable

from gptcli.errors import BadInput
from gptcli.system.text.scripts import HAN, HANGUL, KANA
from gptcli.system.text.sentences import WORD, CharSpan, paragraphs, sentences

__all__ = ["CharSpan", "best_window", "paragraphs", "passages", "sentences"]

_UNSPACED_RUN = re.compile(f"[{HAN}{KANA}{HANGUL}]+")

# Frequent words of questions on any subject; of scripts without spaces, pairs of characters.
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an the and or but not no of to in on at by for from with about as into than then that
        this these those there it its he she they we you i his her their our your him them me us my
        is are was were be been am do does did has have had can could will would should may might
        who whom whose what which when where why how many much some any all s t
        der die das den dem des ein eine einen einem einer und oder aber nicht von zu im am mit für
        auf aus bei ist sind war waren wer wie wo wann warum welche welcher welches er es sie wir
        le la les un une des du de et ou ne pas que qui quoi quand où comment pourquoi est sont au
        aux dans sur pour par avec ce cette il elle l d c qu quel quelle
        el los las una y o no del al en con por para es son qué quién cuándo dónde cómo cuál se su
        il lo gli i uno e o non di da che chi quando dove come perché è sono del della nel
        os as um uma ou não do da dos das em com é são quem onde como quando qual
        het een en of niet van te met is zijn wie wat waar wanneer hoe waarom
        什么 哪里 哪个 哪一 谁是 是谁 多少 几个 怎么 怎样 如何 为什 为何 是什 在哪 的是 什麼 哪裡
        怎麼 是哪 一个 です ます でし した すか どこ だれ 誰が いつ なに 何が 何で なぜ どの とは
        のは には では いう この その あの こと もの 무엇 어디 누구 언제 어떻 얼마 입니 니까""",
    )
)


def passages(text: str, fits: Callable[[str], bool]) -> list[CharSpan]:
    """Pack the sentences of a text into passages, each as long as `fits` allows.

    A passage ends early, at the start of a paragraph, if it would tear that paragraph and is at
    least half as long without it. A sentence that does not fit is torn between words, a word
    between characters. `fits` should be monotone: what fits still fits when shortened. It was true
    for every passage returned. Raises BadInput if not even one character fits.
    """
    units = sentences(text)
    if not units or fits(text[units[0][0] : units[-1][1]]):
        return [(units[0][0], units[-1][1])] if units else []
    found: list[CharSpan] = []
    at, guess = 0, 1
    while at < len(units):
        count = _most(_joined(text, units, at, fits), len(units) - at, guess)
        if not count:
            units[at : at + 1] = _torn(text, units[at], fits)
            continue
        guess = count
        shorter = _before_paragraph(text, units, at, count)
        if shorter < count and _joined(text, units, at, fits)(shorter):
            count = shorter
        found.append((units[at][0], units[at + count - 1][1]))
        at += count
    return found


def _joined(
    text: str, units: list[CharSpan], at: int, fits: Callable[[str], bool]
) -> Callable[[int], bool]:
    """Whether a number of units from `at` on fit together."""
    return lambda count: fits(text[units[at][0] : units[at + count - 1][1]])


def _most(fits: Callable[[int], bool], most: int, guess: int) -> int:
    """The largest number from 1 to `most` that fits, 0 if none: doubling steps, then bisection."""
    low, high, step = 0, most + 1, 1
    probe = min(guess, most)
    while high - low > 1:
        if fits(probe):
            low, probe = probe, probe + step
        else:
            high, probe = probe, probe - step
        step *= 2
        if not low < probe < high:
            probe = (low + high) // 2
    return low


def _torn(text: str, unit: CharSpan, fits: Callable[[str], bool]) -> list[CharSpan]:
    """The words of a unit that does not fit; of a single word, the longest parts that fit."""
    start, end = unit
    words = [match.span() for match in WORD.finditer(text, start, end)]
    if len(words) > 1:
        return words
    parts: list[CharSpan] = []
    length = 1
    while start < end:
        length = _most(_begun(text, start, fits), end - start, length)
        if not length:
            raise BadInput(
                "text",
                "the model's context has no room for any of it beside the rest of the prompt",
                "Shorten the other texts, or take a model with a longer context.",
            )
        parts.append((start, start + length))
        start += length
    return parts


def _begun(text: str, start: int, fits: Callable[[str], bool]) -> Callable[[int], bool]:
    """Whether a number of characters from `start` on fit."""
    return lambda length: fits(text[start : start + length])


def _before_paragraph(text: str, units: list[CharSpan], at: int, count: int) -> int:
    """How many of `count` units from `at` to take, to avoid tearing a paragraph."""
    after = at + count
    if after == len(units) or _parted(text, units, after):
        return count
    half = (units[after - 1][1] - units[at][0]) / 2
    for border in range(after - 1, at, -1):
        if units[border - 1][1] - units[at][0] < half:
            break
        if _parted(text, units, border):
            return border - at
    return count


def _parted(text: str, units: list[CharSpan], index: int) -> bool:
    """Whether a blank line precedes a unit."""
    return text.count("\n", units[index - 1][1], units[index][0]) > 1


def best_window(text: str, question: str, fits: Callable[[str], bool]) -> CharSpan:
    """The passage that has most words in common with a question; the first of equal ones.

    Passages are cut twice, the second time from the middle of the first one on, so that the end of
    one is the middle of another. Each word of the question counts once, weighted by the logarithm
    of its inverse passage frequency; stop words do not count. Where no spaces set words apart, any
    two neighbouring characters are a word. A text without words gives (0, 0).
    Raises BadInput as `passages`.
    """
    windows = passages(text, fits)
    if len(windows) < 2:
        return windows[0] if windows else (0, 0)
    middle = _middle(text, windows[0])
    moved = ((start + middle, end + middle) for start, end in passages(text[middle:], fits))
    windows = sorted({*windows, *moved})
    asked = _content_words(question)
    held = [asked & _content_words(text[start:end]) for start, end in windows]
    frequency = Counter(word for words in held for word in words)
    scores = [
        math.fsum(math.log(len(windows) / frequency[word]) for word in words) for words in held
    ]
    return windows[scores.index(max(scores))]


def _middle(text: str, window: CharSpan) -> int:
    """The start of the sentence, or else of the word, nearest to the middle of the window."""
    start, end = window
    starts = [start + first for first, _ in sentences(text[start:end])][1:]
    words = re.finditer(r"(?<=\s)\S", text[start:end])
    starts = starts or [start + word.start() for word in words]
    middle = (start + end) // 2
    return min(starts, key=lambda place: abs(place - middle), default=max(middle, start + 1))


def _content_words(text: str) -> set[str]:
    plain = text.casefold()
    runs = _UNSPACED_RUN.findall(plain)
    pairs = {run[at : at + 2] for run in runs for at in range(max(len(run) - 1, 1))}
    words = re.findall(r"\w+", _UNSPACED_RUN.sub(" ", plain) if runs else plain)
    return pairs.union(words) - _STOP_WORDS
