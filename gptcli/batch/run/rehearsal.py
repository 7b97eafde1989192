"""A dry run: count rows and tokens, and estimate time and memory.

The model's tokenizer counts the tokens, without the model. Then the first rows run for a few
seconds, to measure the speed of this machine. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from time import perf_counter

from gptcli.batch.input.row import Row
from gptcli.batch.run.width import Width
from gptcli.batch.run.work import Work, answered, sampling_of
from gptcli.errors import GptcliError
from gptcli.options import DEFAULT_NEW_TOKENS
from gptcli.protocol import Engine
from gptcli.system.memory import peak
from gptcli.tasks.run_context import in_its_language

BIN_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)  # upper bounds of the histogram, in tokens
SAMPLE_ROWS = 16  # rows that are run to see how fast it is


@dataclass
class Forecast:
    """What a dry run found. Times in seconds; None where nothing could be run."""

    rows: int = 0
    unusable: int = 0  # rows that will be errors, whatever the model
    too_long: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0  # at most
    histogram: dict[int, int] = field(default_factory=dict)  # upper bound in tokens -> rows
    seconds: float | None = None
    memory: int | None = None  # bytes

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "rows": self.rows,
            "unusable": self.unusable,
            "too_long": self.too_long,
            "prompt_tokens": self.prompt_tokens,
            "new_tokens_at_most": self.new_tokens,
            "histogram": {str(bound): count for bound, count in sorted(self.histogram.items())},
            "seconds": self.seconds,
            "memory_bytes": self.memory,
        }


def rehearse(
    rows: Iterator[Row | None], work: Work, opened: Callable[[], Engine], width: Width
) -> Forecast:
    """Count all rows, and run the first usable ones. Raises what reading and opening raise."""
    engine = opened()
    if work.wording is not None:
        work = replace(work, wording=in_its_language(engine, work.wording))
    found, sample = Forecast(), list[Row]()
    for row in rows:
        if row is not None:
            _count(found, row, work, engine)
            if row.error is None and len(sample) < SAMPLE_ROWS:
                sample.append(row)
    if sample:
        _time(found, sample, work, engine, width)
    return found


def _count(found: Forecast, row: Row, work: Work, engine: Engine) -> None:
    found.rows += 1
    try:
        sampling = sampling_of(row, work)
    except GptcliError:
        found.unusable += 1
        return
    if isinstance(row.text, str):
        tokens = engine.count(work.wording.text(row.text) if work.wording else row.text)
    else:
        tokens = len(row.text)
    bound = next((bound for bound in BIN_TOKENS if tokens <= bound), BIN_TOKENS[-1] * 2)
    found.histogram[bound] = found.histogram.get(bound, 0) + 1
    found.prompt_tokens += tokens
    found.too_long += tokens >= min(engine.info.context, sampling.max_length or 2**62)
    if work.wording is None or work.wording.task.answer.kind != "labels":
        new = sampling.max_new_tokens or DEFAULT_NEW_TOKENS
        found.new_tokens += max(0, min(new, engine.info.context - tokens))


def _time(found: Forecast, sample: list[Row], work: Work, engine: Engine, width: Width) -> None:
    """Run the sample and scale by tokens, a new one counted as ten read ones."""
    begin, cost = perf_counter(), 0
    for done in islice(answered(engine, work, iter(sample), width), len(sample)):
        cost += done.prompt_tokens + 10 * done.completion_tokens
    spent = perf_counter() - begin
    whole = found.prompt_tokens + 10 * found.new_tokens
    found.seconds = round(spent * whole / cost, 1) if cost else None
    found.memory = peak()
