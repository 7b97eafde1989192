"""A durable batch from Python: `run_batch("prompts.txt", "texts.jsonl")`.

The whole recipe of `gptcli batch` is here, in the order of its costs: input, model and output are
checked before a model is loaded. Nothing is printed and no signal is handled; a program that shows
something (the command does) passes callbacks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gptcli import engines
from gptcli.batch.input.changes import InputWatch
from gptcli.batch.input.inputs import Files, Name, Prompts, Rows, taken
from gptcli.batch.input.notices import OF_ANSWERS, OF_COMPLETIONS, RowNotices
from gptcli.batch.options import Batch, BatchInput
from gptcli.batch.output.journal import Journal
from gptcli.batch.output.manifest import RunManifest
from gptcli.batch.output.opening import open_output
from gptcli.batch.output.stream import Stream, is_stream
from gptcli.batch.run.identity import Identity, identify
from gptcli.batch.run.rehearsal import Forecast, rehearse
from gptcli.batch.run.runner import Runner, former, here, manifest_of, run, seeded, width_of
from gptcli.batch.run.tally import BatchResult, Tally
from gptcli.batch.run.work import Work
from gptcli.checkpoints.resolve import Progress
from gptcli.errors import UsageError, told_in_python
from gptcli.inputs.lines import unheard
from gptcli.inputs.records import Note
from gptcli.options import Load, Sampling
from gptcli.protocol import Engine
from gptcli.system.units import counted
from gptcli.tasks.definition import catalog
from gptcli.tasks.definition.options import chosen, parsed
from gptcli.tasks.prompts import Wording, worded

Inputs = Name | Iterable[Name] | Prompts
Send = Callable[[str], object]
"""Takes a row of the output: a line of JSON with its line feed."""
Watch = Callable[[Tally], object]
"""Called after each row that was written."""
Opener = Callable[[int], Engine]
"""(slots) -> an engine with so many."""
Substitute = Callable[[Engine, int, bool], Engine]
"""(engine, its slots, whether it is for beams) -> the engine to use in its place."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What a program puts around a batch; by default nothing.

    `waiting` is entered with a text while something may take long, and gives the progress of a
    download. `computing` is entered once the output is open, and left when all rows are written.
    """

    stdin: BinaryIO | None = None  # read for an input `-`
    engine: Engine | None = None  # a loaded one, used in place of opening one
    waiting: Callable[[str], AbstractContextManager[Progress]] = lambda text: nullcontext()
    computing: Callable[[], AbstractContextManager[Substitute]] = lambda: nullcontext(_itself)
    own: tuple[str, ...] = ()  # files that it writes itself: where inputs are, they are none
    verbose: bool = False  # let Ray say what it does


@told_in_python()
def run_batch(
    inputs: Inputs,
    output: Name | Send,
    *,
    batch: Batch | None = None,
    reading: BatchInput | None = None,
    load: Load | None = None,
    sampling: Sampling | None = None,
    watch: Watch | None = None,
    note: Note | None = None,
    frame: Frame | None = None,
) -> BatchResult:
    """Answer many prompts durably, as `gptcli batch` does; called again, it goes on where it was.

        result = run_batch(
            "reviews.csv",
            "labels.jsonl",
            batch=Batch(task="classify", set=("labels=good,bad",)),
            reading=BatchInput(column="review"),
            watch=lambda tally: print(tally.line()),
        )
        print(result.rows, "rows,", result.failed, "failed")

    `inputs` are names of files, folders or patterns, or `Prompts(texts)`. `output` is a file
    (.jsonl, .json, .csv, .tsv, .parquet), or a function that takes each row as a line of JSON,
    which cannot be resumed. Rows are written in the order of the input; a row that fails is a row
    with an error. `batch` has the task, durability, workers and the runner (its `output`, `summary`
    and `dry_run` are the command's). Without `sampling` the task's own counts; without a seed the
    one of the output that is there, else one is drawn. `watch` and `note` are called in this
    thread.

    Raises, before a model is loaded: UsageError, MissingInput, BadInput (made from something else,
    or damaged), BadTask, BadModel, CannotCreate, Busy, Unavailable. While it runs: the same,
    TooManyFailures and WriteFailed; the rows that are written stay.
    """
    around, settings = frame or Frame(), batch or Batch()
    _check(output, settings)
    plan = _planned(taken(inputs), output, settings, reading, load, sampling, around, note)
    with ExitStack() as stack:
        rows = stack.enter_context(closing(plan.rows))
        tally = Tally(total=plan.source.total(plan.reading) if watch else None)
        journal = _journal(output, settings, plan)
        stack.enter_context(journal)
        if journal.recovered and not journal.complete and note:
            note(f"{_name(output)}: going on after {counted(journal.recovered, 'row')}")
        substitute = stack.enter_context(around.computing())
        opened = _opener(plan.work, around, note, substitute)
        runner = _runner(plan, settings, opened, around.verbose)
        run(rows, journal, runner, tally, settings.max_failures, watch or _unwatched)
        tally.failed = journal.failed
        if note:
            for notice in tally.unknown.notices("the prompts"):
                note(notice)
    return tally.result(_name(output), plan.work.sampling.seed or 0)


@told_in_python()
def forecast_batch(
    inputs: Inputs,
    output: Name | Send | None = None,
    *,
    batch: Batch | None = None,
    reading: BatchInput | None = None,
    load: Load | None = None,
    sampling: Sampling | None = None,
    note: Note | None = None,
    frame: Frame | None = None,
) -> Forecast:
    """Count rows and tokens, and estimate time (seconds) and memory (bytes); nothing is written.

    The model is loaded, and runs on the first rows for a few seconds. `output` is only asked for
    its seed. Raises as `run_batch`, but for what is the output's.
    """
    around, settings = frame or Frame(), batch or Batch()
    plan = _planned(taken(inputs), output, settings, reading, load, sampling, around, note)
    with closing(plan.rows) as rows:
        opened = _opener(plan.work, around, note, _itself)
        width = width_of(settings, plan.work.load, plan.identity)
        return rehearse(rows, plan.work, lambda: opened(width.most), width)


@dataclass(frozen=True)
class _Plan:
    """What is known before the output is opened."""

    source: Files | Prompts
    reading: BatchInput
    rows: Rows
    changes: InputWatch
    work: Work
    identity: Identity


def _planned(
    source: Files | Prompts,
    output: Name | Send | None,
    settings: Batch,
    reading: BatchInput | None,
    load: Load | None,
    sampling: Sampling | None,
    around: Frame,
    note: Note | None,
) -> _Plan:
    """Check the task, then the inputs, then the model: in the order of what that costs."""
    reading, load = reading or BatchInput(), load or Load()
    wording = _wording(settings)
    if sampling is None:
        sampling = Sampling(**wording.task.sampling) if wording else Sampling()  # type: ignore[arg-type]
    notices = RowNotices(note or unheard, OF_ANSWERS if wording else OF_COMPLETIONS)
    name = _name(output)
    changes = InputWatch((*around.own, name) if name else around.own)
    rows = source.rows(reading, around.stdin, notices, changes)
    with around.waiting(f"looking for {load.model or 'the model'}") as progress:
        identity = identify(load, progress)
    work = Work(
        load=load,
        sampling=seeded(sampling, _before(output, settings)),
        on_overflow=settings.on_overflow,
        wording=wording,
        batch_size=settings.size,
    )
    return _Plan(source, reading, rows, changes, work, identity)


def _check(output: Name | Send, settings: Batch) -> None:
    """Raises UsageError for what only the command can do."""
    if settings.dry_run:
        raise UsageError("dry_run", "it writes nothing", "Call forecast_batch.")
    name = _name(output)
    if name is not None and is_stream(name):
        why = f"{name} is no regular file"
        raise UsageError("output", why, "Give a file, or a function that takes the lines.")


def _name(output: Name | Send | None) -> str | None:
    """The output's file, None where there is none."""
    return os.fspath(output) if isinstance(output, str | os.PathLike) else None


def _wording(settings: Batch) -> Wording | None:
    """The task that is named, with its options. Raises UsageError, BadTask."""
    if settings.task is None:
        return None
    task = catalog.find(settings.task)
    return worded(task, chosen(task, parsed(task, settings.set)), settings.example)


def _before(output: Name | Send | None, settings: Batch) -> RunManifest | None:
    """What the output that is there was made from, if it is to be gone on with."""
    name = _name(output)
    if name is None or is_stream(name) or settings.force:
        return None
    return former(Path(name))


def _journal(output: Name | Send, settings: Batch, plan: _Plan) -> Journal | Stream:
    """The open output; from here on the inputs may not change."""
    inputs = plan.source.fingerprint(plan.reading, plan.changes)
    if not isinstance(output, str | os.PathLike):
        return Stream(output)
    manifest = manifest_of(inputs, plan.reading, plan.work, plan.identity)
    return open_output(Path(output), manifest, settings)


def _runner(plan: _Plan, settings: Batch, opened: Opener, verbose: bool) -> Runner:
    """Where rows are computed."""
    work, most = plan.work, plan.identity.most
    if settings.runner == "ray":
        from gptcli.batch.run import cluster

        return cluster.runner(work, settings.address, most, verbose)
    if settings.workers > 1:
        from gptcli.batch.run import workers

        return workers.runner(work, settings.workers, most)
    width = width_of(settings, work.load, plan.identity)
    return here(lambda: opened(width.most), work, width)


def _opener(work: Work, around: Frame, note: Note | None, substitute: Substitute) -> Opener:
    """What opens the engine with as many slots as it is told, and passes on its notices."""
    load, beams = work.load, work.sampling.num_beams > 1

    def opened(slots: int) -> Engine:
        if around.engine is not None:
            return substitute(around.engine, slots, beams)
        with around.waiting(f"loading {load.model or 'the model'}") as progress:
            text = work.wording is not None
            engine = engines.open_engine(load, slots, beams, progress, text=text)
        if note is not None:
            engines.say_waits(engine, note)
            for notice in engine.info.notices:
                note(notice)
        return substitute(engine, slots, beams)

    return opened


def _itself(engine: Engine, slots: int, beams: bool) -> Engine:
    return engine


def _unwatched(tally: Tally) -> None:
    pass
