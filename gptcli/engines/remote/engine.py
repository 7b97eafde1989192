"""The engine behind `--server`: as many requests on their way at once as it has places.

A thread with an event loop (`line`) carries them; the thread of `run` pulls the next request when a
place is free and gives out events in the order of their arrival. What concerns one request becomes
its error; what every other would be told as well (a wrong key, an unknown model) ends the run.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Iterator
from functools import partial
from queue import Empty, SimpleQueue

from gptcli.checkpoints.tokenizer import Tokenizer
from gptcli.engines.remote import schema
from gptcli.engines.remote.client import (
    AT_START,
    Client,
    Endpoint,
    Patience,
    answers,
    endpoint,
    models,
)
from gptcli.engines.remote.inflight import Flight, ScoringFlight, WritingFlight, estimate
from gptcli.engines.remote.retry import FAILURES, failure, of_all, patiently
from gptcli.errors import GptcliError, Unavailable, UsageError
from gptcli.options import Load
from gptcli.protocol import (
    Event,
    GenerateRequest,
    LoglikelihoodRequest,
    ModelInfo,
    Request,
    RollingRequest,
)

IDLE = 0.002  # seconds between two looks for a request
UNKNOWN_CONTEXT = 10**9  # tokens; where the server does not say, nothing is cut to fit
SEED_BITS = 31  # of a seed drawn here: some servers take 2**32 - 1 for "draw one yourself"


class RemoteEngine:
    """A model behind an OpenAI-compatible endpoint; see `gptcli.protocol.Engine`."""

    def __init__(
        self,
        to: Endpoint,
        info: ModelInfo,
        names: tuple[str, ...] = (),
        places: int = 1,
        patience: Patience | None = None,
    ) -> None:
        self.info = info
        self._to, self._names, self._places = to, names, places
        self._patience = patience or Patience()
        self._open: list[RemoteRun] = []

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises Unavailable: tokens are the server's own business."""
        raise _no_tokens()

    def count(self, text: str) -> int:
        """About how many tokens a text is, rather too many: the tokenizer is the server's."""
        return estimate(text)

    def cancel(self, id: str) -> None:
        """End the request `id` and its connection; see `gptcli.protocol.Engine.cancel`."""
        for run in self._open:
            run.cancel(id)

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Continue every request; see `gptcli.protocol.Engine.run`.

        Raises Unavailable where the server refuses the key, or knows no such model.
        """
        with Client(self._to, self._patience, self._places) as line:
            run = RemoteRun(line, self._to, self.info, self._names, self._patience)
            self._open.append(run)
            try:
                yield from run.events(iter(requests), self._places)
            finally:
                self._open.remove(run)


class RemoteRun:
    """One run under way. Its flights live on the line's loop, its events in a queue."""

    def __init__(
        self,
        line: Client,
        to: Endpoint,
        info: ModelInfo,
        names: tuple[str, ...],
        patience: Patience,
    ) -> None:
        self._line, self._to, self._info, self._names = line, to, info, names
        self._patience = patience
        self._inbox: SimpleQueue[Event | BaseException | None] = SimpleQueue()
        self._away = 0  # flights whose end was not read yet
        self._cancelled: set[str] = set()
        self._tasks: dict[asyncio.Task[None], str] = {}  # touched by the loop's thread alone

    def events(self, requests: Iterator[Request | None], places: int) -> Iterator[Event]:
        """Pull, send, and give out what arrives."""
        source: Iterator[Request | None] | None = requests
        while source or self._away:
            wait: float | None = None
            if source and self._away < places:
                wait = 0
                try:
                    request = next(source)
                except StopIteration:
                    source = None
                    continue
                if request is None:
                    wait = IDLE
                else:
                    yield from self._take(request)
            yield from self._arrived(wait)

    def cancel(self, id: str) -> None:
        """End a request, from any thread; also if it was not pulled yet."""
        self._cancelled.add(id)
        self._line.call(partial(self._land, id))

    def _take(self, request: Request) -> Iterator[Event]:
        """Send a request on its way, or say why not."""
        flight: Flight
        match request:
            case RollingRequest():
                yield request.refused(_no_tokens(), self._info)
                return
            case LoglikelihoodRequest():
                flight = ScoringFlight(request, self._info)
            case GenerateRequest():
                seed = request.sampling.seed
                seed = secrets.randbits(SEED_BITS) if seed is None else seed
                flight = WritingFlight(request, self._info, seed, self._inbox.put)
        if request.id in self._cancelled:
            yield from flight.landed(cancelled=True)
            return
        try:
            schema.refuse(request)
        except UsageError as error:
            yield from flight.landed(error)
            return
        self._away += 1
        self._line.call(partial(self._start, flight))

    def _arrived(self, wait: float | None) -> Iterator[Event]:
        """The next event, after at most `wait` seconds, if there is one."""
        try:
            item = self._inbox.get(timeout=wait) if wait != 0 else self._inbox.get_nowait()
        except Empty:
            return
        if item is None:
            self._away -= 1
        elif isinstance(item, BaseException):
            raise item
        else:
            yield item

    # On the line's loop.

    def _start(self, flight: Flight) -> None:
        task = asyncio.get_running_loop().create_task(self._fly(flight))
        self._tasks[task] = flight.request.id
        task.add_done_callback(partial(self._ended, flight))
        if flight.request.id in self._cancelled:
            task.cancel()

    def _land(self, id: str) -> None:
        for task, name in self._tasks.items():
            if name == id:
                task.cancel()

    async def _fly(self, flight: Flight) -> None:
        error: GptcliError | None = None
        try:
            await patiently(
                lambda: flight.fly(partial(answers, self._line.client)),
                self._patience,
                last=lambda: flight.begun,
            )
        except GptcliError as wrong:
            error = wrong
        except FAILURES as wrong:
            error = failure(wrong, self._to, self._names)
            if of_all(wrong):
                raise error from None  # the client's own error may quote the key
        for event in flight.landed(error):
            self._inbox.put(event)

    def _ended(self, flight: Flight, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if task.cancelled():
            for event in flight.landed(cancelled=True):
                self._inbox.put(event)
        elif (error := task.exception()) is not None:
            self._inbox.put(error)  # raised again where the events are read
        self._inbox.put(None)


def _no_tokens() -> Unavailable:
    return Unavailable(
        "--server",
        "a server gives neither its tokens nor what it thinks of each",
        "Run the model here: without --server",
    )


def connect(load: Load, places: int = 1, patience: Patience | None = None) -> RemoteEngine:
    """The engine for `load.server`, with up to `places` requests on their way at once.

    The model is the one named, else the first that the server lists; a name is not checked here,
    because some servers list less than they have. Raises UsageError (a key that cannot be one,
    --offline) and Unavailable within seconds (unreachable, key refused, no model).
    """
    assert load.server is not None
    to = endpoint(load.server)
    if load.offline and not to.here:
        why = "it is not on this machine, and --offline forbids the network"
        raise UsageError("--server", why, "Leave one of them out.")
    there = _listed(to, named=load.model is not None)
    name = load.model or next(iter(there), None)
    if name is None:
        raise Unavailable(
            f"--server {to.url}", "it has no model", "Load one there, or name one: -m"
        )
    context = there.get(name)
    notices = tuple(_unused(load))
    if context is None:
        notices += (f"the server does not say how long a text {name} can read: nothing is cut",)
    info = ModelInfo(
        name=name,
        revision=None,
        architecture="remote",
        context=context or UNKNOWN_CONTEXT,
        vocabulary=0,
        parameters=0,
        dtype="unknown dtype",
        device=to.url,
        notices=notices,
    )
    return RemoteEngine(to, info, tuple(there), places, patience)


def _listed(to: Endpoint, named: bool) -> dict[str, int | None]:
    """The server's models; none where it has no list, if one was `named` and so none is needed."""
    try:
        with Client(to, AT_START) as line:
            return line.wait_for(patiently(lambda: models(line.client), AT_START))
    except FAILURES as error:
        if named and getattr(error, "status_code", None) in (404, 405, 501):
            return {}
        raise failure(error, to) from None


def _unused(load: Load) -> Iterator[str]:
    """What was asked for but is the server's own business."""
    for flag, given in (
        ("--revision", load.revision is not None),
        ("--device", load.device != "auto"),
        ("--dtype", load.dtype != "auto"),
        ("--threads", load.threads is not None),
    ):
        if given:
            yield f"{flag} is not used: the model runs on the server"
