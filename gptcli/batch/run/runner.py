"""A batch from its first row to its last: what is computed, in order, into an output that lasts.

Everything that can be refused is refused before a model is loaded. Not here: the choice of input,
output and runner is in `gptcli.batch.api`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from time import perf_counter, sleep

from gptcli import __version__
from gptcli.batch.input.changes import InputChanged
from gptcli.batch.input.fingerprints import Fingerprint
from gptcli.batch.input.row import Row
from gptcli.batch.options import Batch, BatchInput
from gptcli.batch.output.journal import Journal
from gptcli.batch.output.manifest import RunManifest, read_manifest
from gptcli.batch.output.output_files import creating, locate
from gptcli.batch.output.stream import Stream
from gptcli.batch.output.tables import shape_of
from gptcli.batch.run.identity import Identity
from gptcli.batch.run.order import ROUNDS_AHEAD, RowWindow
from gptcli.batch.run.tally import Tally
from gptcli.batch.run.width import Width, width
from gptcli.batch.run.work import Done, Work, answered
from gptcli.checkpoints.adapters.opened import content_of
from gptcli.errors import GptcliError, TooManyFailures
from gptcli.moderation.told import identity as identity_of_filter
from gptcli.options import Load, Sampling
from gptcli.protocol import Engine
from gptcli.system.units import counted
from gptcli.tasks.prompts import Wording

Rows = Iterator[Row | None]
IDLE_SECONDS = 0.01  # seconds between two looks for the first row


def seeded(sampling: Sampling, before: RunManifest | None) -> Sampling:
    """The settings with a seed: the one given, the output's, or one that is drawn."""
    if sampling.seed is not None:
        return sampling
    kept = before.settings.get("seed") if before else None
    return replace(sampling, seed=kept if isinstance(kept, int) else secrets.randbits(32))


def former(output: Path) -> RunManifest | None:
    """What an output that is there was made from.

    Raises BadInput for a manifest that is broken; as `creating` for one that cannot be read.
    """
    files = locate(output, hidden=shape_of(output) != "jsonl")
    with creating(files.name):
        return read_manifest(files.manifest)


def manifest_of(
    inputs: tuple[Fingerprint, ...], reading: BatchInput, work: Work, identity: Identity
) -> RunManifest:
    """Everything that a row's text depends on: what may not change when a batch goes on.

    Raises BadModel and MissingInput for the model's files.
    """
    sampling = {name: value for name, value in asdict(work.sampling).items() if value is not None}
    settings: dict[str, object] = {**asdict(reading), **sampling}
    settings |= {"on_overflow": work.on_overflow, "dtype": work.load.dtype}
    settings |= identity_of_filter(work.load)
    if work.wording is not None:
        settings |= _of_task(work.wording)
    return RunManifest(
        version=__version__,
        inputs=inputs,
        settings=settings,
        model=identity.name,
        revision=identity.revision,
        files=content_of(identity.folder, identity.adapters, identity.name)
        if identity.folder
        else {},
    )


def _of_task(wording: Wording) -> Mapping[str, object]:
    """The task as it is worded: its options, and what its file says."""
    file = {name: value for name, value in asdict(wording.task).items() if name != "source"}
    return {
        "task": wording.task.name,
        "task_options": dict(wording.chosen),
        "task_examples": [list(shot) for shot in wording.shots],
        "task_file": repr(sorted(file.items())),
    }


@dataclass(frozen=True)
class Runner:
    """Where rows are computed: gives their records as they are finished."""

    compute: Callable[[Rows], Generator[Done, None, None]]
    at_a_time: int  # rows that are computed at the same time


def here(opened: Callable[[], Engine], work: Work, found: Width) -> Runner:
    """In this process; the engine is opened when there is a row to compute."""
    return Runner(lambda rows: answered(opened(), work, rows, found), found.most)


def run(
    rows: Rows,
    journal: Journal | Stream,
    runner: Runner,
    tally: Tally,
    max_failures: int | None = None,
    watch: Callable[[Tally], object] = lambda tally: None,
) -> None:
    """Compute the rows that are not there yet and write them in order; `watch` sees each one.

    Raises TooManyFailures, what the reading of rows, the runner and the journal raise; what is
    written stays, and the same batch goes on from there. Where reading fails, the rows before it
    are written first.
    """
    reading = _Reading(rows)
    window = RowWindow(journal, ROUNDS_AHEAD * runner.at_a_time)
    tally.kept = journal.recovered
    wanted = window.rows(reading.rows())
    first = _first(wanted)
    if first is not None:
        with closing(runner.compute(chain([first], wanted))) as finished:
            tally.started = perf_counter()  # loading the model says nothing of speed
            for done in window.ordered(finished):
                journal.append(done.row, done.record)
                tally.add(done)
                watch(tally)
                _refuse(tally, max_failures)
    reading.check(window.skipped + tally.rows, resumable=isinstance(journal, Journal))
    journal.finish()
    tally.kept = window.skipped  # of a changed input nobody knew before how many stay


class _Reading:
    """Rows up to an error in reading them, which waits until those under way are written."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._error: GptcliError | None = None

    def rows(self) -> Rows:
        """The rows that can be read."""
        try:
            yield from self._rows
        except GptcliError as error:
            self._error = error

    def check(self, written: int, resumable: bool) -> None:
        """Raise what ended the reading."""
        if isinstance(self._error, InputChanged):
            raise self._error.after(written, resumable)
        if self._error is not None:
            raise self._error


def _refuse(tally: Tally, max_failures: int | None) -> None:
    """Raise TooManyFailures where more rows failed than may."""
    if max_failures is not None and tally.failed > max_failures:
        raise TooManyFailures(
            f"{counted(tally.failed, 'row')} failed",
            f"--max-failures allows {max_failures}",
            "See the errors in the output; the same command goes on after them.",
        )


def _first(rows: Rows) -> Row | None:
    """The first row that has to be computed: without one no model is loaded."""
    for row in rows:
        if row is not None:
            return row
        sleep(IDLE_SECONDS)
    return None


def width_of(settings: Batch, load: Load, identity: Identity) -> Width:
    """How many sequences are computed at a time; a server finds that out itself."""
    size = settings.size or (identity.most if load.server is not None else None)
    return width(size, identity.most)
