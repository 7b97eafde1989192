"""`gptcli batch`: many prompts from files, answered by one engine, written durably in order.

Input, output and model are checked first, in the order of their costs; a row that fails is a row
with an error, and the exit code 3. Left out: all that outlives a crash, see `gptcli.batch`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer

from gptcli import engines
from gptcli.batch import sources
from gptcli.batch.identity import Identity, identify
from gptcli.batch.journal import Journal, open_changed, open_journal, open_retry
from gptcli.batch.manifest import Manifest
from gptcli.batch.reading import Reading
from gptcli.batch.rehearsal import rehearse
from gptcli.batch.run import Place, Rows, former, here, manifest_of, run, seeded, width_of
from gptcli.batch.settings import Batch
from gptcli.batch.stream import Stream, is_stream
from gptcli.batch.tally import Tally
from gptcli.batch.width import Width
from gptcli.batch.work import Work
from gptcli.cli import candidates, render, signals, sink, streams
from gptcli.cli.declaration import command
from gptcli.cli.recording import recording
from gptcli.engines import Engine
from gptcli.errors import ExitCode, UsageError
from gptcli.options import Load, Output, Record, Sampling, Talk
from gptcli.tasks import catalog
from gptcli.tasks.options import chosen, parsed
from gptcli.tasks.prompts import Wording, worded

COUNTED = 4 << 20  # bytes of input whose rows are counted before
EVERY = 10.0  # seconds between two lines of progress where there is no terminal
GO_ON = "stopped; the same command goes on where it was"
Note = Callable[[str], None]
Opener = Callable[[int], Engine]
"""(slots) -> an engine with so many."""


def _task_presets(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sampling of the task that is named, as the command's defaults."""
    name = given.get("task") or os.environ.get("GPTCLI_TASK")
    return catalog.find(name).sampling if name else {}


@command(presets=_task_presets)
def batch(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders or patterns; - is standard input.",
            show_default=False,
            autocompletion=candidates.files,
        ),
    ] = None,
    *,
    reading: Reading,
    settings: Batch,
    load: Load,
    sampling: Sampling,
    record: Record,
    talk: Talk,
) -> int:
    """Answer many prompts from files, durably.

    Every row of the input gives a row of the output, in the same order, as a line of JSON (or CSV,
    or Parquet). Killed at any moment, the same command goes on where it was.
    """
    note: Note = (lambda text: None) if talk.quiet else streams.note
    names = inputs or ["-"]
    _check_record(record, settings)
    wording = _wording(settings)
    rows = sources.rows(names, reading, streams.stdin_bytes())
    with render.waiting(f"looking for {load.model or 'the model'}", talk.quiet) as progress:
        identity = identify(load, progress)
    before = _before(settings)
    work = Work(
        load=load,
        sampling=seeded(sampling, before),
        on_overflow=settings.on_overflow,
        wording=wording,
        batch_size=settings.size,
    )
    beams = sampling.num_beams > 1
    opened = _opener(load, beams, talk, note)
    if settings.dry_run:
        return _rehearse(rows, work, width_of(settings, work.load, identity), opened)
    tally = Tally(total=None if talk.quiet else _total(names, reading))
    with ExitStack() as stack:
        stack.enter_context(closing(rows))  # type: ignore[type-var]
        if not is_stream(settings.output) and not talk.quiet:
            stack.enter_context(signals.cleaning(lambda: streams.note(GO_ON)))
        journal = _journal(stack, names, reading, settings, work, identity)
        if isinstance(journal, Journal) and journal.recovered and not journal.complete:
            note(f"{settings.output}: going on after {journal.recovered} rows")
        watch = stack.enter_context(_progress(talk.quiet))
        taken = recording(record, "batch", load, settings.force, settings.output)
        note_down = stack.enter_context(taken)
        place = _place(
            work,
            identity,
            settings,
            lambda slots: note_down(opened(slots), slots, beams),
            talk.verbose,
        )
        run(rows, journal, place, tally, settings.max_failures, watch)
        tally.failed = journal.failed
    note(f"done: {tally.line()}" + ("" if is_stream(settings.output) else f"; {settings.output}"))
    _summarize(settings, tally, work)
    return ExitCode.PARTIAL if tally.failed else ExitCode.OK


def _check_record(record: Record, settings: Batch) -> None:
    """Raises UsageError where the rows are not computed in this process."""
    if record.record is not None and (settings.workers > 1 or settings.runner == "ray"):
        why = "other processes compute the rows"
        hint = "Leave it out: the file beside the output says what it was made from."
        raise UsageError("--record", why, hint)


def _total(names: list[str], reading: Reading) -> int | None:
    """How many rows there are, where reading the input twice costs little: for the time left."""
    size = sources.size(names, reading)
    if size is None or size > COUNTED:
        return None
    with closing(sources.rows(names, reading, None)) as rows:  # type: ignore[type-var]
        return sum(row is not None for row in rows)


def _wording(settings: Batch) -> Wording | None:
    """The task that is named, with its options. Raises UsageError, BadTask."""
    if settings.task is None:
        return None
    task = catalog.find(settings.task)
    return worded(task, chosen(task, parsed(task, settings.set)), settings.example)


def _before(settings: Batch) -> Manifest | None:
    """What the output that is there was made from, if it is to be gone on with."""
    if is_stream(settings.output) or settings.force:
        return None
    return former(Path(settings.output))


def _journal(
    stack: ExitStack,
    names: list[str],
    reading: Reading,
    settings: Batch,
    work: Work,
    identity: Identity,
) -> Journal | Stream:
    """The open output."""
    if is_stream(settings.output):
        out = stack.enter_context(sink.opened(Output(output=settings.output)))
        return stack.enter_context(Stream(out.write))
    manifest = manifest_of(sources.fingerprint(names, reading), reading, work, identity)
    path = Path(settings.output)
    if settings.retry_failed:
        journal = open_retry(path, manifest, fsync=settings.fsync)
    elif settings.allow_changed_input:
        journal = open_changed(path, manifest, fsync=settings.fsync)
    else:
        journal = open_journal(
            path, manifest, resume=settings.resume, force=settings.force, fsync=settings.fsync
        )
    return stack.enter_context(journal)


def _place(work: Work, identity: Identity, settings: Batch, opened: Opener, verbose: bool) -> Place:
    """Where rows are computed."""
    if settings.runner == "ray":
        from gptcli.batch import cluster

        return cluster.place(work, settings.address, identity.most, verbose)
    if settings.workers > 1:
        from gptcli.batch import workers

        return workers.place(work, settings.workers, identity.most)
    found = width_of(settings, work.load, identity)
    return here(lambda: opened(found.most), work, found)


def _opener(load: Load, beams: bool, talk: Talk, note: Note) -> Opener:
    """What opens the engine with as many slots as it is told, and says what there is to say."""

    def opened(slots: int) -> Engine:
        with render.waiting(f"loading {load.model or 'the model'}", talk.quiet) as progress:
            engine = engines.open_engine(load, slots, beams, progress)
        for notice in engine.info.notices:
            note(notice)
        return engine

    return opened


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[Tally], None]]:
    """Show how far it is: on a terminal all the time, else in a line every now and then."""
    if quiet:
        yield lambda tally: None
        return
    with render.status() as show:
        due = monotonic() + EVERY

        def watch(tally: Tally) -> None:
            nonlocal due
            if show is not None:
                show(tally.line())
            elif monotonic() >= due:
                due = monotonic() + EVERY
                streams.note(tally.line())

        yield watch


def _rehearse(rows: Rows, work: Work, found: Width, opened: Opener) -> int:
    """Write what a dry run finds."""
    forecast = rehearse(rows, work, lambda: opened(found.most), found)
    with sink.opened(Output()) as out:
        out.write(json.dumps(forecast.to_dict(), indent=2) + "\n")
    return ExitCode.OK


def _summarize(settings: Batch, tally: Tally, work: Work) -> None:
    """Write the summary, if it is asked for."""
    if settings.summary is not None:
        shown = {**tally.to_dict(), "output": settings.output, "seed": work.sampling.seed}
        with sink.opened(Output(output=settings.summary, force=True)) as out:
            out.write(json.dumps(shown, indent=2) + "\n")
