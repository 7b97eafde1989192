"""What a reader sees as one character, and how wide a terminal draws it."""

from __future__ import annotations

import pytest

from gptcli.system.text.characters import characters, width

WHOLE = {  # each of them one character
    "a": 1,
    "é": 1,
    "e\u0301": 1,
    "漢": 2,
    "\uff21": 2,
    "ｱ": 1,
    "か\u3099": 2,
    "한": 2,
    "\u1112\u1161\u11ab": 2,  # the same, decomposed
    "𠮷": 2,
    "漢\ufe00": 2,
    "👩": 2,
    "👍🏽": 2,
    "👩\u200d🚀": 2,
    "👨\u200d👩\u200d👧": 2,
    "👩🏽\u200d🤝\u200d👨🏿": 2,
    "❤": 1,
    "❤\ufe0f": 2,
    "❤\ufe0f\u200d🔥": 2,
    "🏳\ufe0f\u200d🌈": 2,
    "1\ufe0f\u20e3": 2,
    "🇺🇳": 2,
    "क\u093f": 2,
    "\xad": 1,
    "\u200b": 0,
    "…": 1,
    "□": 1,
    "。": 2,
}


@pytest.mark.parametrize(("text", "columns"), WHOLE.items(), ids=map(ascii, WHOLE))
def test_a_character_has_its_columns_wherever_it_stands(text: str, columns: int) -> None:
    assert width(text) == columns
    assert width(f"漢{text}漢") == columns + 4
    assert width(text * 3) == 3 * columns


def test_a_text_is_cut_into_the_characters_that_a_reader_sees() -> None:
    wholes = [text for text in WHOLE if text != "\u200b"]
    text = "".join(wholes)
    assert [text[start:end] for start, end in characters(text)] == wholes
    assert list(characters("")) == []
    assert list(characters("\r\n\n")) == [(0, 2), (2, 3)]


def test_flags_are_cut_in_pairs() -> None:
    text = "🇨🇳🇯🇵🇰"
    assert [text[start:end] for start, end in characters(text)] == ["🇨🇳", "🇯🇵", "🇰"]
