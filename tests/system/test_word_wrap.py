"""Lines of a stream end between words; what a screen shows is what a pipe gets."""

from __future__ import annotations

import random
from itertools import pairwise

import pyte
import pytest

from gptcli.system.word_wrap import LONGEST_WORD, MIN_COLUMNS, WordWrap, character_width


def screen(text: str, columns: int, pieces: int = 1) -> list[str]:
    """The lines of a terminal to which `text` is streamed, some characters at a time."""
    shown = pyte.Screen(columns, 200)
    stream = pyte.Stream(shown)
    wrap = WordWrap(lambda: columns)
    for start in range(0, len(text), pieces):
        stream.feed(wrap.wrapped(text[start : start + pieces]).replace("\n", "\r\n"))
    return [line.rstrip() for line in shown.display[: shown.cursor.y + 1]]


@pytest.mark.parametrize("pieces", [1, 2, 5, 1000])
@pytest.mark.parametrize("columns", [21, 22, 23, 30, 40])
def test_no_word_is_torn_however_the_text_comes(pieces: int, columns: int) -> None:
    dice = random.Random(columns)
    words = ["w" * dice.randint(1, 12) for _ in range(100)]
    lines = screen(" ".join(words), columns, pieces)
    assert " ".join(lines).split() == words
    assert all(len(line) < columns for line in lines)
    for line, after in pairwise(lines):
        assert len(line) + 1 + len(after.split()[0]) >= columns  # no line ends too early


def test_line_breaks_and_indents_stay() -> None:
    assert screen("one\n\n    two\n", 40, 3) == ["one", "", "    two", ""]


def test_a_word_longer_than_a_line_is_broken() -> None:
    assert screen("a " + "x" * 50, 31) == ["a", "x" * 30, "x" * 20]


def test_wide_characters_fill_lines_without_spaces() -> None:
    lines = screen("汉" * 30, 21, 1)
    assert "".join(lines).replace(" ", "").count("汉") == 30
    assert character_width("汉") == 2
    assert character_width("e") == 1
    assert character_width("\u0301") == 0


def test_what_was_written_otherwise_counts() -> None:
    wrap = WordWrap(lambda: 31)
    wrap.seen("x" * 28)
    assert wrap.wrapped(" word") == " w\x1b[1D\x1b[K\nword"


def test_a_narrow_terminal_is_left_alone() -> None:
    assert WordWrap(lambda: MIN_COLUMNS).wrapped("word " * 9) == "word " * 9


@pytest.mark.parametrize("letter", ["a", "é\u0301", "\u0301", "\u200d", "日"])
def test_a_word_without_an_end_is_not_kept(letter: str) -> None:
    wrap = WordWrap(lambda: 80)
    for _ in range(10_000):
        wrap.wrapped(letter)
        assert len(wrap.word) <= LONGEST_WORD
    if letter == "a":
        assert len(wrap.word) <= 80
