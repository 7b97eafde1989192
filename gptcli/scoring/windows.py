"""Where the window stands over a text that is longer than the model's context.

The definition is that of Hugging Face's guide "Perplexity of fixed-length models": windows of the
context's length begin every `stride` tokens, and each scores the tokens that the one before did
not reach, with all of the window to their left. So every token is scored once, with at least
context - stride tokens before it, and a text that fits is one window. The sequence that is cut into
windows is <|endoftext|> (with --bos), the tokens of --context and those of the text; what stands
before the text is in the first windows only, and moves out of sight like any other token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gptcli.errors import UsageError


@dataclass(frozen=True)
class Stretch:
    """The window from `begin` to `end` of a sequence, which scores the tokens from `first` on."""

    begin: int
    end: int
    first: int


def stretches(length: int, known: int, context: int, stride: int) -> Iterator[Stretch]:
    """The windows over `length` tokens of which the first `known` are not scored.

    The very first token of a sequence never is: there is nothing before it. 1 <= stride < context.
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
    """The stride that is used: half the context by default.

    Raises UsageError for one that would leave a token with nothing before it.
    """
    if stride is None:
        return max(1, context // 2)
    if stride >= context:
        raise UsageError(
            "--stride",
            f"{stride} tokens: each window would begin behind the one before it, and its first"
            f" token have nothing to go by (the model's context is {context})",
            f"Give at most {context - 1}.",
        )
    return stride
