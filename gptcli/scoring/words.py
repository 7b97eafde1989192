"""From tokens to words: the log-probability of a word, in two ways.

A word stands between white space (of ASCII: space, tab, line breaks). GPT-2's tokens begin with
the space before a word. So there are two ways to count, chosen by --word-method:

leading: the sum over the word's own tokens i to j, with the white space before it,

    log p(w) = sum_k log p(s_k | s_<k),  k = i..j.

Most studies report this. The token after the word says that the word has ended, so the end counts
for the next word: p sums to more than 1 over all words.

trailing: the word's end counts for the word itself. B is the set of the tokens that begin with
white space, and of <|endoftext|>; p(B | s_<k) is the sum of their probabilities in place k:

    log p(w) = sum_k log p(s_k | s_<k) + log p(B | s_<j+1) - log p(B | s_<i).

Pimentel and Meister, "How to Compute the Probability of a Word" (arXiv 2406.14561), and as
whitespace-trailing decoding Oh and Schuler, "Leading Whitespaces of Language Models' Subword
Vocabulary Pose a Confound for Calculating Word Probabilities" (arXiv 2406.10851). A text's first
word that begins without white space is divided by what could have begun it, the tokens that begin
with none and <|endoftext|>, in place of p(B | s_<i): Pimentel and Meister's case of the beginning
of a sequence. Their B begins with a space; ours with any white space, because our words end there.

White space after the last word belongs to no word; it counts in the text's own score.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gptcli.checkpoints.tokenizer import Tokenizer
from gptcli.errors import UsageError
from gptcli.scoring.scores import WordScore

BLANK = b" \t\n\v\f\r"
_WORD = re.compile(r"[^ \t\n\v\f\r]+")
CharRange = tuple[int, int]


@dataclass(frozen=True)
class Edge:
    """Log-probabilities (nats) of two sets of tokens in one place."""

    begun: float  # of B: tokens that begin with white space, and the end token
    going_on: float  # of all other tokens, and the end token


@dataclass(frozen=True)
class WordSpan:
    """The tokens from `first` to `last`, inclusive, of the word at `start` to `end` of a text."""

    start: int
    end: int
    first: int
    last: int


def count(text: str) -> int:
    """How many words a text has."""
    return sum(1 for _ in _WORD.finditer(text))


def borders(tokenizer: Tokenizer, eos: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids of B, and those of all other tokens; <|endoftext|> is in both.

    Raises UsageError where tokens do not stand for bytes: none is known to begin with a space.
    """
    if not tokenizer.byte_level:
        why = "the model's tokens do not stand for bytes, as GPT-2's do"
        raise UsageError("--word-method trailing", why, "Use --word-method leading")
    ids = range(tokenizer.size)
    begun = {id for id in ids if (tokenizer.token_bytes(id) or b"x")[:1] in BLANK}
    ends = set() if eos is None else {eos}
    return tuple(sorted(begun | ends)), tuple(id for id in ids if id not in begun or id in ends)


def spans(text: str, places: Sequence[CharRange]) -> Iterator[WordSpan]:
    """Each word's tokens, from the place of each token. A token belongs to its last character.

    Tokens of white space belong to the word after them. A word that lies inside a token which ends
    in a later word has no token, and is skipped; no tokenizer of GPT-2's kind makes one.
    """
    token = 0
    for found in _WORD.finditer(text):
        first = token
        while token < len(places) and places[token][1] <= found.end():
            token += 1
        if token > first:
            yield WordSpan(found.start(), found.end(), first, token - 1)


def leading(
    text: str, words: Sequence[WordSpan], logprobs: Sequence[float | None]
) -> list[WordScore]:
    """Words scored with the white space before them; see the module's docstring."""
    return [
        _score(index, text, span, _sum(logprobs[span.first : span.last + 1]))
        for index, span in enumerate(words)
    ]


def trailing(
    text: str,
    words: Sequence[WordSpan],
    logprobs: Sequence[float | None],
    edges: Sequence[Edge | None],
    blank: Sequence[bool],
) -> list[WordScore]:
    """Words scored with the white space after them; see the module's docstring.

    `edges` has one item for each token's place (None where `logprobs` has None), and one for the
    place after the last token. `blank` says which tokens begin with white space.
    """
    scores = []
    for index, span in enumerate(words):
        total, before = _sum(logprobs[span.first : span.last + 1]), edges[span.first]
        after = edges[span.last + 1]
        if total is not None and before is not None and after is not None:
            total -= before.begun if blank[span.first] else before.going_on
            total += after.begun
        scores.append(_score(index, text, span, total))
    return scores


def _sum(logprobs: Sequence[float | None]) -> float | None:
    found = [value for value in logprobs if value is not None]
    return sum(found) if len(found) == len(logprobs) else None


def _score(index: int, text: str, span: WordSpan, logprob: float | None) -> WordScore:
    word = text[span.start : span.end]
    return WordScore(index, word, span.start, span.end, span.last - span.first + 1, logprob)
