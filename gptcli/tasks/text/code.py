"""Where a block of code ends that a model continues.

Indentation tells, in Python as in most well laid out code, so one rule serves many languages.
Beside it only those lines are known that are indented less and still belong to the block: a closing
bracket, `else`. White space is kept, except at the end. Strings over several lines are not
recognised, and no language's grammar is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from gptcli.tasks.definition.task import Read

_OPENS = re.compile(r"(?:[:{(\[]|=>|->|\b(?:then|do|begin))\s*(?:(?:#|//).*)?$")
_CLOSES = re.compile(r"\s*[)\]}]")
_ONLY_CLOSES = re.compile(r"(?:[)\]};,\s]|\b(?:end|fi|done|esac)\b)+")
_CLOSING_WORDS = ("end", "fi", "done", "esac")
_LETTERS = "".join(_CLOSING_WORDS)
_FORKS = re.compile(r"\W*(?:if|elif|elsif|else|for|while|do|try|except|catch|rescue|unless)\b")
_BRANCHES = ("else", "elif", "elsif", "except", "finally", "catch", "rescue", "ensure")
# Lines before a definition that open no block: comments, decorators, imports.
_LEADS = re.compile(r"\s*(?:#|//|/\*|\*|--|@|(?:import|from|using|use|package|require)\b)")
_FENCE = re.compile(r"^ {0,3}(?:`{3}|`{0,2}\Z)", re.MULTILINE)  # or its beginning, at the end


@dataclass(frozen=True)
class _Block:
    """The state of a block before its next line; indentation in columns.

    Without `opener` and `level` the next line is its first. Without `level` the next line sets it.
    Without `opener` the block began before the prefix's last line.
    """

    opener: int | None = None  # indentation of the line that opens it
    level: int | None = None  # least indentation of the lines inside
    sure: bool = True  # else: the opener opens nothing if the next line is not deeper
    forks: bool = False  # another branch may follow: if, try
    closed: bool = False  # its closing bracket was seen


def block(until: str, prefix: str) -> Read:
    """The `Read` of code that continues `prefix`, with its leading white space.

    `until` says where it ends. `none`: nowhere, the text is taken as it is. `blank`: before the
    first blank line after any text. `fence`: before a line that begins with three backquotes.
    `dedent`: before the first non-blank line that is indented less than the last line of the
    prefix. If that line opens a block, the block's first line counts instead. At the top level,
    where nothing can be indented less, the first definition or statement that opens a block counts.
    Closing brackets and `else` belong to the block they close or continue. Except for `none`, white
    space at the end is not part of the answer.
    """
    if until == "none":
        return lambda text, finished: (text, finished)
    line = prefix[prefix.rfind("\n") + 1 :]
    if until == "blank":
        return _read_to_blank
    if until == "fence":
        return lambda text, finished: _read_to_fence(line, text, finished)
    first = _from_prefix(prefix)

    def read(text: str, finished: bool) -> tuple[str, bool]:
        end, done = _find_end(first, line + text, bool(line.strip()), finished)
        return text[: max(0, end - len(line))].rstrip(), done

    return read


def _read_to_blank(text: str, finished: bool) -> tuple[str, bool]:
    start = len(text) - len(text.lstrip())
    for gap in re.finditer(r"\s+", text[start:]):
        if gap.group().count("\n") > 1:
            return text[: start + gap.start()], True
    return text.rstrip(), finished


def _read_to_fence(line: str, text: str, finished: bool) -> tuple[str, bool]:
    """`line` is the beginning of the text's first line, which the prefix holds."""
    for match in _FENCE.finditer(line + text):
        whole = match.group().endswith("```")
        if match.end() > len(line) and (whole or not finished):
            return text[: max(0, match.start() - len(line))].rstrip(), whole or finished
    return text.rstrip(), finished


def _from_prefix(prefix: str) -> _Block:
    """The block that the end of the prefix is in."""
    line = prefix[prefix.rfind("\n") + 1 :]
    above = prefix[: len(prefix) - len(line)]
    last = line if line.strip() else above.rstrip().rpartition("\n")[2]
    if _OPENS.search(last):
        return _opened(last)
    if line.strip():
        return _Block(level=_width(line) or None)
    parted = above[len(above.rstrip()) :].count("\n") > 1
    return _Block(level=_width(line + "x") or (0 if parted else _width(last)) or None)


def _find_end(block: _Block, body: str, given: bool, finished: bool) -> tuple[int, bool]:
    """How many characters of the body are certain, and whether that is the whole block.

    The body begins with the prefix's last line; `given`: that line belongs in any case.
    """
    start = 0
    for number, line in enumerate(body.split("\n")):
        end = start + len(line)
        complete = finished or end < len(body)
        if line.strip():
            if number == 0 and given:
                after: _Block | bool | None = _after_given(block, line)
            else:
                after = _judge(block, line, complete)
            if not isinstance(after, _Block):
                return start, after is False
            if complete and after.closed and not after.forks:
                return end, True
            block = after
        start = end + 1
    return len(body), finished


def _after_given(block: _Block, line: str) -> _Block:
    """The block after the line that the prefix began."""
    return block if block != _Block() else _after_first(line)


def _after_first(line: str) -> _Block:
    """The block of which this is the first line."""
    if _LEADS.match(line):
        return _Block()
    return _opened(line, sure=bool(_OPENS.search(line)))


def _opened(line: str, sure: bool = True) -> _Block:
    return _Block(opener=_width(line), sure=sure, forks=bool(_FORKS.match(line)))


def _judge(block: _Block, line: str, complete: bool) -> _Block | bool | None:
    """The block after a line that belongs to it; False if none does; None: not yet certain."""
    width = _width(line)
    if block.level is None:
        if block.opener is None:
            return _after_first(line)
        if width > block.opener:
            return replace(block, level=width, sure=True)
        if width == block.opener and line.lstrip().startswith("{"):
            return replace(block, sure=True)
        if not block.sure:  # it opens nothing: a plain line, among others like it
            return _judge(_Block(level=block.opener), line, complete)
    elif width >= block.level and not block.closed:
        return block
    if block.opener is not None and width >= block.opener:
        return _judge_edge(block, line, complete)
    return _judge_outside(block, line, complete) if block.opener is None else False


def _judge_edge(block: _Block, line: str, complete: bool) -> _Block | bool | None:
    """The same for a line not deeper than the block's inside nor less than its opener."""
    inner = replace(block, level=None, closed=False)
    if not block.closed and _CLOSES.match(line):
        return inner if _OPENS.search(line) else replace(block, closed=True)
    word = re.split(r"\W", line.strip(), maxsplit=1)[0]
    if block.forks and _may_be(word, line, _BRANCHES, complete):
        return inner if word in _BRANCHES and (complete or word != line.strip()) else None
    return False if block.closed else _judge_outside(block, line, complete)


def _judge_outside(block: _Block, line: str, complete: bool) -> _Block | bool | None:
    """The same for a line that only closes what is inside, or does not belong."""
    if complete:
        only_closes = _ONLY_CLOSES.fullmatch(line)
        return replace(block, closed=True, forks=False) if only_closes else False
    before = line.rstrip(_LETTERS)
    word = line[len(before) :]  # maybe the beginning of one
    closes = not before or _ONLY_CLOSES.fullmatch(before)
    return None if closes and any(whole.startswith(word) for whole in _CLOSING_WORDS) else False


def _may_be(word: str, line: str, words: tuple[str, ...], complete: bool) -> bool:
    """Whether a line's first word is one of the words, or can still become one."""
    if complete or word != line.strip():
        return word in words
    return bool(word) and any(whole.startswith(word) for whole in words)


def _width(line: str) -> int:
    """A line's indentation in columns; that of a blank line is 0."""
    stripped = line.lstrip()
    return len(line[: len(line) - len(stripped)].expandtabs()) if stripped else 0
