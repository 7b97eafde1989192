"""A task over many lines, with its examples computed once and with them computed for every line.

It measures the gain of the prefix cache. No peer has such tasks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from gptcli.bench.entrants import label, plain
from gptcli.bench.figures import EngineRuns, Figure
from gptcli.bench.rounds import EngineTurn, Say, in_turn
from gptcli.bench.workloads import SENTENCE, SLOTS
from gptcli.engines import open_engine
from gptcli.options import Load, Sampling
from gptcli.protocol import Engine
from gptcli.tasks.answers import Answer, Question
from gptcli.tasks.definition.catalog import find
from gptcli.tasks.definition.options import options_class, values
from gptcli.tasks.prompts import worded
from gptcli.tasks.solver import solve

LINE_COUNT = 200


def labelling(load: Load, runs: int, say: Say) -> Iterator[Figure]:
    """Lines a second of the task `classify`, with and without the prefix cache."""
    words = SENTENCE.split()
    # Lines that begin differently: what they share is the task's examples alone.
    texts = [" ".join(Random(n).sample(words, 4 + n * 7 % 13)) for n in range(LINE_COUNT)]
    loads = [replace(plain(load), prefix_cache=reuse) for reuse in (True, False)]
    turns = [_turn(open_engine(one, SLOTS), texts, label(load.dtype)) for one in loads]
    [(once, each)] = in_turn(turns, runs, say)
    yield Figure(f"classify {LINE_COUNT} lines", "lines/s", once)
    yield Figure("the same, --no-prefix-cache", "lines/s", each)
    gains = tuple(one / other for one, other in zip(once.values, each.values, strict=True))
    yield Figure("gain of the prefix cache", "times", EngineRuns(label(load.dtype), gains))


def labelled(engine: Engine, texts: Sequence[str]) -> list[str]:
    """The label of each text, by the task `classify` as it comes."""
    task = find("classify")
    questions = (Question(str(number), text) for number, text in enumerate(texts))
    wording = worded(task, values(task, options_class(task)()))
    found = solve(engine, wording, questions, Sampling(), batch_size=SLOTS)
    return [answer.text for answer in found if isinstance(answer, Answer)]


def _turn(engine: Engine, texts: Sequence[str], name: str) -> EngineTurn:
    def measure(run: int) -> tuple[float]:
        begin = time.perf_counter()
        labelled(engine, texts)
        return (len(texts) / (time.perf_counter() - begin),)

    return EngineTurn(name, measure)
