"""More than one process on this machine: each has its own engine and takes rows as it has room.

A worker that dies, mostly for lack of memory, is replaced. Its rows are computed again: once
together, then each alone, which shows the row that kills a worker. The parent never imports
torch. Not here: the processes themselves are in `gptcli.batch.run.processes`,
other machines in `gptcli.batch.run.cluster`.
"""

from __future__ import annotations

import subprocess
from collections import Counter, deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait

from gptcli.batch.input.row import Row
from gptcli.batch.run.child import Failed, Orders, Ready, RowDone, pinned
from gptcli.batch.run.processes import Worker, fate, shared, started
from gptcli.batch.run.runner import Runner
from gptcli.batch.run.work import Done, Work
from gptcli.checkpoints.resolve import Progress
from gptcli.errors import Unavailable

MAX_RETRIES = 2  # of a row whose worker died
MAX_STILLBORN_WORKERS = (
    3  # workers that die in a row before they are ready; then no more are started
)
MAX_WORKER_WIDTH = 16  # sequences at a time in a worker, where nothing else is said
IDLE_SECONDS = 0.02  # between two looks for a row where there was none


def runner(work: Work, count: int, most: int) -> Runner:
    """`count` processes as a runner; `most` sequences fit the memory of this machine."""
    each = max(1, most // count)
    return Runner(lambda rows: answered(work, rows, count, each), count * (work.batch_size or each))


def answered(
    work: Work,
    rows: Iterator[Row | None],
    count: int,
    most: int = MAX_WORKER_WIDTH,
    progress: Progress = None,
) -> Generator[Done, None, None]:
    """The records of all rows, computed by `count` processes, in the order they are finished.

    As `gptcli.batch.run.work.answered`, with the same texts: rows are pulled when a worker has
    room, about twice what it computes at a time, which is at most `most` sequences; None stands for
    "none right now". A row whose worker dies each of three times has an error, Unavailable, in its
    record. Raises what a worker cannot start for, as `open_engine` would here, and Unavailable
    where workers die while they start. No process is left when the iterator ends or is closed.
    """
    orders = Orders(shared(pinned(work, progress), count), most)
    crew = _Crew(orders, rows, count)
    try:
        yield from crew.run()
    finally:
        crew.close()


class _Crew:
    """The workers, and the rows that none of them has."""

    def __init__(self, orders: Orders, rows: Iterator[Row | None], count: int) -> None:
        self._orders, self._count = orders, count
        self._rows: Iterator[Row | None] | None = rows
        self._workers: list[Worker] = []
        self._again: deque[Row] = deque()
        self._alone: deque[Row] = deque()  # to be computed with no other in the same worker
        self._deaths: Counter[int] = Counter()  # of workers that had this row
        self._given_up: dict[int, Row] = {}  # rows, as they were, that are sent with an error
        self._stillborn, self._fate = 0, ""
        self._starved = False  # whether there was no row right now

    def run(self) -> Generator[Done, None, None]:
        """Everything, as it is finished."""
        first = self._next()  # where there is none, no process is needed
        if first:
            self._again.append(first)
        while True:
            self._hand_out()
            if not self._left and not any(worker.rows for worker in self._workers):
                return
            self._staff()
            if not self._left:
                self._flush()
            heard = wait(
                [w.connection for w in self._workers], IDLE_SECONDS if self._starved else None
            )
            if not heard:  # nothing comes and nothing goes
                self._flush()
            for worker in [w for w in self._workers if w.connection in heard]:
                yield from self._hear(worker)

    def close(self) -> None:
        """End all workers; what they were computing is lost."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()
        for worker in self._workers:
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(2)
        self._workers = []

    @property
    def _left(self) -> bool:
        """Whether there may be rows that no worker has."""
        return bool(self._rows or self._again or self._alone)

    def _flush(self) -> None:
        """A task's answer is held back until the next is there, and none may be coming."""
        if self._orders.work.wording:
            for worker in self._workers:
                worker.flush()

    def _hand_out(self) -> None:
        """Give rows to whoever has most room; none but those that must be alone, if there are."""
        self._starved = False
        for worker in self._workers:
            if self._alone and worker.ready and not worker.rows:
                worker.give(self._alone.popleft(), alone=True)
                worker.flush()
        while not self._alone and self._workers:
            worker = max(self._workers, key=lambda worker: worker.free)
            row = self._next() if worker.free > 0 else None
            if row is None:
                return
            worker.give(row)

    def _next(self) -> Row | None:
        """A row that no worker has, if there is one now."""
        if self._again:
            return self._again.popleft()
        if self._rows is None:
            return None
        try:
            row = next(self._rows)
        except StopIteration:
            self._rows = None
            return None
        self._starved = row is None
        return row

    def _staff(self) -> None:
        """Start the workers that are missing, while there is something for them to do."""
        taken = {worker.place for worker in self._workers}
        for place in range(self._count):
            if place not in taken and self._left and self._stillborn < MAX_STILLBORN_WORKERS:
                self._workers.append(started(place, self._orders))
        if not self._workers:
            raise Unavailable("workers", self._fate, "Try fewer --workers, or a smaller model.")

    def _hear(self, worker: Worker) -> Generator[Done, None, None]:
        """Take one message of a worker, or note its death."""
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if isinstance(message, Failed):
            raise message.error or RuntimeError(f"a worker failed\n\n{message.trace}")
        assert isinstance(message, Ready | RowDone)
        if not worker.ready:
            worker.ready, self._stillborn = True, 0
        each = self._orders.work.sampling.num_return_sequences
        worker.room = max(2, 2 * message.limit // each)
        if isinstance(message, RowDone):
            row = worker.rows.pop(message.done.row.number)
            del self._deaths[row.number]
            yield replace(message.done, row=self._given_up.pop(row.number, row))

    def _bury(self, worker: Worker) -> None:
        """A worker is dead: others get its rows, unless they have killed often enough."""
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.kill()  # in case that only its end of the socket is gone
        self._fate = f"a worker died ({fate(worker.process.wait())})"
        self._stillborn += not worker.ready
        for row in worker.rows.values():
            self._deaths[row.number] += 1
            deaths = self._deaths[row.number]
            if deaths < MAX_RETRIES:
                self._again.append(row)
            elif deaths == MAX_RETRIES:
                self._alone.append(row)
            else:
                self._give_up(row)

    def _give_up(self, row: Row) -> None:
        """Have a row's error made a record by the next worker, as that of any unusable row is."""
        self._given_up.setdefault(row.number, row)
        error = Unavailable(
            f"row {row.id}",
            f"{self._fate} each of the {MAX_RETRIES + 1} times that it was computed",
            "Try it again with --retry-failed and a smaller --batch-size, or --workers 1.",
        )
        self._alone.append(replace(row, error=error))
