"""Which script a text is in."""

# ruff: noqa: RUF001 - full-width marks are signs of text here

from __future__ import annotations

import pytest

from gptcli.system.text.scripts import is_unspaced, language_of_letters


@pytest.mark.parametrize("character", "中あア々〇ー。、！：（）「」《》＝１ｱ𠮷")
def test_han_kana_and_their_marks_take_no_space(character: str) -> None:
    assert is_unspaced(character)


@pytest.mark.parametrize("character", "aé1:.!) …—한ไ\n")
def test_other_characters_may_take_one(character: str) -> None:
    assert not is_unspaced(character)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("中国的首都是北京。", "zh"),
        ("東京は日本の首都です。", "ja"),
        ("カタカナ", "ja"),
        ("서울은 한국의 수도이다.", "ko"),
        ("用 GPT", None),
        ("我很喜欢用 GPT", "zh"),
        ("London is not 北京", None),
        ("London", None),
        ("привет", None),
        ("123 !?", None),
        ("", None),
    ],
)
def test_the_letters_of_a_text_tell_its_language(text: str, language: str | None) -> None:
    assert language_of_letters(text) == language


def test_of_many_tokens_each_counts_once() -> None:
    assert language_of_letters(["the", "of", "and", "中国人民", "首都北京"]) is None
    assert language_of_letters(["a", "中国", "##国", "首都"]) == "zh"
    assert language_of_letters(["の"] + ["国"] * 9) == "ja"
    assert language_of_letters(["の"] + ["国"] * 20) == "zh"
