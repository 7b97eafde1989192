"""What runs on a Ray cluster: the feed that has the rows, the engines, and the dataset between.

A row of the dataset is a block of our rows, in one cell of bytes; so is its result. The feed is an
actor on the program's own node. It gives out blocks by number, so that a task which Ray runs again
gets the same block. It also counts how often work on a block began: a block that began before is
computed row by row, which shows the row that kills its actor. Not here: the program's side is in
`gptcli.batch.run.cluster`.
"""

from __future__ import annotations

import asyncio
import importlib
import pickle
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from traceback import format_exc
from typing import Any

from gptcli import __version__
from gptcli.batch.input.row import Row
from gptcli.batch.run.child import Failed, Orders, opened
from gptcli.batch.run.work import Done, answered
from gptcli.errors import GptcliError, Unavailable
from gptcli.ray_cluster import Pool, check_version

MAX_TRIES_ALONE = 2  # of a row that was in a block which was not finished


class Feed:
    """The actor that holds the blocks under way, and counts what was begun."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytes | None] = {}  # pickled rows; None is the end
        self._begun: Counter[str] = Counter()
        self._new = asyncio.Condition()
        self._taken = 0  # blocks so far

    async def put(self, number: int, block: bytes | None) -> None:
        """Take a block."""
        async with self._new:
            self._blocks[number] = block
            self._taken = max(self._taken, number + 1)
            self._new.notify_all()

    async def get(self, number: int) -> bytes | None:
        """Wait for a block and return it; an empty one if the block was dropped."""
        async with self._new:
            await self._new.wait_for(lambda: number < self._taken)
            return self._blocks.get(number, b"")

    async def forget(self, number: int) -> None:
        """Drop a block: its answers have arrived."""
        self._blocks.pop(number, None)

    async def begun(self, what: str) -> int:
        """Count a start of the work on a block or row; returns how many starts there were."""
        self._begun[what] += 1
        return self._begun[what]

    async def survived(self, what: str) -> None:
        """Forget the starts of work that finished: it did not kill its actor."""
        del self._begun[what]


class Answers:
    """The actor that holds an engine: `map_batches` calls it with a block of rows."""

    def __init__(self, orders: Orders, feed: Any, name: str | None, version: str) -> None:
        self._work, self._feed, self._name = orders.work, feed, name
        self._failed: Failed | None = None
        try:
            check_version(version)
            self._engine, self._width = opened(orders)
        except GptcliError as error:
            self._failed = Failed(error)

    def __call__(self, table: Any) -> Any:
        """From a table of one cell, a block, to another: its answers, or Failed."""
        pyarrow = importlib.import_module("pyarrow")
        number, rows = pickle.loads(table.column("block")[0].as_py())
        answer = pickle.dumps((number, self._failed or self._answers(number, rows)))
        return pyarrow.table({"answer": pyarrow.array([answer], pyarrow.large_binary())})

    def _answers(self, number: int, rows: list[Row]) -> list[Done] | Failed:
        try:
            if self._begun(f"block {number}") == 1:
                return list(self._computed(rows))
            return [done for row in rows for done in self._by_itself(row)]
        except GptcliError as error:
            return Failed(error)
        except Exception:  # a bug, which the program shows
            return Failed(None, format_exc())

    def _computed(self, rows: list[Row]) -> Iterator[Done]:
        for done in answered(self._engine, self._work, iter(rows), self._width):
            if self._name is None:
                yield done
            else:  # as it was asked for, and not by its folder's full path
                yield replace(done, record={**done.record, "model": self._name})

    def _by_itself(self, row: Row) -> list[Done]:
        """The answer to a row computed alone; an error where it has killed often enough."""
        what = f"row {row.number}"
        if self._begun(what) > MAX_TRIES_ALONE:
            why = f"its worker died each of the {MAX_TRIES_ALONE + 1} times that it was computed"
            hint = "Try it again with --retry-failed and a smaller --batch-size."
            row = replace(row, error=Unavailable(f"row {row.id}", why, hint))
        done = list(self._computed([row]))
        if row.error is None:
            self._survived(what)
        return done

    def _begun(self, what: str) -> int:
        ray = importlib.import_module("ray")
        return int(ray.get(self._feed.begun.remote(what)))

    def _survived(self, what: str) -> None:
        self._feed.survived.remote(what)


def dataset(ray: Any, feed: Any, orders: Orders, pool: Pool, name: str | None) -> Any:
    """The dataset: blocks as they come from the feed, and then what the actors make of them.

    With a `name` the model is called so in the records.
    """
    pyarrow = importlib.import_module("pyarrow")
    block: Any = importlib.import_module("ray.data.block")

    def blocks() -> Iterator[Any]:
        number = 0
        while (rows := ray.get(feed.get.remote(number))) is not None:
            if rows:
                yield pyarrow.table({"block": pyarrow.array([rows], pyarrow.large_binary())})
            number += 1

    class Blocks(ray.data.Datasource):  # type: ignore[misc]
        supports_distributed_reads = False  # beside the feed, on the program's node

        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: object = None, data_context: object = None
        ) -> list[Any]:
            unknown = block.BlockMetadata(None, None, input_files=None, exec_stats=None)
            return [ray.data.ReadTask(blocks, unknown)]

    source = ray.data.read_datasource(Blocks(), override_num_blocks=1, num_cpus=0)
    source.context.enable_progress_bars = False
    source.context.print_on_execution_start = False
    source.context.target_max_block_size = 1  # bytes: no row of the dataset is put to another
    # Actors are started again, and their calls repeated, as often as it takes: Ray Data's default.
    return source.map_batches(
        Answers,
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=pool.count, max_tasks_in_flight_per_actor=2),
        fn_constructor_args=(orders, feed, name, __version__),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
