"""The scores of a text, its tokens and its words: plain, frozen data.

Log-probabilities are natural ones, as everywhere in gptcli; surprisal and entropy are in bits, as
in the literature on reading. The dictionaries of `to_dict()` are the rows of `gptcli score`, their
keys pinned by a test. Left out: how the numbers come about, see `gptcli.scoring.scorer`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gptcli.errors import GptcliError

NAT = 1 / math.log(2)  # bits
LARGEST = 1024  # 2 to this is more than a float holds
JsonRow = dict[str, object]


@dataclass(frozen=True, slots=True)
class TokenScore:
    """One token. `start` and `end` are its place in the text, in characters, end-exclusive.

    Tokens that share a character share its place, and their text is U+FFFD. What was not asked for,
    and all that concerns a token with nothing before it, is None.
    """

    index: int
    token: str
    id: int
    start: int
    end: int
    logprob: float | None
    rank: int | None  # 1 is the likeliest
    entropy: float | None  # bits

    @property
    def surprisal(self) -> float | None:
        """-log2 of its probability."""
        return bits(self.logprob)

    def to_dict(self) -> JsonRow:
        """As a row."""
        return {
            "index": self.index,
            "token": self.token,
            "id": self.id,
            "start": self.start,
            "end": self.end,
            "logprob": self.logprob,
            "surprisal": self.surprisal,
            "rank": self.rank,
            "entropy": self.entropy,
        }


@dataclass(frozen=True, slots=True)
class WordScore:
    """One word: what stands between white space. `start` and `end` are its place, in characters."""

    index: int
    word: str
    start: int
    end: int
    tokens: int  # those summed over, the white space before the word among them
    logprob: float | None  # None where one of its tokens has none

    @property
    def surprisal(self) -> float | None:
        """-log2 of its probability."""
        return bits(self.logprob)

    def to_dict(self) -> JsonRow:
        """As a row."""
        return {
            "index": self.index,
            "word": self.word,
            "start": self.start,
            "end": self.end,
            "tokens": self.tokens,
            "logprob": self.logprob,
            "surprisal": self.surprisal,
        }


@dataclass(frozen=True, kw_only=True)
class TextScore:
    """One text, or several together; see `measures` for the errors.

    Counts are those of the whole text; the means are taken over the tokens that were scored. So
    without --bos, where the first token is not, bits per word and per byte are a little too low.
    """

    id: str
    text: str | None = None
    tokens: int = 0
    scored: int = 0  # tokens with a score
    words: int = 0
    bytes: int = 0  # of UTF-8
    logprob: float | None = None  # the sum over its tokens
    squares: float = 0.0  # the sum of squared distances from the mean log-probability
    model: str = ""
    revision: str | None = None
    error: GptcliError | None = None
    token_scores: tuple[TokenScore, ...] = ()  # where they were asked for
    word_scores: tuple[WordScore, ...] = ()  # likewise

    @property
    def surprisal(self) -> float | None:
        """-log2 of the text's probability."""
        return bits(self.logprob)

    @property
    def bits_per_token(self) -> float | None:
        """The mean surprisal of a token: the cross-entropy."""
        return self._per(self.scored)

    @property
    def bits_per_token_se(self) -> float | None:
        """The standard error of the mean surprisal, s / sqrt(n), with s over n - 1.

        As if tokens were independent, which they are not: rather too small. None for one token.
        """
        if self.scored < 2:
            return None
        return NAT * math.sqrt(self.squares / (self.scored - 1) / self.scored)

    @property
    def surprisal_se(self) -> float | None:
        """That of the whole text's surprisal, s x sqrt(n); by words or bytes, divided by them."""
        error = self.bits_per_token_se
        return None if error is None else error * self.scored

    @property
    def bits_per_word(self) -> float | None:
        """Surprisal by the number of words; None without a word."""
        return self._per(self.words)

    @property
    def bits_per_byte(self) -> float | None:
        """Surprisal by the bytes of UTF-8: comparable between tokenizers."""
        return self._per(self.bytes)

    @property
    def perplexity(self) -> float | None:
        """2 to the bits per token; None also where no float holds it."""
        mean = self.bits_per_token
        return None if mean is None or mean >= LARGEST else math.exp2(mean)

    @property
    def perplexity_se(self) -> float | None:
        """Its standard error by the delta method: that of the bits x ln 2 x perplexity."""
        error, power = self.bits_per_token_se, self.perplexity
        return None if error is None or power is None else power * error / NAT

    def _per(self, count: int) -> float | None:
        return self.surprisal / count if count and self.surprisal is not None else None

    def to_dict(self) -> JsonRow:
        """As a row."""
        return {
            "id": self.id,
            "text": self.text,
            "tokens": self.tokens,
            "scored": self.scored,
            "words": self.words,
            "bytes": self.bytes,
            "logprob": self.logprob,
            "surprisal": self.surprisal,
            "perplexity": self.perplexity,
            "perplexity_se": self.perplexity_se,
            "bits_per_token": self.bits_per_token,
            "bits_per_token_se": self.bits_per_token_se,
            "bits_per_word": self.bits_per_word,
            "bits_per_byte": self.bits_per_byte,
            "model": self.model,
            "revision": self.revision,
            "error": self.error.to_dict() if self.error else None,
        }


def bits(logprob: float | None) -> float | None:
    """The surprisal of a natural log-probability; never -0."""
    return None if logprob is None else 0.0 - logprob * NAT


def spread(logprobs: Sequence[float]) -> tuple[float | None, float]:
    """Their sum, None where there are none, and the squared distances from their mean, summed."""
    if not logprobs:
        return None, 0.0
    total = math.fsum(logprobs)
    mean = total / len(logprobs)
    return total, math.fsum((value - mean) ** 2 for value in logprobs)


def together(scores: Sequence[TextScore]) -> TextScore:
    """The texts that were scored as if they were one: counts and log-probabilities summed.

    The squares about the common mean follow from those about each (Chan, Golub and LeVeque 1983).
    """
    done = [(score, score.logprob) for score in scores if score.logprob is not None]
    scored = sum(score.scored for score, _ in done)
    total = math.fsum(logprob for _, logprob in done)
    squares = math.fsum(
        score.squares + score.scored * (logprob / score.scored - total / scored) ** 2
        for score, logprob in done
    )
    return TextScore(
        id="total",
        tokens=sum(score.tokens for score, _ in done),
        scored=scored,
        words=sum(score.words for score, _ in done),
        bytes=sum(score.bytes for score, _ in done),
        logprob=total if done else None,
        squares=squares,
        model=done[0][0].model if done else "",
        revision=done[0][0].revision if done else None,
    )
