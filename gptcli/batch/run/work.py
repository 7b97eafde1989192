"""What is done with rows, wherever it is done: in this process, in workers, in a cluster.

`Work` can be pickled; `answered` turns rows into records over one engine, each as soon as it is
there. A row's seed is the batch's and its number, so what is written does not depend on where,
when or beside which others. Not here: order and durability are in `gptcli.batch.run.runner`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gptcli.batch.input.row import Row
from gptcli.batch.run.width import Width
from gptcli.errors import BadInput, GptcliError
from gptcli.multiplex import Exchange, Plan, ask, run_plans
from gptcli.options import SEED_LIMIT, Load, Overflow, Sampling
from gptcli.protocol import Chunk, Completion, Engine, Event, GenerateRequest
from gptcli.tasks.answers import Answer, Question
from gptcli.tasks.prompts import Wording
from gptcli.tasks.solver import solve


@dataclass(frozen=True)
class Work:
    """Everything that decides what becomes of a row; `wording` is a task's, if there is one."""

    load: Load
    sampling: Sampling  # its seed is set
    on_overflow: Overflow = "error"
    wording: Wording | None = None
    batch_size: int | None = None  # None: what turns out to be fastest


@dataclass(frozen=True)
class Done:
    """A row and what became of it: the record that is written."""

    row: Row
    record: Mapping[str, object]
    prompt_tokens: int
    completion_tokens: int
    unknown: tuple[str, ...] = ()  # parts of the prompt that the vocabulary lacks

    @property
    def failed(self) -> bool:
        """Whether the record is an error."""
        return self.record["error"] is not None

    @property
    def filtered(self) -> bool:
        """Whether a filter ended or dropped a text."""
        texts: Any = self.record.get("choices") or [self.record]
        return any(one.get("finish_reason") == "content_filter" for one in texts)


def answered(
    engine: Engine, work: Work, rows: Iterator[Row | None], width: Width
) -> Generator[Done, None, None]:
    """The records of all rows, in the order in which they are finished.

    Rows are pulled when there is room; None stands for "none right now". A row that fails has its
    error in its record; what is raised ends all.
    """
    if work.wording is None:
        return run_plans(engine, _continued(engine, work, rows, width), in_order=False)
    return _solved(engine, work, work.wording, rows, width)


def sampling_of(row: Row, work: Work) -> Sampling:
    """A row's own settings. Raises the row's error; UsageError where they contradict each other."""
    if row.error:
        raise row.error
    seed = work.sampling.seed or 0
    own = {"seed": (seed + row.number) % SEED_LIMIT} | dict(row.overrides)
    return replace(work.sampling, **own)  # type: ignore[arg-type]


@dataclass
class _InFlight:
    """How many sequences are under way in the engine."""

    sequences: int = 0


def _continued(
    engine: Engine, work: Work, rows: Iterator[Row | None], width: Width
) -> Iterator[Plan[Done] | None]:
    """A plan for each row, of one request; none while `width` sequences are in flight."""
    flying = _InFlight()
    while True:
        if flying.sequences >= width.limit:
            yield None
            continue
        try:
            row = next(rows)
        except StopIteration:
            return
        yield None if row is None else Plan(_continuation(engine, work, row, width, flying))


def _continuation(
    engine: Engine, work: Work, row: Row, width: Width, flying: _InFlight
) -> Exchange[tuple[Done]]:
    try:
        sampling = sampling_of(row, work)
    except GptcliError as error:
        blank = GenerateRequest(id=row.id, prompt=row.text).refused(error, engine.info)
        return (Done(row, {**blank.to_dict(), **row.carried}, 0, 0),)

    def seen(event: Event) -> None:
        if isinstance(event, Chunk):
            width.written(len(event.tokens), flying.sequences)

    request = GenerateRequest(
        id=str(row.number),
        prompt=row.text,
        sampling=sampling,
        on_overflow=work.on_overflow,
        shown=False,
    )
    flying.sequences += request.results
    results = yield from ask(request, seen)
    flying.sequences -= request.results
    return (_done(row, [one for one in results if isinstance(one, Completion)]),)


def _done(row: Row, completions: list[Completion]) -> Done:
    """What became of a row's completions; of several each has its own count of tokens."""
    failed = [one for one in completions if one.error]
    written = sum(one.usage.completion_tokens for one in completions)
    return _recorded(row, failed[:1] or completions, written)


def _recorded(row: Row, results: list[Completion] | list[Answer], written: int) -> Done:
    """The record of a row's results: the first, and with several also all texts."""
    first = results[0]
    record = replace(first, id=row.id).to_dict()
    if len(results) > 1:
        record["choices"] = [
            {"index": one.index, "text": one.text, "finish_reason": one.finish_reason}
            for one in results
        ]
    found = {**record, **row.carried}
    return Done(row, found, first.usage.prompt_tokens, written, first.unknown)


def _solved(
    engine: Engine, work: Work, wording: Wording, rows: Iterator[Row | None], width: Width
) -> Generator[Done, None, None]:
    """Rows as the inputs of a task; of several sequences all texts are kept."""
    known: dict[str, Row] = {}

    def questions() -> Iterator[Question | None]:
        for row in rows:
            yield _question(row, work, known) if row else None

    solved = solve(
        engine,
        wording,
        questions(),
        work.sampling,
        work.on_overflow,
        width.limit,
        shown=False,
    )
    gathered: list[Answer] = []
    for event in solved:
        if not isinstance(event, Answer):
            continue
        gathered.append(event)
        row = known[event.id]
        due = row.overrides.get("num_return_sequences", work.sampling.num_return_sequences)
        if event.error or len(gathered) == due:
            usage = gathered[0].usage  # of all sequences
            yield _recorded(known.pop(event.id), gathered, usage.completion_tokens)
            gathered = []


def _question(row: Row, work: Work, known: dict[str, Row]) -> Question:
    known[str(row.number)] = row
    text = row.text if isinstance(row.text, str) else ""
    try:
        sampling = sampling_of(row, work)
        if row.text and not text:
            raise BadInput("prompt", "it is token ids, and a task takes a text", "Give its text.")
        return Question(str(row.number), text, sampling=sampling)
    except GptcliError as error:
        return Question(str(row.number), text, error)
