"""`gptcli batch`: many prompts from files, answered by one engine, written durably in order.

The command only shows what happens, on a terminal or in lines, and gives the exit code: 3 where
rows failed. What is done is `gptcli.batch.run_batch`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Annotated, Any

import typer

from gptcli.batch.api import Frame, Send, Substitute, forecast_batch, run_batch
from gptcli.batch.options import Batch, BatchInput
from gptcli.batch.output.stream import is_stream
from gptcli.batch.run.tally import BatchResult, Tally
from gptcli.cli import signals
from gptcli.cli.completion import candidates
from gptcli.cli.declaration import command
from gptcli.cli.output import render, sink, stderr
from gptcli.cli.recording import recording
from gptcli.cli.session import Session
from gptcli.errors import ExitCode, UsageError
from gptcli.options import Load, Output, Record, Sampling, Talk
from gptcli.options.moderation import ModeratedLoad
from gptcli.tasks.definition import catalog

SECONDS_BETWEEN_LINES = 10.0  # of progress, where there is no terminal
GO_ON = "stopped; the same command goes on where it was"


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
    reading: BatchInput,
    settings: Batch,
    load: ModeratedLoad,
    sampling: Sampling,
    record: Record,
    talk: Talk,
) -> int:
    """Answer many prompts from files, durably.

    Every row of the input gives a row of the output, in the same order, as a line of JSON (or CSV,
    or Parquet). Killed at any moment, the same command goes on where it was.
    """
    session = Session.of(talk)
    _check_record(record, settings)
    note = None if talk.quiet else session.note
    progress = None if talk.quiet else _Progress()

    @contextmanager
    def computing() -> Iterator[Substitute]:
        taken = recording(record, "batch", load, settings.force, settings.output)
        with ExitStack() as stack:
            if progress is not None:
                stack.enter_context(progress.shown())
            yield stack.enter_context(taken)

    frame = Frame(
        stdin=session.stdin,
        waiting=session.waiting,
        computing=computing,
        own=(record.record,) if record.record is not None else (),
        verbose=talk.verbose,
    )
    names = inputs or []
    if "-" in names and session.stdin is not None and session.stdin.isatty() and note is not None:
        note("reading rows from the terminal, one a line; Ctrl-D ends them")
    if settings.dry_run:
        return _forecast(names, settings, reading, load, sampling, talk, frame)
    with _output(settings, talk) as output:
        done = run_batch(
            names,
            output,
            batch=settings,
            reading=reading,
            load=load,
            sampling=sampling,
            watch=progress,
            note=note,
            frame=frame,
        )
    if note is not None:
        note(f"done: {done.line}" + (f"; {done.output}" if done.output else ""))
    _summarize(settings, done)
    return ExitCode.PARTIAL if done.failed else ExitCode.OK


def _check_record(record: Record, settings: Batch) -> None:
    """Raises UsageError where the rows are not computed in this process."""
    if record.record is not None and (settings.workers > 1 or settings.runner == "ray"):
        why = "other processes compute the rows"
        hint = "Leave it out: the file beside the output says what it was made from."
        raise UsageError("--record", why, hint)


@contextmanager
def _output(settings: Batch, talk: Talk) -> Iterator[str | Send]:
    """The output's file, or what writes to standard output, a pipe or a device."""
    with ExitStack() as stack:
        if is_stream(settings.output):
            yield stack.enter_context(sink.opened(Output(output=settings.output))).write
            return
        if not talk.quiet:
            stack.enter_context(signals.cleaning(lambda: stderr.note(GO_ON)))
        yield settings.output


class _Progress:
    """How far it is: on a terminal all the time, else in a line every now and then."""

    def __init__(self) -> None:
        self._show: Callable[[str], None] | None = None
        self._due = 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it inside the block."""
        with render.status() as self._show:
            self._due = monotonic() + SECONDS_BETWEEN_LINES
            yield

    def __call__(self, tally: Tally) -> None:
        """A row was written."""
        if self._show is not None:
            self._show(tally.line())
        elif monotonic() >= self._due:
            self._due = monotonic() + SECONDS_BETWEEN_LINES
            stderr.note(tally.line())


def _forecast(
    names: list[str],
    settings: Batch,
    reading: BatchInput,
    load: Load,
    sampling: Sampling,
    talk: Talk,
    frame: Frame,
) -> int:
    """Write what a dry run finds."""
    found = forecast_batch(
        names,
        settings.output,
        batch=settings,
        reading=reading,
        load=load,
        sampling=sampling,
        note=None if talk.quiet else stderr.note,
        frame=frame,
    )
    with sink.opened(Output()) as out:
        out.write(json.dumps(found.to_dict(), indent=2) + "\n")
    return ExitCode.OK


def _summarize(settings: Batch, done: BatchResult) -> None:
    """Write the summary, if it is asked for."""
    if settings.summary is not None:
        shown = {**done.to_dict(), "output": settings.output}
        with sink.opened(Output(output=settings.summary, force=True)) as out:
            out.write(json.dumps(shown, indent=2) + "\n")
