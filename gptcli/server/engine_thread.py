"""One engine, in a thread of its own, for the clients of an event loop.

A `ClientJob` is one client's work: an exchange of `gptcli.multiplex`, run on the engine's thread
beside those of all other clients. What it sends comes out on the event loop. While nothing is to be
done the thread sleeps. A job can be cancelled at any time, from the loop: before the engine saw it,
in its prompt, or while it writes; its slots are free at the next step of the engine.

The heartbeat: `stalled` says for how long the engine has not stepped although a job waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import count
from threading import Condition, Thread
from time import monotonic
from typing import Any

from gptcli.errors import Unavailable
from gptcli.multiplex import Exchange, Plan, run_plans
from gptcli.protocol import Engine, Request

LOG = logging.getLogger("gptcli.server")
Send = Callable[[Any], None]
Begin = Callable[[Send, Iterator[str]], Exchange[None]]
"""(what sends an item to the client, ids for requests) -> the exchange."""
END = object()


class ClientJob:
    """One client's work, see `EngineThread.submit`.

    tokens: an estimate of what waits with it, for limits of the queue.
    """

    def __init__(self, begin: Begin, tokens: int = 0) -> None:
        self.begin, self.tokens = begin, tokens
        self.submitted = monotonic()
        self.started: float | None = None  # when the engine pulled its first request
        self.cancelled = False
        self.ids: list[str] = []  # of the requests that the engine pulled
        self.done = False
        self._items: deque[Any] = deque()
        self._arrived = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many items its client has not read yet."""
        return len(self._items)

    def put(self, item: Any) -> None:
        """On the loop: an item for the client."""
        self._items.append(item)
        self._arrived.set()

    async def items(self) -> AsyncIterator[list[Any]]:
        """What was sent, as much at a time as is there; ends with the job.

        Raises what ended the job otherwise.
        """
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            few = list(self._items)
            self._items.clear()
            last = few and few[-1] is END
            failed = next((item for item in few if isinstance(item, BaseException)), None)
            if failed is not None:
                raise failed
            if found := few[:-1] if last else few:
                yield found
            if last:
                return


class EngineThread:
    """Runs jobs over one engine until `close`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.failure: BaseException | None = None  # that ended the thread
        self._loop: asyncio.AbstractEventLoop | None = None
        self._new: deque[ClientJob] = deque()  # not pulled yet
        self._open: set[ClientJob] = set()  # pulled, and not done
        self._changed = Condition()
        self._closing = False
        self._outbox: deque[tuple[ClientJob, Any]] = deque()
        self._woken = False
        self._stepped = monotonic()
        self._ids = count(1)
        self._thread = Thread(target=self._work, name="gptcli-engine", daemon=True)

    # --- on the event loop

    def start(self) -> None:
        """Begin to work; the running event loop gets what jobs send."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(self, job: ClientJob) -> ClientJob:
        """Queue a job. Raises Unavailable where the thread has ended."""
        if self.failure is not None or self._closing:
            raise Unavailable("the engine", "it has stopped", "Start the server again")
        with self._changed:
            self._new.append(job)
            self._changed.notify()
        return job

    def cancel(self, job: ClientJob) -> None:
        """End a job, wherever it is; nothing more of it arrives."""
        if job.done or job.cancelled:
            return
        job.cancelled = True
        with self._changed:
            if job in self._new:
                self._new.remove(job)
                job.done = True
                return
        for id in list(job.ids):
            self.engine.cancel(id)

    @property
    def queued(self) -> int:
        """How many jobs the engine has not begun."""
        return len(self._new) + sum(job.started is None for job in list(self._open))

    @property
    def queued_tokens(self) -> int:
        """The tokens of the jobs that the engine has not begun."""
        waiting = [*self._new, *(job for job in list(self._open) if job.started is None)]
        return sum(job.tokens for job in waiting)

    @property
    def running(self) -> int:
        """How many jobs the engine has begun."""
        return sum(job.started is not None for job in list(self._open))

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive() and self.failure is None

    @property
    def stalled(self) -> float:
        """Seconds since the engine last stepped, while any job is there; else 0."""
        jobs = [*self._new, *self._open]
        if not jobs:
            return 0.0
        oldest = min(job.submitted for job in jobs)
        return max(monotonic() - max(self._stepped, oldest), 0.0)

    def close(self, wait: float | None = None) -> None:
        """End the thread once its jobs are done; cancel those that are there first."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(wait)

    def _hand_out(self) -> None:
        self._woken = False
        while self._outbox:
            job, item = self._outbox.popleft()
            if item is END:
                job.done = True
            job.put(item)

    # --- on the engine's thread

    def _work(self) -> None:
        try:
            while self._wait():
                try:
                    for _ in run_plans(self.engine, self._plans(), in_order=False, fair=True):
                        pass
                except Exception as error:
                    LOG.exception("the engine failed")
                    self._abandon(error)
        except BaseException as error:
            self.failure = error
            self._abandon(error)

    def _wait(self) -> bool:
        """Sleep until there is a job; False at the end."""
        with self._changed:
            while not self._new and not self._closing:
                self._changed.wait()
            return bool(self._new)

    def _plans(self) -> Iterator[Plan[None] | None]:
        """The jobs; None while others are under way, the end once there are none."""
        while True:
            self._stepped = monotonic()
            with self._changed:
                job = self._new.popleft() if self._new else None
                if job is not None:
                    self._open.add(job)
            if job is not None:
                yield Plan(self._exchange(job), stopped=lambda job=job: job.cancelled)  # type: ignore[misc]
            elif self._open:
                yield None
            else:
                return

    def _exchange(self, job: ClientJob) -> Exchange[Iterable[None]]:
        """A job's exchange; whatever ends it ends this job alone."""
        try:
            exchange = job.begin(lambda item: self._send(job, item), map(str, self._ids))
            asked: Iterable[Request] = next(exchange)
            while not job.cancelled:
                event = yield self._pulled(job, asked) if asked else ()
                self._stepped = monotonic()
                if not job.cancelled:
                    asked = exchange.send(event)
        except StopIteration:
            pass
        except Exception as error:
            for id in job.ids:  # of its other requests
                self.engine.cancel(id)
            self._send(job, error)
        finally:
            self._open.discard(job)
            self._send(job, END)
        return ()

    def _pulled(self, job: ClientJob, requests: Iterable[Request]) -> Iterator[Request]:
        """The requests, as the engine pulls them."""
        for request in requests:
            job.ids.append(request.id)
            if job.cancelled:
                return
            if job.started is None:
                job.started = monotonic()
            yield request

    def _send(self, job: ClientJob, item: Any) -> None:
        self._outbox.append((job, item))
        if not self._woken and self._loop is not None:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._hand_out)
            except RuntimeError:  # the loop is closed: nobody listens any more
                self._outbox.clear()

    def _abandon(self, error: BaseException) -> None:
        """Tell the jobs that the engine failed."""
        with self._changed:
            jobs = [*self._open, *self._new]
            self._open.clear()
            self._new.clear()
        for job in jobs:
            self._send(job, error if isinstance(error, Exception) else RuntimeError(str(error)))
            self._send(job, END)
