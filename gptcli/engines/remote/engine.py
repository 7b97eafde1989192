"""The engine of `--server`: up to `places` requests in flight at once.

The event loop of a `Client` sends them. The thread of `run` pulls the next request when a place is
free and gives out events in the order of arrival. A failure of one request is its error; a failure
that every request would meet (a wrong key, an unknown model) ends the run.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from gptcli.engines.remote import schema
from gptcli.engines.remote.client import (
    AT_START,
    Client,
    Endpoint,
    Patience,
    answers,
)
from gptcli.engines.remote.failures import (
    FAILURES,
    ends_run,
    failure,
)
from gptcli.engines.remote.gate import Gate
from gptcli.engines.remote.generation import GenerationInFlight
from gptcli.engines.remote.inflight import InFlight, ServerTraits, estimate
from gptcli.engines.remote.retry import patiently
from gptcli.engines.remote.scoring import ScoringInFlight, check, echoed
from gptcli.engines.remote.waiting import WaitNotices
from gptcli.errors import BadInput, GptcliError, Unavailable, UsageError
from gptcli.protocol import (
    Event,
    GenerateRequest,
    LoglikelihoodRequest,
    ModelInfo,
    Request,
    RollingRequest,
)

if TYPE_CHECKING:
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
    from gptcli.engines.remote.echo_tokenizer import EchoTokenizer

Say = Callable[[str], object]
POLL_SECONDS = 0.002  # between two looks for a request
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
        self._say: Say = _nothing
        self._tokenizer: EchoTokenizer | None = None
        self._traits = ServerTraits()
        self._open: list[RemoteRun] = []

    @property
    def tokenizer(self) -> Tokenizer:
        """Tokens as the server's echo tells them; asks it the first time.

        Raises Unavailable where it does not echo log-probabilities, or not those of the tokens.
        """
        if self._tokenizer is None:
            from gptcli.engines.remote.echo_tokenizer import EchoTokenizer

            try:
                self._tokenizer = EchoTokenizer(self._echo)
            except BadInput as error:
                raise schema.no_scores(error.why) from None
        return self._tokenizer

    def _echo(self, text: str) -> schema.SequenceDelta:
        """The echo of a text. Raises Unavailable, and BadInput for a text that is refused."""

        async def asked() -> schema.SequenceDelta:
            ask = partial(answers, client)
            [piece] = await echoed(ask, self.info.name, [text], self._traits)
            await check(ask, self.info.name, piece, self._traits)
            return piece

        patience = self._patience
        if self._tokenizer is None:
            patience = replace(patience, tries=AT_START.tries, total=AT_START.total)
        with Client(self._to, patience) as client:
            try:
                return client.wait_for(patiently(asked, patience))
            except FAILURES as error:
                raise failure(error, self._to, self._names) from None

    def count(self, text: str) -> int:
        """About how many tokens a text is, rather too many: the tokenizer is the server's."""
        return estimate(text)

    def say_waits(self, say: Say) -> None:
        """Tell `say` of pauses, in the thread that reads the events of a run."""
        self._say = say

    def cancel(self, id: str) -> None:
        """End the request `id` and its connection; see `gptcli.protocol.Engine.cancel`."""
        for run in self._open:
            run.cancel(id)

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Continue every request; see `gptcli.protocol.Engine.run`.

        Raises Unavailable where the server refuses the key, or knows no such model.
        """
        with Client(self._to, self._patience, self._places) as client:
            server = ServerOfRun(self._to, self.info, self._names, self._patience, self._traits)
            server = replace(server, tokenizer=self._tokenizer)
            run = RemoteRun(client, server, self._places, self._say)
            self._open.append(run)
            try:
                yield from run.events(iter(requests))
            finally:
                self._open.remove(run)


@dataclass(frozen=True)
class ServerOfRun:
    """What a run knows of its server."""

    to: Endpoint
    info: ModelInfo
    names: tuple[str, ...]
    patience: Patience
    traits: ServerTraits
    tokenizer: EchoTokenizer | None = None


class RemoteRun:
    """One run under way. Its requests live on the client's loop, its events in a queue."""

    def __init__(self, client: Client, server: ServerOfRun, places: int, say: Say) -> None:
        self._client, self._server, self._places = client, server, places
        self._say = say
        self._inbox: SimpleQueue[Event | BaseException | str | None] = SimpleQueue()
        self._gate = Gate(places)
        self._waits = WaitNotices(self._inbox.put)
        self._unfinished = 0  # requests whose end was not read yet
        self._cancelled: set[str] = set()
        self._tasks: dict[asyncio.Task[None], str] = {}  # touched by the loop's thread alone

    def events(self, requests: Iterator[Request | None]) -> Iterator[Event]:
        """Pull, send, and give out what arrives."""
        source: Iterator[Request | None] | None = requests
        while source or self._unfinished:
            wait: float | None = None
            if source and self._unfinished < self._places:
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
                if self._server.tokenizer is None:
                    yield request.refused(_no_tokens(), self._server.info)
                    return
                from gptcli.engines.remote.rolling import RollingInFlight

                item = RollingInFlight(
                    request, self._server.info, self._server.traits, self._server.tokenizer
                )
            case LoglikelihoodRequest():
                item = ScoringInFlight(request, self._server.info, self._server.traits)
            case GenerateRequest():
                seed = request.sampling.seed
                seed = secrets.randbits(SEED_BITS) if seed is None else seed
                item = GenerationInFlight(
                    request, self._server.info, self._server.traits, seed, self._inbox.put
                )
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
        elif isinstance(item, str):
            self._say(item)
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
                lambda: item.send(partial(answers, self._client)),
                self._server.patience,
                self._gate,
                lambda: item.begun,
                self._waits.told,
            )
        except GptcliError as wrong:
            error = wrong
        except FAILURES as wrong:
            error = failure(wrong, self._server.to, self._server.names)
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


def _nothing(text: str) -> None:
    pass


def _no_tokens() -> Unavailable:
    return Unavailable(
        "--server",
        "a server takes no token ids, only texts",
        "Score a text, or run the model here: without --server",
    )
