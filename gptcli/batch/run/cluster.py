"""More than one machine: the rows are a Ray dataset, and the engines are actors of its pool.

The program itself reads the rows, as without Ray, and hands them to the cluster in blocks of a few
dozen; a row of the dataset is such a block. So standard input, a resumed run and local files all
work. Only a model's own folder needs a shared file system. However long the input is, only a few
blocks for each actor are under way. The feed, an actor on the program's own node, gives out blocks
by number, so that a task which Ray runs again gets the same block.

An actor whose node dies is started again on another one, and Ray gives it the same blocks again;
what it had sent is not sent twice. A block that was begun before is computed row by row, so that a
row which kills its actor is told from those beside it. Actors ask for half of the processors that
they use, so that those of a lost node find a place; of GPUs there is no half, and without a spare
one the run ends after a while, to be resumed. Not here: processes on one machine without Ray are
in `gptcli.batch.run.workers`.
"""

from __future__ import annotations

import importlib
import pickle
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any

from gptcli import __version__
from gptcli.batch.input.row import Row
from gptcli.batch.run.actors import Feed, dataset
from gptcli.batch.run.child import Failed, Orders
from gptcli.batch.run.runner import Runner
from gptcli.batch.run.width import FIRST_WIDTH
from gptcli.batch.run.work import Done, Work
from gptcli.batch.run.workers import MAX_WORKER_WIDTH
from gptcli.checkpoints.resolve import Progress
from gptcli.errors import Unavailable
from gptcli.ray_cluster import Pool, alive, arranged, connected, findable, first_line

MAX_ROWS_AT_A_TIME = 1024  # how many sequences a cluster has is known only later
BLOCKS_PER_ACTOR = 3  # under way: one computed, one waiting there, one on its way
ROUNDS_PER_BLOCK = 4  # rows of a block, as a multiple of those computed at a time
LINGER_SECONDS = 0.2  # that a block waits for more rows while others are computed
IDLE_SECONDS = 0.02  # between two looks for a row where there was none
STALL_SECONDS = 120.0  # without a result after a node was lost, until that is an error
AGAIN = "Run the same command again: it goes on from there."


def runner(work: Work, address: str | None, most: int, verbose: bool = False) -> Runner:
    """A cluster as a runner; `most` sequences fit the memory of a machine like this."""
    return Runner(
        lambda rows: answered(work, rows, address, most=most, verbose=verbose), MAX_ROWS_AT_A_TIME
    )


def answered(
    work: Work,
    rows: Iterator[Row | None],
    address: str | None = None,
    actors: int | None = None,
    most: int = MAX_WORKER_WIDTH,
    progress: Progress = None,
    verbose: bool = False,
) -> Generator[Done, None, None]:
    """The records of all rows, computed on a Ray cluster, in the order they are finished.

    As `gptcli.batch.run.work.answered`. `address` is Ray's, `auto` or `HOST:PORT`; without one a
    cluster is started on this machine, and ended with the iterator. By default there is an actor
    for each GPU, else one for each node, or for every `work.load.threads` processors; it computes
    at most `most` sequences at a time. gptcli in the same version must be on every node, and so
    must a model that is a folder. Raises Unavailable where Ray is not installed, not there or
    fails for good, and as `open_engine` would here.
    """
    load, name = findable(work.load, progress)
    with connected(address, verbose) as ray:
        pool = arranged([node["Resources"] for node in alive(ray)], load, actors)
        work = replace(work, load=replace(load, threads=pool.threads))
        run = _Run(ray, Orders(work, most), rows, pool, name)
        try:
            yield from run.results()
        finally:
            run.close()


class _Run:
    """A dataset that is computed while rows are handed to it."""

    def __init__(
        self,
        ray: Any,
        orders: Orders,
        rows: Iterator[Row | None],
        pool: Pool,
        name: str | None,
    ) -> None:
        self._ray, self._pool = ray, pool
        self._rows: Iterator[Row | None] | None = rows
        width = orders.work.batch_size or min(FIRST_WIDTH, orders.most)
        self._wide = max(1, width // orders.work.sampling.num_return_sequences)
        self._block: list[Row] = []  # not handed out yet
        self._since = 0.0  # when the first of it came
        self._sent = 0  # blocks
        self._under_way: dict[int, dict[int, Row]] = {}  # by the number of the block and the row
        self._results: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self._nodes = len(alive(ray))
        near: Any = importlib.import_module("ray.util.scheduling_strategies")
        node = ray.get_runtime_context().get_node_id()
        here = near.NodeAffinitySchedulingStrategy(node, soft=False)
        self._feed = ray.remote(num_cpus=0, scheduling_strategy=here)(Feed).remote()
        data = dataset(ray, self._feed, orders, pool, name)
        self._thread = threading.Thread(
            target=self._compute, args=(data,), name="ray-data", daemon=True
        )

    def results(self) -> Generator[Done, None, None]:
        """Everything, as it is finished."""
        heard = time.monotonic()
        while True:
            starved = self._hand_out()
            if not self._under_way and not self._rows:
                return
            if not self._thread.ident and self._under_way:  # no row: no actor
                self._thread.start()
            try:
                answer = self._results.get(timeout=IDLE_SECONDS if starved else 1.0)
            except Empty:
                self._check(time.monotonic() - heard)
                continue
            heard = time.monotonic()
            yield from self._take(answer)

    def close(self) -> None:
        """End the dataset; what was being computed is lost."""
        self._ray.kill(self._feed)  # nothing is read any more, and so all ends
        if self._thread.ident:
            self._thread.join(5)

    def _compute(self, data: Any) -> None:
        """In a thread of its own, since it blocks; rows are pulled by the caller's."""
        try:
            batches = data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
            for table in batches:
                for cell in table.column("answer"):
                    self._results.put(cell.as_py())
            self._results.put(Unavailable("Ray", "the cluster ended the work early", AGAIN))
        except BaseException as error:  # raised again where the results are awaited
            self._results.put(error)

    def _hand_out(self) -> bool:
        """Hand out blocks while there is room. Whether there was no row right now."""
        starved = False
        while (
            self._rows
            and len(self._under_way) < BLOCKS_PER_ACTOR * self._pool.count
            and not starved
        ):
            few = self._sent < 2 * self._pool.count  # so that all actors have work soon
            starved = self._fill(self._wide if few else ROUNDS_PER_BLOCK * self._wide)
            linger = starved and self._under_way and time.monotonic() - self._since < LINGER_SECONDS
            if self._block and not linger:
                self._send()
        return starved

    def _fill(self, size: int) -> bool:
        """Pull rows up to a full block. Whether there was none right now."""
        while self._rows and len(self._block) < size:
            try:
                row = next(self._rows)
            except StopIteration:
                self._rows = None
                return False
            if row is None:
                return True
            if not self._block:
                self._since = time.monotonic()
            self._block.append(row)
        return False

    def _send(self) -> None:
        number, rows = self._sent, self._block
        self._under_way[number] = {row.number: row for row in rows}
        self._ray.get(self._feed.put.remote(number, pickle.dumps((number, rows))))
        self._sent, self._block = number + 1, []

    def _take(self, answer: bytes | BaseException) -> Generator[Done, None, None]:
        """The answers of a block, once. Raises what ends all."""
        if isinstance(answer, BaseException):
            raise self._in_words(answer) from answer
        number, done = pickle.loads(answer)
        if isinstance(done, Failed):
            raise done.error or RuntimeError(f"an actor failed\n\n{done.trace}")
        rows = self._under_way.pop(number, None)
        if rows is not None:
            self._feed.forget.remote(number)
            for one in done:
                yield replace(one, row=rows[one.row.number])

    def _in_words(self, error: BaseException) -> BaseException:
        """What Ray raised, as an error of ours where it is one of its own."""
        if "No module named 'gptcli" in str(error):
            how = f"Run on every node: pip install 'gptcli[ray]=={__version__}'"
            return Unavailable("Ray cluster", "a node has no gptcli", how)
        if isinstance(error, self._ray.exceptions.RayError):
            return Unavailable("Ray cluster", first_line(error), f"{AGAIN} -v says more.")
        return error

    def _check(self, silent: float) -> None:
        """After a node was lost there may be no place for its actors, and Ray waits for ever."""
        if silent > STALL_SECONDS and len(alive(self._ray)) < self._nodes:
            why = f"a node was lost, and nothing came for {silent:.0f} seconds"
            raise Unavailable("Ray cluster", why, AGAIN)
