"""No control character survives; everything else does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcli.system.sanitizer import one_line, sanitize

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()))
KEPT_CONTROLS = "\t\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;aGk=\x07", "^[]52;c;aGk=^G"),
        ("\x00\x07\x08\r", "^@^G^H^M"),
        ("\x7f", "^?"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb", r"a\u202eb"),
        ("\u2066\u2069\u2028\u2029", r"\u2066\u2069\u2028\u2029"),
        ("\U000e0041", r"\ue0041"),
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert sanitize(text) == shown


@pytest.mark.parametrize("text", ["a\tb\n", "é 日本 👩\u200d🚀", "[/foo] :smile: \\n", ""])
def test_harmless_text_is_kept(text: str) -> None:
    assert sanitize(text) == text


@settings(max_examples=500)
@given(ANY_TEXT, ANY_TEXT)
def test_a_split_anywhere_changes_nothing(left: str, right: str) -> None:
    assert sanitize(left) + sanitize(right) == sanitize(left + right)


@settings(max_examples=500)
@given(ANY_TEXT)
def test_nothing_dangerous_is_left(text: str) -> None:
    clean = sanitize(text)
    assert all(
        char in KEPT_CONTROLS or 0x20 <= ord(char) < 0x7F or ord(char) > 0x9F for char in clean
    )
    clean.encode("utf-8")
    assert sanitize(clean) == clean
    assert len(clean) <= 8 * len(text)


def test_one_line_shows_line_breaks() -> None:
    assert one_line("a\nb") == "a^Jb"
