"""Runs in turn: one of ours, then one of each peer, and again.

The speed of a shared machine changes from minute to minute, so runs that are compared follow each
other. The first round warms up and is dropped. Not here: what a run does is in
`gptcli.bench.speeds` and `gptcli.bench.processes`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gptcli.bench.figures import EngineRuns, Figure
from gptcli.errors import GptcliError

# Threads of an engine that has just finished may spin for a fifth of a second before they sleep.
PAUSE_SECONDS = 0.25
# What libraries raise for a model, a prompt or a data type that they cannot take.
FAILURES = (GptcliError, RuntimeError, ValueError, TypeError, IndexError, OSError)
Say = Callable[[str], None]


@dataclass(frozen=True)
class EngineTurn:
    """One engine's part of a round: `measure(run)` gives one number for each figure."""

    label: str
    measure: Callable[[int], tuple[float, ...]]


def in_turn(
    turns: Sequence[EngineTurn], runs: int, say: Say, warm: int = 1
) -> list[tuple[EngineRuns, ...]]:
    """Measure each in turn, `runs` times after `warm` rounds that are dropped.

    Returns for each figure the runs of all, in their order. The first turn is ours: its errors are
    raised. A peer that fails has no runs, and `say` is told why.
    """
    found: list[list[tuple[float, ...]]] = [[] for _ in turns]
    failed: set[int] = set()
    for run in range(warm + runs):
        for place, turn in enumerate(turns):
            if place in failed:
                continue
            time.sleep(PAUSE_SECONDS)
            try:
                found[place].append(turn.measure(run))
            except FAILURES as error:
                if place == 0:
                    raise
                say(left_out(turn.label, error))
                failed.add(place)
                found[place].clear()
    return [
        tuple(
            EngineRuns(turn.label, tuple(numbers[column] for numbers in found[place][warm:]))
            for place, turn in enumerate(turns)
        )
        for column in range(len(found[0][0]))
    ]


def left_out(label: str, error: Exception) -> str:
    """The notice that an engine does not take part."""
    why = error.message if isinstance(error, GptcliError) else str(error).strip().split("\n")[0]
    return f"{label} is left out: {why}"


def figure(name: str, unit: str, runs: Sequence[EngineRuns], more_is_better: bool = True) -> Figure:
    """The figure of runs, ours first."""
    return Figure(name, unit, runs[0], tuple(runs[1:]), more_is_better)
