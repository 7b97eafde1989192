"""Lines of a stream end between words; what a screen shows is what a pipe gets."""

from __future__ import annotations

import random
from itertools import pairwise

import pyte
import pytest

from gptcli.system.text.characters import width
from gptcli.system.text.word_wrap import LONGEST_WORD, MIN_COLUMNS, WordWrap, lines


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
    shown = screen(" ".join(words), columns, pieces)
    assert " ".join(shown).split() == words
    assert all(len(line) < columns for line in shown)
    for line, after in pairwise(shown):
        assert len(line) + 1 + len(after.split()[0]) >= columns  # no line ends too early


def test_line_breaks_and_indents_stay() -> None:
    assert screen("one\n\n    two\n", 40, 3) == ["one", "", "    two", ""]


def test_a_word_longer_than_a_line_is_broken() -> None:
    assert screen("a " + "x" * 50, 31) == ["a", "x" * 30, "x" * 20]


TALE = "从前有座山\uff0c山里有座庙。庙里有个老和尚\uff0c他说\uff1a“讲故事\uff01”\uff08真的\uff09……"
JAPANESE = "「吾輩は猫である。」名前はまだ無い、とチョコレートを買ってきゃっきゃと言った。"
OPENING, CLOSING = "「\uff08“", "、。\uff0c\uff1a\uff01」\uff09”…ーっゃ"


@pytest.mark.parametrize("text", [TALE, JAPANESE, f"GPT-2{TALE}v2.0。{JAPANESE}"])
@pytest.mark.parametrize("columns", range(21, 45))
@pytest.mark.parametrize("pieces", [1, 1000])
def test_no_line_begins_with_a_closing_mark_or_ends_with_an_opening_one(
    text: str, columns: int, pieces: int
) -> None:
    shown = [line.replace(" ", "") for line in screen(text, columns, pieces)]  # pyte pads wide ones
    assert "".join(shown) == text
    assert not any(line[0] in CLOSING for line in shown)
    assert not any(line[-1] in OPENING for line in shown)
    assert all(columns - 6 <= width(line) < columns for line in shown[:-1] if "GPT" not in text)
    assert [line.replace(" ", "") for line in lines(text, columns - 1)] == shown


@pytest.mark.parametrize(
    "whole", ["👩\u200d🚀", "👍🏽", "e\u0301", "か\u3099", "\u1112\u1161\u11ab", "❤\ufe0f"]
)
@pytest.mark.parametrize("lead", range(4))
def test_no_line_ends_within_a_character(whole: str, lead: int) -> None:
    wrap = WordWrap(lambda: 21)
    text = "".join(map(wrap.wrapped, "x" * lead + whole * 40))
    assert text.replace("\n", "") == "x" * lead + whole * 40  # nothing was erased
    assert all(line.removeprefix("x" * lead).replace(whole, "") == "" for line in text.split("\n"))
    assert all(18 <= width(line) <= 21 for line in text.split("\n")[:-1])


def test_a_sentence_is_cut_into_lines_by_its_width() -> None:
    assert list(lines("one two  three", 8)) == ["one two", "three"]
    assert list(lines("汉字汉字汉字 abc", 8)) == ["汉字汉字", "汉字 abc"]
    assert list(lines("x" * 10, 4)) == ["xxxx", "xxxx", "xx"]
    assert list(lines("", 4)) == []


def test_wide_characters_fill_lines_without_spaces() -> None:
    found = screen("汉" * 30, 21, 1)
    assert "".join(found).replace(" ", "").count("汉") == 30
    assert width("汉") == 2
    assert width("e") == 1
    assert width("\u0301") == 0


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
