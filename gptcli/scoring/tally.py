"""Counts and totals of a run of many texts, and its summary in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from time import perf_counter

from gptcli.checkpoints.tokenization.text.unknown import UnknownCharacters
from gptcli.errors import GptcliError
from gptcli.protocol import ModelInfo
from gptcli.scoring.pairs import PairScore
from gptcli.scoring.scores import TextScore, WordScore, together
from gptcli.system import stages
from gptcli.system.text.scripts import is_unspaced
from gptcli.system.units import counted, rate, seconds

Tell = Callable[[str], None]
"""(a line) -> nothing: says it to the user."""
LONGEST_WORD = 8  # characters of Chinese or Japanese: more of them are several words


@dataclass
class ScoreTally:
    """Counts and totals of the texts so far; no text is kept."""

    tell: Tell  # says the error of one text
    single: bool  # there is only one text
    numbers: str = "line"  # what an id of digits is the number of
    texts: int = 0
    failed: int = 0
    error: GptcliError | None = None  # the first one
    total: TextScore | None = None
    unknown: UnknownCharacters = field(default_factory=UnknownCharacters)  # of the texts
    uncut: bool = False  # whether a word was text that is written without spaces
    started: float = field(default_factory=perf_counter)

    def watched(self, scores: Iterable[TextScore]) -> Iterator[TextScore]:
        """Pass scores on, and count them."""
        for score in scores:
            if not self.texts:
                stages.mark(stages.FIRST_TOKEN)
            self.texts += 1
            if score.error is None:
                self.unknown.add(score.unknown)
                self.uncut = self.uncut or any(map(_holds_words, score.word_scores))
                bare = _bare(score)
                self.total = bare if self.total is None else together((self.total, bare))
            else:
                self.failed_with(score.error, score.id)
            yield score

    def pairs(self, scores: Iterable[PairScore]) -> Iterator[PairScore]:
        """The same for minimal pairs."""
        for score in scores:
            if not self.texts:
                stages.mark(stages.FIRST_TOKEN)
            self.texts += 1
            self.unknown.add(score.unknown)
            if score.error is not None:
                self.failed_with(score.error, score.id)
            yield score

    def failed_with(self, error: GptcliError, id: str) -> None:
        """Count an error, and say it unless there is only one text."""
        self.failed += 1
        self.error = self.error or error
        if not self.single:
            named = f"{self.numbers} {id}" if id.isdigit() else id
            known = re.search(rf"(?<!\w){re.escape(named)}(?!\w)", error.message)
            self.tell(str(error) if known else f"{named}: {error}")

    def summary(self) -> str:
        """All texts together; empty where none could be scored."""
        if self.total is None:
            return "" if self.texts else "no text is scored: the input has no rows"
        done = self.texts - self.failed
        shown = ", ".join(f"{name} {value}" for name, value in figures(self.total))
        return f"{counted(done, 'text')} together: {shown}"

    def closing(self, info: ModelInfo) -> str:
        """Tokens, time, speed and model, in one line."""
        passed = perf_counter() - self.started
        count, unit = (self.total.tokens, "token") if self.total else (self.texts, "row")
        done = f"{counted(count, unit)} in {seconds(passed)}"
        speed = rate(count, passed, f"{unit}s")
        return f"{done} ({speed}); {info.name} in {info.dtype} on {info.device}"


def _holds_words(score: WordScore) -> bool:
    return not score.word.isascii() and sum(map(is_unspaced, score.word)) > LONGEST_WORD


def _bare(score: TextScore) -> TextScore:
    """Only the figures of a text."""
    return replace(score, text=None, unknown=(), token_scores=(), word_scores=(), region_scores=())


def figures(score: TextScore) -> Iterator[tuple[str, str]]:
    """The means of a text with their standard errors: names and values, for people."""
    counts = score.words, score.characters, score.bytes
    per_word, per_character, per_byte = (standard_error(score, by) for by in counts)
    yield "perplexity", with_error(score.perplexity, score.perplexity_se, 2)
    yield "bits per token", with_error(score.bits_per_token, score.bits_per_token_se, 4)
    yield "bits per word", with_error(score.bits_per_word, per_word, 4)
    yield "bits per character", with_error(score.bits_per_character, per_character, 4)
    yield "bits per byte", with_error(score.bits_per_byte, per_byte, 4)


def standard_error(score: TextScore, by: float) -> float | None:
    """The standard error of the surprisal, divided by a count."""
    error = score.surprisal_se_bits
    return error / by if by and error is not None else None


def with_error(value: float | None, error: float | None, decimals: int) -> str:
    """A value and its standard error as text; "-" without a value."""
    if value is None:
        return "-"
    return f"{value:.{decimals}f}" + (f" ± {error:.{decimals}f}" if error is not None else "")
