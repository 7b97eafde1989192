"""Runs many plans over one `Engine.run`; each plan asks several requests.

A plan is one piece of work: a row, a text to score, an input of a task. It is a generator: it
yields the requests that it adds, and is sent the next event of any of its requests. So a plan reads
like a loop, and the engine computes the requests of many plans in one batch.

Events: a plan gets every event of its own requests, Chunks too; events after its end are dropped.
A request's `id` is unique among all plans. A plan ends a request by `Engine.cancel`.
Order: answers come in the order of the plans; with `in_order=False` in the order of their ends.
Laziness: a plan is pulled when the engine has a free slot and all requests of the plans before it
have been pulled; never while `ahead` plans are open. None among the plans means "none right now".
Errors: a refused request has its error in its result; its plan decides what that means, and the
other plans go on. An exception of a plan, or of the iterator of plans, ends the whole run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gptcli.protocol import Chunk, Completion, Engine, Event, Request, Result

T = TypeVar("T")
Exchange = Generator[Iterable[Request], Event, T]
"""Yields requests (an empty iterable to wait), is sent its next event, returns a T. The engine
pulls the requests as it has room."""


@dataclass(frozen=True)
class Plan(Generic[T]):
    """One piece of work: `exchange` returns all its answers.

    `so_far` gives answers that are ready before the end, each once. It is called after each event
    while all plans before this one are done. A plan that is `stopped` asks nothing more: it ends
    without answers the next time that one of its requests would be pulled.
    """

    exchange: Exchange[Iterable[T]]
    so_far: Callable[[], Iterable[T]] = tuple
    stopped: Callable[[], bool] = bool


def run_plans(
    engine: Engine,
    plans: Iterable[Plan[T] | None],
    ahead: int | None = None,
    in_order: bool = True,
    fair: bool = False,
) -> Generator[T, None, None]:
    """The answers of all plans.

    At most `ahead` plans are open at a time: running, or done and waiting for an earlier one.
    `fair`: plans are pulled at once, and take turns with their requests, so that one with a
    thousand of them does not hold up the others.
    """
    board = _Board(iter(plans), ahead, in_order, fair)
    while board.busy:
        for event in engine.run(board.requests()):
            board.take(event)
            yield from board.ready()
        yield from board.ready()


def joined(plans: Iterable[Plan[T]], give: Callable[[T], None]) -> Exchange[None]:
    """Many plans as one exchange; `give` gets their answers, in the order of the plans.

    For a caller that is itself a plan of a run. None may not stand among these plans.
    """
    return _Joined(_Board(iter(plans), None, in_order=True), give).exchange()


def ask(
    request: Request, seen: Callable[[Event], None] = lambda event: None
) -> Exchange[list[Result]]:
    """Ask one request and wait for all its results; `seen` is told of each event.

    For use in a plan: `results = yield from ask(request)`.
    """
    waiting = Unanswered()
    waiting.add(request)
    asked: Sequence[Request] = (request,)
    while True:
        event = yield asked
        asked = ()
        seen(event)
        if not isinstance(event, Chunk) and (results := waiting.take(event)):
            return results


class Unanswered:
    """Running requests, each with its results so far."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Request, list[Result]]] = {}

    def add(self, request: Request) -> None:
        """Await the results of a request."""
        self._open[request.id] = request, []

    def take(self, result: Result) -> list[Result]:
        """All results of a request in the order of their index, if this one completes it; else [].

        An error completes a request at once. The result of an unknown request is ignored.
        """
        if result.id not in self._open:
            return []
        request, found = self._open[result.id]
        found.append(result)
        if result.error is None and len(found) < request.results:
            return []
        del self._open[result.id]
        return sorted(found, key=lambda one: one.index if isinstance(one, Completion) else 0)


class InOrder(Generic[T]):
    """Sorts items that come in any order by their numbers, from 0 on."""

    def __init__(self) -> None:
        self.due = 0  # the number of the next item
        self._early: dict[int, T] = {}
        self._skipped: set[int] = set()

    @property
    def skipped(self) -> int:
        """How many numbers after `due` are known not to come."""
        return len(self._skipped)

    def put(self, number: int, item: T) -> Iterator[T]:
        """Take an item; yields all that are due now."""
        self._early[number] = item
        while self.due in self._early:
            yield self._early.pop(self.due)
            self.due += 1
            self._pass_by()

    def skip(self, number: int) -> None:
        """Do not wait for this number: it has no item."""
        self._skipped.add(number)
        self._pass_by()

    def _pass_by(self) -> None:
        while self.due in self._skipped:
            self._skipped.remove(self.due)
            self.due += 1

    def rest(self) -> Iterator[T]:
        """The items that still wait for an earlier number, in order."""
        yield from (self._early.pop(number) for number in sorted(self._early))


class _Open(Generic[T]):
    """A plan that has begun; it has `answers` once it has ended."""

    def __init__(self, plan: Plan[T]) -> None:
        self.plan = plan
        self.ids: list[str] = []  # of its requests that were pulled
        self.answers: Iterable[T] | None = None


class _Board(Generic[T]):
    """The open plans: routes events to them, and pulls their requests."""

    def __init__(
        self,
        plans: Iterator[Plan[T] | None],
        ahead: int | None,
        in_order: bool,
        fair: bool = False,
    ) -> None:
        self._plans: Iterator[Plan[T] | None] | None = plans
        self._fair = fair
        self._ahead, self._in_order = ahead, in_order
        self._open: deque[_Open[T]] = deque()  # in the order of the plans
        self._ended: deque[Iterable[T]] = deque()  # answers in the order in which plans ended
        self._asking: deque[tuple[_Open[T], Iterator[Request]]] = deque()
        self._owners: dict[str, _Open[T]] = {}  # by the request's id

    @property
    def busy(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._plans or self._open or self._ended)

    def requests(self) -> Iterator[Request | None]:
        """The requests for the engine to pull.

        It ends early where all open plans have ended: no event is to come that would lead to
        `ready`.
        """
        while self.busy:
            while self._fair and self._begin():
                pass
            request = self._next()
            if request is not None:
                yield request
            elif self._all_ended():
                return
            elif not self._begin() and self.busy:
                yield None

    def _next(self) -> Request | None:
        """The next request of a running plan; None where there is none."""
        while self._asking:
            owner, requests = self._asking[0]
            if owner.answers is None and owner.plan.stopped():
                owner.plan.exchange.close()
                self._end(owner, ())
            request = next(requests, None) if owner.answers is None else None
            if request is not None:
                self._owners[request.id] = owner
                owner.ids.append(request.id)
                if self._fair:
                    self._asking.rotate(-1)
                return request
            self._asking.popleft()
        return None

    @property
    def under_way(self) -> bool:
        """Whether a plan has begun, and not ended."""
        return any(open.answers is None for open in self._open)

    def _all_ended(self) -> bool:
        return not self.under_way and bool(self._open or self._ended)

    def _begin(self) -> bool:
        """Begin one more plan. False if there is none now, or `ahead` plans are open."""
        if self._plans is None or (self._ahead is not None and len(self._open) >= self._ahead):
            return False
        try:
            plan = next(self._plans)
        except StopIteration:
            self._plans = None
            return False
        if plan is None:
            return False
        begun = _Open(plan)
        self._open.append(begun)
        self._advance(begun, None)
        return True

    def take(self, event: Event) -> None:
        """Send an event to its plan."""
        if event.id in self._owners:
            self._advance(self._owners[event.id], event)

    def _advance(self, open: _Open[T], event: Event | None) -> None:
        """Let a plan go on to its next yield, or to its end."""
        exchange = open.plan.exchange
        try:
            requests = next(exchange) if event is None else exchange.send(event)
        except StopIteration as done:
            self._end(open, done.value)
            return
        if requests:  # an iterator is true, an empty tuple is not
            self._asking.append((open, iter(requests)))

    def _end(self, open: _Open[T], answers: Iterable[T]) -> None:
        open.answers = answers
        for id in open.ids:
            self._owners.pop(id, None)
        if not self._in_order:
            self._open.remove(open)
            self._ended.append(answers)

    def ready(self) -> Iterator[T]:
        """The answers that are due now."""
        while self._in_order and self._open:
            first = self._open[0]
            yield from first.plan.so_far()
            if first.answers is None:
                return
            self._open.popleft()
            yield from first.answers
        while self._ended:
            yield from self._ended.popleft()


class _Joined(Generic[T]):
    """The plans of a board as one exchange.

    While it waits, one of its plans at least is under way and has a request that is pulled, or is
    the next to be: so an event comes.
    """

    def __init__(self, board: _Board[T], give: Callable[[T], None]) -> None:
        self._board, self._give = board, give
        self._first: Request | None = None  # the next to be pulled
        self._pulled = True  # whether the requests that were yielded were pulled to their end
        self._failed: Exception | None = None  # while requests were pulled: not the engine's

    def exchange(self) -> Exchange[None]:
        """Run all plans. Raises what one of them raises."""
        while True:
            if self._first is None and (self._pulled or not self._board.under_way):
                self._first = self._next()
            self._hand_out()
            if not self._board.busy:
                return
            event = yield self._requests() if self._pulled and self._first is not None else ()
            if self._failed is not None:
                raise self._failed
            self._board.take(event)

    def _requests(self) -> Iterator[Request]:
        self._pulled = False
        return self._pulling()

    def _pulling(self) -> Iterator[Request]:
        try:
            while (request := self._first or self._next()) is not None:
                self._first = None
                yield request
        except Exception as error:
            self._failed = error
        self._pulled = True

    def _next(self) -> Request | None:
        """The next request; None where none is there now, or all is done."""
        while self._board.busy:
            for request in self._board.requests():
                return request
            self._hand_out()  # all that have begun have ended
        return None

    def _hand_out(self) -> None:
        for answer in self._board.ready():
            self._give(answer)
