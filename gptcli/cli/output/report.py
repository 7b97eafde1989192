"""What a run has shown so far, and what is said of it at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

from gptcli.errors import GptcliError
from gptcli.protocol import Completion, Event, ModelInfo
from gptcli.system import stages
from gptcli.system.units import counted, rate, seconds
from gptcli.tasks.answers import Answer, AnswerChunk

Shown = TypeVar("Shown", Event, AnswerChunk | Answer)
MOST = 5  # seeds that are named


@dataclass
class RunReport:
    """Counts and notices of a run; no text is kept, however long the run is."""

    started: float = field(default_factory=perf_counter)
    first: float | None = None  # seconds to the first token
    tokens: int = 0
    reasons: dict[str, None] = field(default_factory=dict)  # in the order they came up
    seeds: dict[int | None, None] = field(default_factory=dict)
    notices: dict[str, None] = field(default_factory=dict)
    errors: int = 0
    error: GptcliError | None = None  # the first one

    def watched(self, events: Iterable[Shown]) -> Iterator[Shown]:
        """Pass events on, and keep what the end needs of them."""
        for event in events:
            if self.first is None:
                self.first = perf_counter() - self.started
                stages.mark(stages.FIRST_TOKEN)
            if isinstance(event, Completion | Answer):
                self.add(event)
            yield event

    def add(self, item: Completion | Answer) -> None:
        """Count what is finished."""
        self.tokens += item.usage.completion_tokens
        self.reasons[item.finish_reason] = None
        if len(self.seeds) <= MOST:
            self.seeds[item.seed] = None
        self.notices |= dict.fromkeys(item.notices)
        if item.error is not None:
            self.errors += 1
            self.error = self.error or item.error

    def closing(self, info: ModelInfo) -> str:
        """What ran, in one line: tokens, speed, time to the first token, model and seed."""
        passed = perf_counter() - self.started
        speed = f" ({rate(self.tokens, passed, 'tokens')})" if self.tokens else ""
        seeds = [str(seed) for seed in self.seeds if seed is not None]
        named = ", ".join(seeds[:MOST]) + (", ..." if len(seeds) > MOST else "")
        parts = [
            f"{counted(self.tokens, 'token')} in {seconds(passed)}{speed}",
            f"first token after {seconds(self.first)}" if self.first is not None else "",
            f"{info.name} in {info.dtype} on {info.device}",
            f"seed {named}" if named else "",
            f"finished by {', '.join(self.reasons)}",
        ]
        return "; ".join(filter(None, parts))
