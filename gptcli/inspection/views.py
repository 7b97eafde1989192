"""What `gptcli inspect` shows, as plain data: every picture, page and file is made from these.

Log-probabilities and log-odds are natural logarithms; entropies are in bits. Arrays are nested
tuples or numpy arrays of float32, as their fields say. A token's text may be U+FFFD where the token
is a part of a character; an alternative that is a part of one is named by its bytes, as \\xe6\\xbc.

One rule for all views: the model reads the begin token first, then the text. `bos` names it. Where
tokens are rows of numbers it is the first of them, with the index -1; the text's tokens count from
0. Layers and heads count from 0. What comes before layer 0 is named "embeddings".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gptcli.checkpoints.tokenization.parts import Part
from gptcli.protocol import Alternative

EMBEDDINGS = "embeddings"  # before layer 0
BEGIN_INDEX = -1  # of the begin token


@dataclass(frozen=True)
class TokenView:
    """One token of a text, and what the model expected in its place.

    start, end: its place in the text, in characters (end-exclusive); tokens that share a character
    share its place. surface: the characters there. parts: the same, with what part of them it is;
    empty where it stands for none. unknown: whether it stands for what the vocabulary lacks. What
    is expected is None for the first token of a text without bos.
    """

    index: int
    id: int
    text: str
    raw: bytes
    start: int
    end: int
    logprob: float | None = None
    rank: int | None = None  # 1 is the likeliest
    entropy_bits: float | None = None  # of the whole distribution
    top: tuple[Alternative, ...] = ()
    surface: str = ""
    parts: tuple[Part, ...] = ()
    unknown: bool = False


@dataclass(frozen=True)
class TextView:
    """A text and its tokens."""

    model: str
    revision: str | None
    text: str
    tokens: tuple[TokenView, ...]
    bos: str | None = None  # the begin token read before the text; None: the text alone


@dataclass(frozen=True)
class Candidate:
    """A token that may come next: its probability at temperature 1, and after the settings."""

    id: int
    text: str
    probability: float
    kept: float  # 0 where the filters drop it; the kept ones sum to 1 over the vocabulary


@dataclass(frozen=True)
class TemperaturePoint:
    """The next-token distribution at another temperature T, over the whole vocabulary.

    A token's probability is exp(logprob / T - log_partition), `logprob` being that at T = 1.
    """

    temperature: float
    log_partition: float
    entropy_bits: float


@dataclass(frozen=True)
class NextView:
    """What may come after a text, likeliest first; not all of the vocabulary."""

    model: str
    revision: str | None
    text: str
    settings: tuple[tuple[str, float], ...]  # temperature, top_k, top_p ... that are in force
    candidates: tuple[Candidate, ...]
    remaining: int  # how many tokens of the vocabulary the filters keep
    entropy_bits: float  # at temperature 1
    kept_entropy_bits: float
    temperatures: tuple[TemperaturePoint, ...] = ()
    bos: str | None = None  # the begin token read before the text; None: the text alone


@dataclass(frozen=True)
class AttentionView:
    """How much each token looks at each token before it, in every layer and head.

    weights: numpy float32 (L, H, T, T), row = the token that looks; rows sum to 1. `layers` and
    `heads` tell which they are, counted from 0; empty where they are all.
    """

    model: str
    revision: str | None
    text: str
    tokens: tuple[TokenView, ...]
    weights: Any
    layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    bos: str | None = None  # the begin token read before the text; None: the text alone


@dataclass(frozen=True)
class LensView:
    """What each layer would say next, if it were the last: the logit lens.

    layers: for the embeddings and each layer, and each position, the `top` likeliest tokens;
    ranks: numpy int64 (L + 1, T), of the token that the last layer finds likeliest;
    states: numpy float32 (L + 1, T, C), as transformers' hidden_states. In all of them index 0 is
    the embeddings and index k + 1 what layer k makes of them, as `names` tells.
    Source: nostalgebraist, "interpreting GPT: the logit lens", 2020.
    """

    model: str
    revision: str | None
    text: str
    tokens: tuple[TokenView, ...]
    layers: tuple[tuple[tuple[Alternative, ...], ...], ...]  # (L + 1, T, top)
    ranks: Any
    states: Any
    bos: str | None = None  # the begin token read before the text; None: the text alone

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each depth: "embeddings", "0", "1", ..., the number of its layer."""
        return (EMBEDDINGS, *map(str, range(len(self.layers) - 1)))


@dataclass(frozen=True)
class AttributionView:
    """How much each token of a text speaks for one next token.

    scores: one a token; for integrated gradients they sum to the target's log-odds less those of
    the baseline (completeness), up to the error of the integral. `log_odds` are the target's,
    log(p / (1 - p)); `baseline` those after the baseline, where the method has one.
    """

    model: str
    revision: str | None
    text: str
    tokens: tuple[TokenView, ...]
    target: Alternative
    method: str  # "gradient-x-input" or "integrated-gradients"
    scores: tuple[float, ...]
    log_odds: float | None = None
    baseline: float | None = None
    bos: str | None = None  # the begin token read before the text; None: the text alone


View = TextView | NextView | AttentionView | LensView | AttributionView
