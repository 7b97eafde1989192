"""Answers read from a text under way: what they are, and that they can be streamed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptcli.tasks.definition.task import AnswerRule, Read, Value
from gptcli.tasks.text.code import block
from gptcli.tasks.text.parsers import first_line, first_sentences, reader, whole

SCRAPS = [  # of code, and of prose
    *("\n", "\n", "\n    ", "\n  ", "\t", " ", "if x:", "x = 1", "else:", "elif", "def f():", "el"),
    *("{", "}", ")", "[", ":", "end", "`", "```", "# no", "import os", ";", "(", "\r"),
]
WORDS = [
    *(
        "Mr.",
        "It",
        "he",
        "left",
        ".",
        "!",
        "?",
        "…",
        " ",
        " ",
        "\n",
        '"',
        "”",
        "»",
        "3.",
        "J.",
        "I",
    ),
    *("etc.", "The", "。", "」", "と", "-", "Mai", "Am", "🙂", "\n\n", ")", "no"),
]
CODE = st.lists(st.sampled_from(SCRAPS), max_size=24).map("".join)
PROSE = st.lists(st.sampled_from(WORDS), max_size=24).map("".join)
PREFIXES = [
    "",
    "def f(x):",
    "def f(x):\n    ",
    "def f(x):\n    if x:\n        return",
    "    if x:\n",
    "if (x) {",
    "x = [",
    "# what it does\n",
    "class A:\n    x = 1\n\n\n",
    "```python\n",
]
READINGS: dict[str, Read] = {
    "whole": whole(),
    "line": first_line(),
    "one": first_sentences(1),
    "two": first_sentences(2),
    **{
        f"{until} after {prefix!r}": block(until, prefix)
        for until in ("dedent", "blank", "fence", "none")
        for prefix in PREFIXES
    },
}


def answer(read: Read, text: str) -> str:
    """The answer to the finished text."""
    return read(text, True)[0]


def needed(read: Read, text: str) -> str:
    """As much of the text as must be written until the answer is known to be complete."""
    return next(text[:end] for end in range(len(text) + 1) if read(text[:end], end == len(text))[1])


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(list(READINGS)), CODE | PROSE | st.text(max_size=20))
def test_answers_only_grow_and_stay_once_they_are_complete(name: str, text: str) -> None:
    read = READINGS[name]
    steps = [read(text[:end], False) for end in range(len(text) + 1)]
    steps += [read(text, True)]
    for (before, complete), (after, still) in pairwise(steps):
        assert after.startswith(before)
        assert not complete or (after, still) == (before, True)
    assert steps[-1][1]


@given(st.sampled_from(list(READINGS)), CODE | PROSE)
def test_an_answer_is_a_part_of_the_text(name: str, text: str) -> None:
    assert answer(READINGS[name], text) in text


def test_the_whole_text_is_without_whitespace_around_it() -> None:
    assert whole()(" a\n b \n", False) == ("a\n b", False)
    assert whole()(" a\n b \n", True) == ("a\n b", True)


@pytest.mark.parametrize("text", [" \n\n Yes, it is. \nNo.", "Yes, it is.\r\nNo.", "Yes, it is. "])
def test_the_first_line_is_the_first_that_is_not_blank(text: str) -> None:
    assert answer(first_line(), text) == "Yes, it is."


def test_the_first_line_is_complete_at_its_line_break() -> None:
    assert needed(first_line(), "\n Yes\nNo") == "\n Yes\n"


def test_sentences_are_counted() -> None:
    text = " Mr. Bell left. He came back! Then nothing. Never."
    assert answer(first_sentences(2), text) == "Mr. Bell left. He came back!"


def test_a_text_with_fewer_sentences_is_taken_whole() -> None:
    assert answer(first_sentences(5), "One. Two ") == "One. Two"


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("He left. Then he came.", "He left. T"),
        ("He left?! Why?", "He left?! W"),
        ("He left.\n\nWhy?", "He left.\n\n"),
        ("He left.” Why?", "He left.” W"),
        ("It is etc. The end.", "It is etc. The "),
        ("行く。はい。", "行く。は"),
    ],
)
def test_a_sentence_is_complete_as_soon_as_what_follows_shows_it(text: str, until: str) -> None:
    assert needed(first_sentences(1), text) == until


def test_a_sign_that_may_belong_to_the_next_sentence_is_held_back() -> None:
    assert first_sentences(1)('He left. "', False) == ("He left.", False)


@pytest.mark.parametrize(
    ("prefix", "inside", "after"),
    [
        ("def f(x):", "\n    return x", "\n\nprint(f(1))"),
        ("def f(x):\n", "    return x", "\nprint(f(1))"),
        ("def f(x):\n    ", "if x:\n        y\n\n    return x", "\n@g\ndef h():"),
        ("def f", "(x):\n    return x", "\n\nprint(f(1))"),
        ("def f(", "\n    a,\n    b,\n):\n    return a", "\nx = 1"),
        ("def f():\n    x = 1\n", "    y = 2\n\n    return y", "\n\ndef g():"),
        ("def f():\n    x = 1\n\n    ", "return x", "\n\ndef g():"),
        ("def f():\n    return 1\n\n\n", "def g():\n    return 2", "\n\nprint(1)"),
        ("class A:\n    def f(self):", "\n        return 1", "\n\n    def g(self):"),
        ("class A:\n    def f(self):\n        x = ", "1\n        y = 2", "\n    z = 3"),
        ("    if x:", "\n        y\n    elif z:\n        w\n    else:\n        v", "\n    return"),
        ("try:\n    ", "x\nexcept E:\n    y\nfinally:\n    z", "\nw"),
        ("def f():  # why", "\n\treturn 1", "\nx"),
        ("# turn it round\n", "def f(s):\n    return s[::-1]", "\n\nprint"),
        ("", "import os\n\n@g\ndef f():\n    pass", "\n\nf()"),
        ("x = [", "\n    1,\n]", "\ny = 2"),
        ("int main() {", "\n  if (x) {\n    y;\n  }\n}", "\n\nint other() {"),
        ("int main()", "\n{\n  x;\n}", "\n\nint other()"),
        ("if (a) {", "\n  b;\n} else {\n  c;\n}", "\nd;"),
        ("if (a) {", "\n  b;\n}\nelse\n{\n  c;\n}", "\nd;"),
        ("f(function () {", "\n  x;\n});", "\ng();"),
        ("function f() {\n  let x = 1;\n  ", "return x;\n}", "\n\nf();"),
        ("def f(x)", "\n  x\nend", "\n\nputs 1"),
    ],
)
def test_a_block_ends_where_the_code_is_indented_less(prefix: str, inside: str, after: str) -> None:
    read = block("dedent", prefix)
    assert read(inside + after, False) == (inside, True)
    assert answer(read, inside + "\n") == inside


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("a = ", "1\nb = 2\n\nprint(b)"),
        ("if x:", "\n    y = '''\n    '''"),
        ("def f():\n    x = 1", "\n\n\n    y = 2\n        # odd\n    z"),
    ],
)
def test_a_block_goes_on_where_nothing_is_indented_less(prefix: str, text: str) -> None:
    assert block("dedent", prefix)(text, False) == (text, False)


@pytest.mark.parametrize(
    ("prefix", "text", "until"),
    [
        ("def f():", "\n    x\ny", "\n    x\ny"),
        ("def f():", "\n    x\nelse", "\n    x\nel"),  # not `end`
        ("int f() {", "\n  x;\n}\n\ny", "\n  x;\n}\n"),
        ("if (a) {", "\n  x;\n}\n\nelbow", "\n  x;\n}\n\nelb"),
    ],
)
def test_a_block_is_complete_as_early_as_can_be(prefix: str, text: str, until: str) -> None:
    assert needed(block("dedent", prefix), text) == until


def test_a_line_that_only_begins_like_a_closing_one_ends_the_block() -> None:
    assert answer(block("dedent", "def f():\n    x"), " = 1\nend = 5") == " = 1"


def test_until_blank_ends_before_the_first_blank_line_after_some_text() -> None:
    text = "\n\n  a\n    b\n \t\nc"
    assert block("blank", "")(text, False) == ("\n\n  a\n    b", True)


@pytest.mark.parametrize("fence", ["```", "   ```", "```python"])
def test_until_fence_ends_before_a_line_of_backquotes(fence: str) -> None:
    assert block("fence", "")(f"  a\n\nb\n{fence}\nc", False) == ("  a\n\nb", True)


@pytest.mark.parametrize("text", ["``` a", "x ```", "\n    ```", "\n`` `"])
def test_backquotes_elsewhere_are_no_fence(text: str) -> None:
    assert answer(block("fence", "x = "), text) == text


def test_what_may_become_a_fence_is_held_back() -> None:
    assert block("fence", "")("a\n``", False) == ("a", False)


def test_until_none_takes_the_text_as_it_is() -> None:
    assert block("none", "x")("  a\n\n```\n ", True) == ("  a\n\n```\n ", True)


INPUT = "One is. Two is. Three is. Four is."


@pytest.mark.parametrize(
    ("kind", "parameters", "text", "expected"),
    [
        ("text", {}, " A.\n\nB. ", "A.\n\nB."),
        ("line", {"abstain": "no"}, "\nA.\nB.", "A."),
        ("spans", {"types": ("x",)}, "A (x)\nB (x)", "A (x)"),
        ("sentences", {"sentences": 2, "ratio": None}, "Ab. Cd. Ef.", "Ab. Cd."),
        ("sentences", {"sentences": 1, "ratio": 0.5}, "Ab. Cd. Ef.", "Ab. Cd."),
        ("sentences", {"sentences": None, "ratio": 0.01}, "Ab. Cd. Ef.", "Ab."),
        ("sentences", {}, "Ab. Cd. ", "Ab. Cd."),
        ("code", {"until": "blank"}, " a\n\nb", " a"),
        ("code", {"until": "none"}, " a\n\nb", " a\n\nb"),
    ],
)
def test_each_kind_of_reading_has_its_way(
    kind: str, parameters: dict[str, Value], text: str, expected: str
) -> None:
    read = reader(AnswerRule(kind=kind), parameters, INPUT)  # type: ignore[arg-type]
    assert answer(read, text) == expected


def test_code_is_read_as_the_continuation_of_the_input() -> None:
    read = reader(AnswerRule(kind="code"), {"until": "dedent"}, "def f():")
    assert answer(read, "\n    x\ny") == "\n    x"


def test_labels_are_not_read() -> None:
    with pytest.raises(ValueError, match="labels"):
        reader(AnswerRule(kind="labels"), {}, INPUT)
