"""Answers for neighbouring parts of a text joined, with a space where their language has one."""

from __future__ import annotations

from gptcli.system.text.scripts import is_unspaced

_MARKS = ".!?:;,…\"')]"


def between(before: str, left: str, right: str) -> str:
    """What stands between two answers, where `before` stood between the parts they are for.

    A translation out of a language without spaces gets one after a mark, and one into such a
    language loses it. Line breaks stay.
    """
    if not left or not right or "\n" in before or before.strip():
        return before
    if is_unspaced(left[-1]) and is_unspaced(right[0]):
        return ""
    if not before and left[-1] in _MARKS and right[0].isalnum() and not is_unspaced(right[0]):
        return " "
    return before
