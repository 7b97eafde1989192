"""From tokens to words: the log-probability of a word, in two ways.

A word is a unit of `gptcli.scoring.units`; for most languages it stands between white space (of
ASCII: space, tab, line breaks). GPT-2's tokens begin with the space before a word. So there are two
ways to count, chosen by --word-method:

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

White space after the last word belongs to no word; it counts in the text's own score. Words that
share a token, as two characters in one, are one row: what each of them costs is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import UsageError
from gptcli.scoring.units import CharRange

BLANK = b" \t\n\v\f\r"


@dataclass(frozen=True)
class Edge:
    """Log-probabilities (nats) of two sets of tokens in one place."""

    begun: float  # of B: tokens that begin with white space, and the end token
    going_on: float  # of all other tokens, and the end token


@dataclass(frozen=True)
class TokenSpan:
    """Characters `start` to `end` (exclusive) of a text; its tokens `first` to `last`, inclusive.

    A span without a token has `last` before `first`. It holds `words` words from the index `word`.
    """

    start: int
    end: int
    first: int
    last: int
    word: int = 0
    words: int = 1

    @property
    def tokens(self) -> int:
        """How many tokens it has."""
        return self.last - self.first + 1


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


def spans(words: Sequence[CharRange], tokens: Sequence[CharRange]) -> list[TokenSpan]:
    """Each word's tokens, from the places of words and tokens; words that share a token together.

    Tokens of white space belong to the word after them. A word without a token, which the tokenizer
    dropped, joins the one before it.
    """
    found: list[TokenSpan] = []
    token = word = 0
    while word < len(words):
        first, opened = token, word
        while token < len(tokens) and tokens[token][0] < words[word][1]:
            while word + 1 < len(words) and words[word + 1][0] < tokens[token][1]:
                word += 1
            token += 1
        word += 1
        start, end = words[opened][0], words[word - 1][1]
        if token == first and found:
            last = found.pop()
            found.append(replace(last, end=end, words=last.words + word - opened))
        elif token > first:
            found.append(TokenSpan(start, end, first, token - 1, opened, word - opened))
    return found


def with_ends(
    words: Sequence[TokenSpan],
    logprobs: Sequence[float | None],
    edges: Sequence[Edge | None],
    blank: Sequence[bool],
) -> list[float | None]:
    """Log-probabilities (nats) of tokens, so that the sum over a word is its `trailing` score.

    A word's first token gives p(B) in its place away, its last one takes that of the place after
    it. `edges` has one item for each token's place (None where `logprobs` has None), and one for
    the place after the last token. `blank` says which tokens begin with white space.
    """
    found = list(logprobs)
    for span in words:
        before, after = edges[span.first], edges[span.last + 1]
        if before is not None and after is not None:
            _add(found, span.first, -(before.begun if blank[span.first] else before.going_on))
            _add(found, span.last, after.begun)
    return found


def _add(values: list[float | None], index: int, change: float) -> None:
    value = values[index]
    values[index] = None if value is None else value + change


def summed(span: TokenSpan, logprobs: Sequence[float | None]) -> float | None:
    """The sum over a span's tokens; None where one of them has no score."""
    part = logprobs[span.first : span.last + 1]
    found = [value for value in part if value is not None]
    return sum(found) if len(found) == len(part) else None


def beginning(span: TokenSpan, tokens: Sequence[CharRange]) -> int | None:
    """The first token that holds a character of the span; None for a span without one."""
    inside = range(span.first, span.last + 1)
    return next((index for index in inside if tokens[index][1] > span.start), None)
