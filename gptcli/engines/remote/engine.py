"""The engine of `--server`: up to `places` requests in flight at once.

The event loop of a `Client` sends them. The thread of `run` pulls the next request when a place is
free and gives out events in the order of arrival. A failure of one request is its error; a failure
that every request would meet (a wrong key, an unknown model) ends the run.
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
from gptcli.engines.remote.inflight import GenerationInFlight, InFlight, ScoringInFlight, estimate
from gptcli.engines.remote.retry import FAILURES, ends_run, failure, patiently
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

POLL_SECONDS = 0.002  # between two looks for a request
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
        """Raises Unavailable: the server does not give its tokens."""
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
        with Client(self._to, self._patience, self._places) as client:
            run = RemoteRun(client, self._to, self.info, self._names, self._patience)
            self._open.append(run)
            try:
                yield from run.events(iter(requests), self._places)
            finally:
                self._open.remove(run)


class RemoteRun:
    """One run under way. Its requests live on the client's loop, its events in a queue."""

    def __init__(
        self,
        client: Client,
        to: Endpoint,
        info: ModelInfo,
        names: tuple[str, ...],
        patience: Patience,
    ) -> None:
        self._client, self._to, self._info, self._names = client, to, info, names
        self._patience = patience
        self._inbox: SimpleQueue[Event | BaseException | None] = SimpleQueue()
        self._unfinished = 0  # requests whose end was not read yet
        self._cancelled: set[str] = set()
        self._tasks: dict[asyncio.Task[None], str] = {}  # touched by the loop's thread alone

    def events(self, requests: Iterator[Request | None], places: int) -> Iterator[Event]:
        """Pull, send, and give out what arrives."""
        source: Iterator[Request | None] | None = requests
        while source or self._unfinished:
            wait: float | None = None
            if source and self._unfinished < places:
                wait = 0
                try:
                    request = next(source)
                except StopIteration:
                    source = None
                    continue
                if request is None:
                    wait = POLL_SECONDS
                else:
                    yield from self._take(request)
            yield from self._arrived(wait)

    def cancel(self, id: str) -> None:
        """End a request, from any thread; also if it was not pulled yet."""
        self._cancelled.add(id)
        self._client.call(partial(self._stop, id))

    def _take(self, request: Request) -> Iterator[Event]:
        """Send a request on its way, or say why not."""
        item: InFlight
        match request:
            case RollingRequest():
                yield request.refused(_no_tokens(), self._info)
                return
            case LoglikelihoodRequest():
                item = ScoringInFlight(request, self._info)
            case GenerateRequest():
                seed = request.sampling.seed
                seed = secrets.randbits(SEED_BITS) if seed is None else seed
                item = GenerationInFlight(request, self._info, seed, self._inbox.put)
        if request.id in self._cancelled:
            yield from item.finish(cancelled=True)
            return
        try:
            schema.refuse(request)
        except UsageError as error:
            yield from item.finish(error)
            return
        self._unfinished += 1
        self._client.call(partial(self._start, item))

    def _arrived(self, wait: float | None) -> Iterator[Event]:
        """The next event, after at most `wait` seconds, if there is one."""
        try:
            item = self._inbox.get(timeout=wait) if wait != 0 else self._inbox.get_nowait()
        except Empty:
            return
        if item is None:
            self._unfinished -= 1
        elif isinstance(item, BaseException):
            raise item
        else:
            yield item

    # On the client's loop.

    def _start(self, item: InFlight) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(item))
        self._tasks[task] = item.request.id
        task.add_done_callback(partial(self._ended, item))
        if item.request.id in self._cancelled:
            task.cancel()

    def _stop(self, id: str) -> None:
        for task, name in self._tasks.items():
            if name == id:
                task.cancel()

    async def _serve(self, item: InFlight) -> None:
        error: GptcliError | None = None
        try:
            await patiently(
                lambda: item.send(partial(answers, self._client.client)),
                self._patience,
                last=lambda: item.begun,
            )
        except GptcliError as wrong:
            error = wrong
        except FAILURES as wrong:
            error = failure(wrong, self._to, self._names)
            if ends_run(wrong):
                raise error from None  # the client's own error may quote the key
        for event in item.finish(error):
            self._inbox.put(event)

    def _ended(self, item: InFlight, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if task.cancelled():
            for event in item.finish(cancelled=True):
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
    if load.offline and not to.is_local:
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
        with Client(to, AT_START) as client:
            return client.wait_for(patiently(lambda: models(client.client), AT_START))
    except FAILURES as error:
        if named and getattr(error, "status_code", None) in (404, 405, 501):
            return {}
        raise failure(error, to) from None


def _unused(load: Load) -> Iterator[str]:
    """A notice for each flag that only a model on this machine obeys."""
    for flag, given in (
        ("--revision", load.revision is not None),
        ("--device", load.device != "auto"),
        ("--dtype", load.dtype != "auto"),
        ("--threads", load.threads is not None),
    ):
        if given:
            yield f"{flag} is not used: the model runs on the server"
