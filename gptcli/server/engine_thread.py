"""One engine, in a thread of its own, for the clients of an event loop.

A `ClientJob` is one client's work: an exchange of `gptcli.multiplex`, run on the engine's thread
beside those of all other clients. What it sends comes out on the event loop. While nothing is to be
done the thread sleeps. A job can be cancelled at any time, from the loop: before the engine saw it,
in its prompt, or while it writes; its slots are free at the next step of the engine.

The heartbeat: `stalled` says for how long the engine has not stepped although a job is there. What
is counted is counted under one lock, so that no question walks a list.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import count
from operator import length_hint
from threading import Condition, Thread
from time import monotonic
from typing import Any

from gptcli.errors import Unavailable
from gptcli.multiplex import Exchange, Plan, Unanswered, run_plans
from gptcli.protocol import Chunk, Completion, Engine, Event, Request
from gptcli.server.refusals import failure

LOG = logging.getLogger("gptcli.server")
Send = Callable[[Any], None]
Begin = Callable[[Send, Iterator[str]], Exchange[None]]
"""(what sends an item to the client, ids for requests) -> the exchange."""
END = object()
FATAL = (SystemExit, KeyboardInterrupt, GeneratorExit)


class ClientJob:
    """One client's work, see `EngineThread.submit`.

    tokens: an estimate of what waits with it, for limits of the queue.
    """

    def __init__(self, begin: Begin, tokens: int = 0) -> None:
        self.begin, self.tokens = begin, tokens
        self.submitted = monotonic()
        self.started: float | None = None  # when the engine pulled its first request
        self.first: float | None = None  # when the first of its answers came
        self.ended: float | None = None
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0
        self.cancelled = self.failed = self.done = False
        self.ids: set[str] = set()  # of requests that the engine pulled and has not answered
        self.queued_tokens = 0  # of its tokens, those that count as waiting
        self._items: deque[Any] = deque()
        self._arrived = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many items its client has not read yet."""
        return len(self._items)

    def put(self, item: Any) -> None:
        """On the loop: an item for the client; an exception ends what it gets."""
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
            ends = (item is END or isinstance(item, BaseException) for item in few)
            size = next((place for place, end in enumerate(ends) if end), None)
            if found := few[:size]:
                yield found
            if size is None:
                continue
            if few[size] is END:
                return
            raise few[size]


class EngineThread:
    """Runs jobs over one engine until `close`. `observe` is told of each job that ended."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.failure: BaseException | None = None  # that ended the thread
        self.failures = 0  # runs of the engine that failed
        self.observe: Callable[[ClientJob], None] = lambda job: None
        self.jobs = self.queued = self.queued_tokens = 0  # all; those that the engine has not begun
        self._loop: asyncio.AbstractEventLoop | None = None
        self._new: OrderedDict[ClientJob, None] = OrderedDict()  # not pulled yet
        self._open: set[ClientJob] = set()  # pulled, and not done
        self._changed = Condition()
        self._closing = False
        self._outbox: deque[tuple[ClientJob, Any]] = deque()
        self._woken = False
        self._stepped = self._busy_since = monotonic()
        self._ids = count(1)
        self._thread = Thread(target=self._work, name="gptcli-engine", daemon=True)

    # --- on the event loop

    def start(self) -> None:
        """Begin to work; the running event loop gets what jobs send."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(self, job: ClientJob) -> ClientJob:
        """Queue a job. Raises Unavailable where the thread has ended."""
        with self._changed:
            if self.failure is not None or self._closing:
                raise Unavailable("the engine", "it has stopped", "Start the server again")
            if not self.jobs:
                self._busy_since = monotonic()
            self._new[job] = None
            self.jobs += 1
            self.queued += 1
            job.queued_tokens = job.tokens
            self.queued_tokens += job.tokens
            self._changed.notify()
        return job

    def cancel(self, job: ClientJob) -> None:
        """End a job, wherever it is; nothing more of it arrives."""
        if job.done or job.cancelled:
            return
        job.cancelled = True
        with self._changed:
            unseen = job in self._new
            self._new.pop(job, None)
        if unseen:
            self._settle(job)
        for id in list(job.ids):
            self.engine.cancel(id)

    def end_all(self, error: Exception) -> None:
        """Tell the clients of all jobs that this ends them; they cancel their jobs."""
        with self._changed:
            jobs = [*self._new, *self._open]
        for job in jobs:
            job.put(error)

    @property
    def running(self) -> int:
        """How many jobs the engine has begun."""
        return self.jobs - self.queued

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive() and self.failure is None

    @property
    def stalled(self) -> float:
        """Seconds since the engine last stepped, while any job is there; else 0."""
        if not self.jobs:
            return 0.0
        return max(monotonic() - max(self._stepped, self._busy_since), 0.0)

    def close(self, wait: float | None = None) -> None:
        """Cancel what is there, and end the thread."""
        with self._changed:
            self._closing = True
            jobs = [*self._new, *self._open]
            self._changed.notify()
        for job in jobs:
            self.cancel(job)
        if self._thread.is_alive():
            self._thread.join(wait)

    def _hand_out(self) -> None:
        self._woken = False
        while self._outbox:
            job, item = self._outbox.popleft()
            if item is END:
                self._settle(job)
            job.put(item)

    def _settle(self, job: ClientJob) -> None:
        """A job is over; it may be told so twice."""
        if job.done:
            return
        job.done, job.ended = True, monotonic()
        with self._changed:
            self.jobs -= 1
            self.queued -= job.started is None
            self.queued_tokens -= job.queued_tokens
            job.queued_tokens = 0
        self.observe(job)

    # --- on the engine's thread

    def _work(self) -> None:
        try:
            while self._wait():
                try:
                    for _ in run_plans(self.engine, self._plans(), in_order=False, fair=True):
                        pass
                except FATAL:
                    raise
                except BaseException as error:  # a panic of a library is no Exception
                    self.failures += 1
                    LOG.error("the engine failed", exc_info=error)
                    self._abandon()
        except BaseException as error:
            LOG.critical("the engine's thread has ended", exc_info=error)
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
                job = self._new.popitem(last=False)[0] if self._new else None
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
            unanswered = Unanswered()
            exchange = job.begin(lambda item: self._send(job, item), map(str, self._ids))
            asked: Iterable[Request] = next(exchange)
            while not job.cancelled:
                event = yield self._pulled(job, asked, unanswered) if asked else ()
                self._count(job, event, unanswered)
                if not job.cancelled:
                    asked = exchange.send(event)
        except StopIteration:
            pass
        except FATAL:
            raise
        except BaseException as error:  # a panic of a library is no Exception
            job.failed = True
            for id in job.ids:  # of its other requests
                self.engine.cancel(id)
            if isinstance(error, Exception):
                self._send(job, error)
            else:
                LOG.error("a library failed", exc_info=error)
                self._send(job, failure())
        finally:
            with self._changed:
                self._open.discard(job)
            self._send(job, END)
        return ()

    def _pulled(
        self, job: ClientJob, requests: Iterable[Request], unanswered: Unanswered
    ) -> Iterator[Request]:
        """The requests, as the engine pulls them."""
        for request in requests:
            self._stepped = monotonic()
            job.ids.add(request.id)
            unanswered.add(request)
            if job.cancelled:
                return
            with self._changed:
                if job.started is None:
                    job.started = self._stepped
                    self.queued -= 1
                if not length_hint(requests):
                    self.queued_tokens -= job.queued_tokens
                    job.queued_tokens = 0
            yield request

    def _count(self, job: ClientJob, event: Event, unanswered: Unanswered) -> None:
        """Note what an event says of a job."""
        self._stepped = monotonic()
        if job.first is None:
            job.first = self._stepped
        if isinstance(event, Chunk):
            return
        if isinstance(event, Completion):
            job.completion_tokens += event.usage.completion_tokens
        if results := unanswered.take(event):
            job.ids.discard(event.id)
            usage = results[0].usage
            job.prompt_tokens += usage.prompt_tokens
            job.cached_tokens += usage.cached_tokens

    def _send(self, job: ClientJob, item: Any) -> None:
        self._outbox.append((job, item))
        if not self._woken and self._loop is not None:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._hand_out)
            except RuntimeError:  # the loop is closed: nobody listens any more
                self._outbox.clear()

    def _abandon(self, end: BaseException | None = None) -> None:
        """Tell the jobs that the engine failed; with `end`, for good."""
        with self._changed:
            self.failure = end
            jobs = [*self._open, *self._new]
            self._open.clear()
            self._new.clear()
        for job in jobs:
            job.failed = True
            self._send(job, failure())
            self._send(job, END)
