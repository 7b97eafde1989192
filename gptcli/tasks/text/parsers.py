"""From generated text to the answer, while the text is being generated.

A `Read` is called again with each new piece of text. Its answers only grow, so they can be
streamed. It reports as early as possible that nothing more will change, so that the rest need not
be generated. To keep both promises it holds back what later text could take away: white space at
the end, a possible sentence border, a line that might not belong. Each `Read` is a function of the
text alone and keeps no state. Not here: code is in `gptcli.tasks.text.code`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gptcli.system.text.sentences import borders, sentences
from gptcli.tasks.definition.task import AnswerRule, Read, Value
from gptcli.tasks.text.code import block

_LINE_BREAK = re.compile(r"[\r\n]")


def reader(reading: AnswerRule, parameters: Mapping[str, Value], input: str) -> Read:
    """The `Read` of an answer rule.

    `parameters` are those of the rule, with options resolved. `input` is the text that the answer
    is about: code continues it, and a `ratio` is a share of its sentences, at least one. `ratio`
    wins over `sentences`; without both the whole text is the answer. Raises ValueError for labels,
    which generate no text.
    """
    if reading.kind == "text":
        return whole()
    if reading.kind in ("line", "spans"):
        return first_line()
    if reading.kind == "code":
        return block(str(parameters.get("until") or "dedent"), input)
    if reading.kind == "sentences":
        count = _how_many(parameters, input)
        return first_sentences(count) if count else whole()
    raise ValueError(f"nothing is read for {reading.kind}")


def _how_many(parameters: Mapping[str, Value], input: str) -> int | None:
    """The number of sentences, None for all."""
    ratio, count = parameters.get("ratio"), parameters.get("sentences")
    if isinstance(ratio, int | float):
        return max(1, round(ratio * len(sentences(input))))
    return int(count) if isinstance(count, int | float) else None


def whole() -> Read:
    """The whole text, without white space around it."""
    return lambda text, finished: (text.strip(), finished)


def first_line() -> Read:
    """The first line that is not blank, without white space around it."""

    def read(text: str, finished: bool) -> tuple[str, bool]:
        start = text.lstrip()
        end = _LINE_BREAK.search(start)
        return (start[: end.start()] if end else start).rstrip(), finished or end is not None

    return read


def first_sentences(count: int) -> Read:
    """The first `count` sentences, or as many as there are.

    Only the following text shows that a sentence has ended, so the end of the last one is known a
    word or two late, or at a blank line.
    """

    def read(text: str, finished: bool) -> tuple[str, bool]:
        start = len(text) - len(text.lstrip())
        for number, border in enumerate(borders(text, finished=finished), 1):
            if number == count or not border.certain:
                return text[start : border.end], border.certain
        return text[start:].rstrip(), finished

    return read
