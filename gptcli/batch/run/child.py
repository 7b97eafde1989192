"""What a worker does: it loads the model, answers the rows that it gets, and sends records back.

A worker is a process on the other end of a socket, or an actor in a cluster; both share this code.
A process reads its socket in a thread. So it ends at once when its parent ends, whatever it is
computing. Not here: who gets which
row, and the rows of a worker that died, are in `gptcli.batch.run.workers`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from threading import Thread
from traceback import format_exc

from gptcli.batch.input.row import Row
from gptcli.batch.run.width import Width, width
from gptcli.batch.run.work import Done, Work, answered
from gptcli.checkpoints.adapters.opened import inspect_adapted
from gptcli.checkpoints.resolve import Progress, resolve
from gptcli.engines import open_engine
from gptcli.errors import GptcliError
from gptcli.protocol import Engine


@dataclass(frozen=True)
class Orders:
    """Sent to a worker first: what is done with rows, at most so many sequences at a time."""

    work: Work
    most: int


@dataclass(frozen=True)
class Flush:
    """Sent to a worker: no row follows for now, so give out what is held back."""


@dataclass(frozen=True)
class Ready:
    """Sent by a worker: the model is loaded; `limit` sequences are computed at a time."""

    limit: int


@dataclass(frozen=True)
class RowDone:
    """Sent by a worker: a row is done."""

    done: Done
    limit: int


@dataclass(frozen=True)
class Failed:
    """Sent by a worker: nothing more comes, because of an error or else a bug, with its trace."""

    error: GptcliError | None
    trace: str = ""


def pinned(work: Work, progress: Progress = None) -> Work:
    """The same work for others to do: its model is found and checked, and means one commit.

    What has to be downloaded is, once, and what is wrong with the model is known before a process
    is started. Raises as `gptcli.engines.open_engine` does, but for the device.
    """
    if work.load.server is not None:
        return work
    found = resolve(work.load, progress)
    inspect_adapted(*found.parts)
    model = None if found.adapters else work.load.model
    return replace(work, load=found.pinned(work.load, model))


def opened(orders: Orders) -> tuple[Engine, Width]:
    """The engine that the work needs, and how many sequences it computes at a time.

    Raises as `gptcli.engines.open_engine` does.
    """
    load, size, most = orders.work.load, orders.work.batch_size, orders.most
    if size is None and load.server is not None:  # a server finds its own width
        size = most
    work = orders.work
    beams, text = work.sampling.num_beams > 1, work.wording is not None
    engine = open_engine(load, size or most, beams=beams, text=text)
    return engine, width(size, most)


def serve(descriptor: int) -> None:
    """Be a worker on this end of a socket: first come Orders, then Rows and Flushes."""
    connection: Connection[object, object] = Connection(descriptor)
    with suppress(EOFError, OSError):  # the parent has ended, and so does this
        orders = connection.recv()
        assert isinstance(orders, Orders)
        connection.send(_served(connection, orders))


def _served(connection: Connection[object, object], orders: Orders) -> Failed:
    """Answer rows until that fails."""
    inbox = _Inbox(connection)
    try:
        engine, wide = opened(orders)
        connection.send(Ready(wide.limit))
        while True:
            for done in answered(engine, orders.work, inbox.rows(), wide):
                inbox.under_way -= 1
                connection.send(RowDone(done, wide.limit))
    except GptcliError as error:
        return Failed(error)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception:  # a bug, which the parent shows: here there is nobody to show it to
        return Failed(None, format_exc())


class _Inbox:
    """The rows that were sent, read from the socket as they come."""

    def __init__(self, connection: Connection[object, object]) -> None:
        self.under_way = 0  # rows that were taken and are not answered
        self._connection = connection
        self._queue: SimpleQueue[object] = SimpleQueue()
        Thread(target=self._receive, name="inbox", daemon=True).start()

    def _receive(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._queue.put(self._connection.recv())
        os._exit(0)  # also while a token is being computed: nobody waits for it any more

    def rows(self) -> Iterator[Row | None]:
        """Rows, to the next Flush that none follows; None while there is none but work to do."""
        while True:
            try:
                message = self._queue.get(block=not self.under_way)
            except Empty:
                yield None
                continue
            if isinstance(message, Row):
                self.under_way += 1
                yield message
            elif self._queue.empty():
                return
