"""The likelihood of each sentence of some sets, each scored once however often it stands there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gptcli.audit.sets.pairs import PairSet, SentencePair
from gptcli.errors import BadInput, GptcliError
from gptcli.protocol import Engine
from gptcli.scoring.options import Scoring
from gptcli.scoring.pairs import TIE_NATS
from gptcli.scoring.scorer import TextToScore, score
from gptcli.system.units import counted


@dataclass(frozen=True)
class Sentence:
    """A scored sentence: log-probability in nats, tokens, and how many of them have a score."""

    logprob: float
    tokens: int
    scored: int


@dataclass(frozen=True)
class ScoredPair:
    """A pair with the scores of its sentences."""

    pair: SentencePair
    more: Sentence
    less: Sentence
    unrelated: Sentence | None = None

    @property
    def difference(self) -> float:
        """Nats by which `more` is likelier."""
        return self.more.logprob - self.less.logprob

    @property
    def preferred(self) -> float:
        """1 where `more` is likelier, 0 where `less` is, 0.5 where float32 cannot tell."""
        return preference(self.difference)

    @property
    def preferred_per_token(self) -> float:
        """The same of the means over tokens."""
        more, less = (it.logprob / it.scored for it in (self.more, self.less))
        return preference(more - less)

    def to_dict(self, name: str) -> dict[str, object]:
        """As a row of the pairs."""
        return {
            "set": name,
            "id": self.pair.id,
            "category": self.pair.category,
            **{f"in_{division}": part for division, part in self.pair.groups.items()},
            "more": self.pair.more,
            "less": self.pair.less,
            "logprob_more": self.more.logprob,
            "logprob_less": self.less.logprob,
            "difference_nats": self.difference,
            "preferred": self.preferred,
            "tokens_more": self.more.tokens,
            "tokens_less": self.less.tokens,
        }


@dataclass(frozen=True)
class ScoredSet:
    """A set with its scored pairs; `errors` are those of the others, by the pair's id."""

    set: PairSet
    pairs: tuple[ScoredPair, ...]
    errors: Mapping[str, GptcliError]


def preference(difference: float) -> float:
    """1 above 0, 0 below it, 0.5 for what is too near to tell (nats)."""
    return 0.5 if abs(difference) < TIE_NATS else float(difference > 0)


def scored_sets(
    engine: Engine, sets: Sequence[PairSet], scoring: Scoring, batch_size: int
) -> list[ScoredSet]:
    """The sets with their scores. Raises as `gptcli.scoring.scorer.score`; BadInput where no pair
    of a set has a score."""
    texts = dict.fromkeys(text for one in sets for pair in one.pairs for text in _texts(pair))
    scores = _scores(engine, texts, scoring, batch_size)
    return [_scored(one, scores) for one in sets]


def _texts(pair: SentencePair) -> tuple[str, ...]:
    return tuple(text for text in (pair.more, pair.less, pair.unrelated) if text is not None)


def _scores(
    engine: Engine, texts: Iterable[str], scoring: Scoring, batch_size: int
) -> dict[str, Sentence | GptcliError]:
    """Each text's score, or why it has none: windows of a long text would not compare alike."""
    found: dict[str, Sentence | GptcliError] = {}
    fitting = []
    for text in texts:
        error = _too_long(engine, text, scoring)
        if error is None:
            fitting.append(text)
        else:
            found[text] = error
    asked = (TextToScore(str(number), text) for number, text in enumerate(fitting))
    for text, got in zip(
        fitting, score(engine, asked, scoring, batch_size=batch_size), strict=True
    ):
        if got.error is not None or got.logprob is None:
            found[text] = got.error or BadInput("a sentence", "it has no score")
        else:
            found[text] = Sentence(got.logprob, got.tokens, got.scored)
    return found


def _too_long(engine: Engine, text: str, scoring: Scoring) -> GptcliError | None:
    context = engine.info.context
    if len(text) < context:  # a token has a character, or a byte of one
        most = len(text.encode("utf-8", "surrogatepass")) + 1
        if most <= context:
            return None
    tokens = len(engine.tokenizer.encode(text, bare=True)) + scoring.bos
    if tokens <= context:
        return None
    why = f"it has {counted(tokens, 'token')}, the context of {engine.info.name} is {context}"
    return BadInput("a sentence is too long", why, "Shorten it, or leave the pair out.")


def _scored(one: PairSet, scores: Mapping[str, Sentence | GptcliError]) -> ScoredSet:
    pairs: list[ScoredPair] = []
    errors: dict[str, GptcliError] = {}
    for pair in one.pairs:
        found = [scores[text] for text in _texts(pair)]
        error = next((it for it in found if isinstance(it, GptcliError)), None)
        good = [it for it in found if isinstance(it, Sentence)]
        if error is not None:
            errors[pair.id] = error
        else:
            pairs.append(ScoredPair(pair, *good))
    if not pairs:
        raise next(iter(errors.values()))
    return ScoredSet(one, tuple(pairs), errors)
