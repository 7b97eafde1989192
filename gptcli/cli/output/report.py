"""Counts of a run, for the line that ends it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

from gptcli.checkpoints.tokenization.text.unknown import UnknownCharacters
from gptcli.errors import GptcliError
from gptcli.options import Sampling
from gptcli.protocol import Completion, Event, ModelInfo
from gptcli.system import stages
from gptcli.system.units import counted, rate, seconds
from gptcli.tasks.answers import Answer, AnswerChunk

Shown = TypeVar("Shown", Event, AnswerChunk | Answer)
MAX_SEEDS = 5  # named in the closing line


@dataclass
class RunReport:
    """Counts and notices of a run. No text is kept, however long the run is."""

    started: float = field(default_factory=perf_counter)
    first: float | None = None  # seconds to the first token
    tokens: int = 0
    estimated: bool = False  # whether some tokens were not counted
    reasons: dict[str, None] = field(default_factory=dict)  # a set in order of first occurrence
    seeds: dict[int | None, None] = field(default_factory=dict)
    notices: dict[str, None] = field(default_factory=dict)
    unknown: UnknownCharacters = field(default_factory=UnknownCharacters)  # of the prompts
    errors: int = 0
    error: GptcliError | None = None  # the first one

    def watched(self, events: Iterable[Shown]) -> Iterator[Shown]:
        """Pass events on, and count them."""
        for event in events:
            if self.first is None:
                self.first = perf_counter() - self.started
                stages.mark(stages.FIRST_TOKEN)
            if isinstance(event, Completion | Answer):
                self.add(event)
            yield event

    def add(self, item: Completion | Answer) -> None:
        """Count a finished sequence."""
        self.tokens += item.usage.completion_tokens
        self.estimated = self.estimated or item.usage.estimated
        self.reasons[item.finish_reason] = None
        if len(self.seeds) <= MAX_SEEDS:
            self.seeds[item.seed] = None
        self.notices |= dict.fromkeys(item.notices)
        if not item.index:  # all sequences have the same prompt
            self.unknown.add(item.unknown)
        if item.error is not None:
            self.errors += 1
            self.error = self.error or item.error

    @property
    def filtered(self) -> bool:
        """Whether a filter ended or dropped a text."""
        return "content_filter" in self.reasons

    @property
    def said(self) -> tuple[str, ...]:
        """All that the user should know, each once."""
        return (*self.notices, *self.unknown.notices())

    def closing(self, info: ModelInfo, sampling: Sampling) -> str:
        """The run in one line: tokens, speed, time to the first token, model and seed.

        Where nothing is random, only a seed that was given is named.
        """
        told = sampling.effective_temperature > 0 or sampling.seed is not None
        tokens = ("about " if self.estimated else "") + counted(self.tokens, "token")
        passed = perf_counter() - self.started
        speed = f" ({rate(self.tokens, passed, 'tokens')})" if self.tokens else ""
        seeds = [str(seed) for seed in self.seeds if seed is not None]
        named = ", ".join(seeds[:MAX_SEEDS]) + (", ..." if len(seeds) > MAX_SEEDS else "")
        parts = [
            f"{tokens} in {seconds(passed)}{speed}",
            f"first token after {seconds(self.first)}" if self.first is not None else "",
            f"{info.name} in {info.dtype} on {info.device}",
            f"seed {named}" if named and told else "",
            f"finished by {', '.join(self.reasons)}",
        ]
        return "; ".join(filter(None, parts))
