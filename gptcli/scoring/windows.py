"""Sliding windows over a text that is longer than the model's context.

Source: Hugging Face's guide "Perplexity of fixed-length models". Windows have the context's length
and begin every `stride` tokens. Each window scores the tokens that the window before it did not
reach. So every token is scored once, with at least context - stride tokens before it. A text that
fits the context is one window. The sequence is: the begin token (with --bos), the tokens of
--context, the tokens of the text. The later windows of a long text hold only the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gptcli.errors import UsageError


@dataclass(frozen=True)
class Stretch:
    """A window: tokens `begin` to `end` (exclusive) of the sequence; scores those from `first`."""

    begin: int
    end: int
    first: int


def stretches(length: int, known: int, context: int, stride: int) -> Iterator[Stretch]:
    """The windows over `length` tokens of which the first `known` are not scored.

    Token 0 is never scored: no token precedes it. 1 <= stride < context.
    """
    done = max(known, 1)
    for begin in range(0, length, stride):
        end = min(begin + context, length)
        if end > done:
            yield Stretch(begin, end, done)
            done = end
        if end == length:
            return


def checked_stride(stride: int | None, context: int) -> int:
    """The stride in tokens: half the context by default.

    Raises UsageError for a stride of `context` or more: it leaves a token without context.
    """
    if stride is None:
        return max(1, context // 2)
    if stride >= context:
        raise UsageError(
            "--stride",
            f"{stride} tokens: the first token of each window would have no context"
            f" (the model's context is {context})",
            f"Give at most {context - 1}.",
        )
    return stride
