"""The scores of a text, its tokens and its words: plain, frozen data.

Units: log-probabilities in nats; surprisal and entropy in bits, as in studies of reading. The
dictionaries of `to_dict()` are the rows of `gptcli score`; a test pins their keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gptcli.errors import GptcliError

BITS_PER_NAT = 1 / math.log(2)
MAX_EXPONENT_BITS = 1024  # 2 to this power is too large for a float
JsonRow = dict[str, object]


@dataclass(frozen=True, slots=True)
class TokenScore:
    """One token. It stands at characters `start` to `end` (exclusive) of the text: its `surface`.

    Tokens that are parts of one character share its place, their text is U+FFFD, and `part` says
    which one it is, as 1/3. None: a figure that was not requested, or the score of a token that no
    other precedes.
    """

    index: int
    token: str
    id: int
    start: int
    end: int
    logprob: float | None  # nats
    rank: int | None  # 1 is the likeliest
    entropy_bits: float | None
    surface: str = ""
    part: str | None = None
    unknown: bool = False  # whether it stands for what the vocabulary lacks

    @property
    def surprisal_bits(self) -> float | None:
        """-log2 of its probability."""
        return bits(self.logprob)

    def to_dict(self) -> JsonRow:
        """As a row."""
        return {
            "index": self.index,
            "token": self.token,
            "token_id": self.id,
            "start": self.start,
            "end": self.end,
            "surface": self.surface,
            "part": self.part,
            "logprob": self.logprob,
            "surprisal_bits": self.surprisal_bits,
            "rank": self.rank,
            "entropy_bits": self.entropy_bits,
        }


@dataclass(frozen=True, slots=True)
class WordScore:
    """One word (see `gptcli.scoring.units`): characters `start` to `end` (exclusive) of the text.

    Words that share a token are one, with their number in `words`; `index` is that of the first.
    `rank` and `entropy_bits` are of the word's first token with a character of the word: they say
    how open the text was where the word began.
    """

    index: int
    word: str
    start: int
    end: int
    tokens: int  # how many are summed, those of white space before the word included
    logprob: float | None  # nats; None where one of its tokens has no score
    rank: int | None = None
    entropy_bits: float | None = None
    region: int | None = None  # the index of the region in which it begins, if there are regions
    words: int = 1

    @property
    def surprisal_bits(self) -> float | None:
        """-log2 of its probability."""
        return bits(self.logprob)

    def to_dict(self) -> JsonRow:
        """As a row; numbers of words and regions count from 1."""
        region = {} if self.region is None else {"region_number": self.region + 1}
        return {
            **region,
            "word_number": self.index + 1,
            "word": self.word,
            "start": self.start,
            "end": self.end,
            "words": self.words,
            "tokens": self.tokens,
            "logprob": self.logprob,
            "surprisal_bits": self.surprisal_bits,
            "rank": self.rank,
            "entropy_bits": self.entropy_bits,
        }


@dataclass(frozen=True, slots=True)
class RegionScore:
    """One region of interest: characters `start` to `end` (exclusive) of the text.

    `word` is the index of its first word. An empty region has the sum of no tokens, which is 0.
    """

    index: int
    region: str
    label: str | None
    start: int
    end: int
    word: int
    words: int  # words that begin in it
    tokens: int
    logprob: float | None  # nats
    rank: int | None = None  # this and entropy_bits: as in WordScore
    entropy_bits: float | None = None

    @property
    def surprisal_bits(self) -> float | None:
        """-log2 of its probability."""
        return bits(self.logprob)

    def to_dict(self) -> JsonRow:
        """As a row; numbers of words and regions count from 1."""
        return {
            "region_number": self.index + 1,
            "region_label": self.label,
            "region": self.region,
            "start": self.start,
            "end": self.end,
            "word_number": self.word + 1 if self.words else None,
            "words": self.words,
            "tokens": self.tokens,
            "logprob": self.logprob,
            "surprisal_bits": self.surprisal_bits,
            "rank": self.rank,
            "entropy_bits": self.entropy_bits,
        }


@dataclass(frozen=True, kw_only=True)
class TextScore:
    """One text, or several together; for the errors see `gptcli.scoring.scorer.score`.

    Counts are of the whole text. Means are over the tokens with a score. Without --bos the first
    token has none, so bits per word, per character and per byte are a little too low.
    """

    id: str
    text: str | None = None
    tokens: int = 0
    scored: int = 0  # tokens with a score
    unknown: tuple[str, ...] = ()  # parts of the text that the vocabulary lacks
    words: int = 0
    characters: int = 0  # code points of Unicode
    bytes: int = 0  # of UTF-8
    logprob: float | None = None  # nats: the sum over its tokens
    squares: float = 0.0  # the sum of squared distances from the mean log-probability
    model: str = ""
    revision: str | None = None
    error: GptcliError | None = None
    token_scores: tuple[TokenScore, ...] = ()  # by `detail`
    word_scores: tuple[WordScore, ...] = ()
    region_scores: tuple[RegionScore, ...] = ()
    carried: Mapping[str, object] = field(default_factory=dict)  # other columns of its row

    @property
    def surprisal_bits(self) -> float | None:
        """-log2 of the text's probability."""
        return bits(self.logprob)

    @property
    def bits_per_token(self) -> float | None:
        """The mean surprisal of a token: the cross-entropy."""
        return self._per(self.scored)

    @property
    def bits_per_token_se(self) -> float | None:
        """The standard error of the mean surprisal: s / sqrt(n), with n - 1 in s.

        It takes tokens as independent, so it is too small for running text. None for one token.
        """
        if self.scored < 2:
            return None
        return BITS_PER_NAT * math.sqrt(self.squares / (self.scored - 1) / self.scored)

    @property
    def surprisal_se_bits(self) -> float | None:
        """The standard error of the whole text's surprisal, in bits: s x sqrt(n)."""
        error = self.bits_per_token_se
        return None if error is None else error * self.scored

    @property
    def bits_per_word(self) -> float | None:
        """Surprisal divided by the number of words; None without a word."""
        return self._per(self.words)

    @property
    def bits_per_character(self) -> float | None:
        """Surprisal divided by the code points of Unicode: comparable between tokenizers."""
        return self._per(self.characters)

    @property
    def bits_per_byte(self) -> float | None:
        """Surprisal divided by the bytes of UTF-8: comparable between tokenizers."""
        return self._per(self.bytes)

    @property
    def perplexity(self) -> float | None:
        """2 to the bits per token; None also where it is too large for a float."""
        mean = self.bits_per_token
        return None if mean is None or mean >= MAX_EXPONENT_BITS else math.exp2(mean)

    @property
    def perplexity_se(self) -> float | None:
        """Its standard error by the delta method: perplexity x ln 2 x bits_per_token_se."""
        error, power = self.bits_per_token_se, self.perplexity
        return None if error is None or power is None else power * error / BITS_PER_NAT

    def _per(self, count: int) -> float | None:
        return self.surprisal_bits / count if count and self.surprisal_bits is not None else None

    def to_dict(self) -> JsonRow:
        """As a row."""
        return {
            "id": self.id,
            "text": self.text,
            "tokens": self.tokens,
            "scored": self.scored,
            "unknown": len(self.unknown),
            "words": self.words,
            "characters": self.characters,
            "bytes": self.bytes,
            "logprob": self.logprob,
            "surprisal_bits": self.surprisal_bits,
            "perplexity": self.perplexity,
            "perplexity_se": self.perplexity_se,
            "bits_per_token": self.bits_per_token,
            "bits_per_token_se": self.bits_per_token_se,
            "bits_per_word": self.bits_per_word,
            "bits_per_character": self.bits_per_character,
            "bits_per_byte": self.bits_per_byte,
            "model": self.model,
            "revision": self.revision,
            "error": self.error.to_dict() if self.error else None,
        }


def bits(logprob: float | None) -> float | None:
    """Surprisal in bits of a log-probability in nats; never -0."""
    return None if logprob is None else 0.0 - logprob * BITS_PER_NAT


def spread(logprobs: Sequence[float]) -> tuple[float | None, float]:
    """Their sum (None for no values), and the sum of squared distances from their mean."""
    if not logprobs:
        return None, 0.0
    total = math.fsum(logprobs)
    mean = total / len(logprobs)
    return total, math.fsum((value - mean) ** 2 for value in logprobs)


def together(scores: Sequence[TextScore]) -> TextScore:
    """All texts with a score as one: counts and log-probabilities are summed.

    The squares about the common mean are computed from those of each text (Chan, Golub and LeVeque
    1983).
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
        unknown=tuple(part for score, _ in done for part in score.unknown),
        words=sum(score.words for score, _ in done),
        characters=sum(score.characters for score, _ in done),
        bytes=sum(score.bytes for score, _ in done),
        logprob=total if done else None,
        squares=squares,
        model=done[0][0].model if done else "",
        revision=done[0][0].revision if done else None,
    )
