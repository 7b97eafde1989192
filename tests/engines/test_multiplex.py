"""Many plans over one engine: order, laziness, cancelling, errors, and what there is not now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import pytest
from support.fake_engine import FakeEngine

from gptcli.errors import BadInput
from gptcli.multiplex import Exchange, InOrder, Plan, Unanswered, ask, joined, run_plans
from gptcli.options import Sampling
from gptcli.protocol import Chunk, Completion, Event, GenerateRequest, LoglikelihoodRequest, Request


def engine(**more) -> FakeEngine:
    return FakeEngine(reply=lambda request: request.prompt.upper(), asked=[], **more)


def request(id: str, prompt: str = "once", count: int = 1) -> GenerateRequest:
    return GenerateRequest(id=id, prompt=prompt, sampling=Sampling(num_return_sequences=count))


def text(number: int) -> Exchange[tuple[str, ...]]:
    """A plan of one request: its text."""
    [done] = yield from ask(request(str(number), f"text {number}"))
    assert isinstance(done, Completion)
    return (done.text,)


def nothing(number: int) -> Exchange[tuple[str, ...]]:
    """A plan that asks nothing."""
    yield from ()
    return (f"nothing {number}",)


class Shuffled(FakeEngine):
    """Takes up to `slots` requests at a time, and answers the last of them first."""

    slots = 3

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        source = iter(requests)
        self.runs = getattr(self, "runs", 0) + 1
        while True:
            taken, ended = [], False
            while len(taken) < self.slots:
                found = next(source, self)
                if found is None or found is self:
                    ended = found is self
                    break
                taken.append(found)
            yield from super().run(reversed(taken))
            if ended:
                return


def shuffled(**more) -> Shuffled:
    return Shuffled(reply=lambda request: request.prompt.upper(), asked=[], **more)


def test_answers_come_in_the_order_of_the_plans() -> None:
    plans = [Plan(text(number)) for number in range(7)]
    assert list(run_plans(shuffled(), plans)) == [f"TEXT {number}" for number in range(7)]


def test_answers_may_come_as_the_plans_end() -> None:
    plans = [Plan(text(number)) for number in range(6)]
    found = list(run_plans(shuffled(), plans, in_order=False))
    assert found == [f"TEXT {number}" for number in (2, 1, 0, 5, 4, 3)]


def test_a_plan_may_ask_again_and_again() -> None:
    def chain(number: int) -> Exchange[tuple[str, ...]]:
        said = ""
        for step in range(number):
            [done] = yield from ask(request(f"{number}.{step}", f"{said}{step}"))
            assert isinstance(done, Completion)
            said = done.text
        return (said,)

    plans = [Plan(chain(number)) for number in (3, 1, 0, 2)]
    assert list(run_plans(shuffled(), plans)) == ["012", "0", "", "01"]


def test_a_plan_may_ask_several_at_once_and_is_sent_its_own_events_alone() -> None:
    def several(number: int) -> Exchange[tuple[set[str], ...]]:
        ids = {f"{number}.{part}" for part in range(4)}
        asked: list[Request] = [request(id) for id in sorted(ids)]
        seen: set[str] = set()
        while seen < ids:
            event = yield asked
            asked = []
            assert event.id in ids
            if isinstance(event, Completion):
                seen.add(event.id)
        return (seen,)

    found = list(run_plans(shuffled(), [Plan(several(number)) for number in range(5)]))
    assert found == [{f"{number}.{part}" for part in range(4)} for number in range(5)]


def test_several_sequences_of_a_request_come_in_order_of_their_index() -> None:
    def indices() -> Exchange[tuple[int, ...]]:
        found = yield from ask(request("0", count=3))
        return tuple(done.index for done in found if isinstance(done, Completion))

    assert list(run_plans(engine(), [Plan(indices())])) == [0, 1, 2]


def test_no_more_plans_are_open_than_allowed() -> None:
    pulled = given = most = 0

    def plans() -> Iterator[Plan[str]]:
        nonlocal pulled
        for number in range(20):
            pulled += 1
            yield Plan(text(number))

    for _ in run_plans(shuffled(), plans(), ahead=4):
        most = max(most, pulled - given)
        given += 1
    assert (given, most <= 4) == (20, True)


def test_plans_are_pulled_no_sooner_than_the_engine_has_room() -> None:
    pulled: list[int] = []

    def plans() -> Iterator[Plan[str]]:
        for number in range(1000):
            pulled.append(number)
            yield Plan(text(number))

    assert list(islice(run_plans(engine(), plans()), 2)) == ["TEXT 0", "TEXT 1"]
    assert len(pulled) == 2


def test_requests_of_a_plan_are_pulled_one_by_one() -> None:
    made: list[int] = []

    def many() -> Iterator[Request]:
        for number in range(1000):
            made.append(number)
            yield request(str(number))

    def first_of_many() -> Exchange[tuple[str, ...]]:
        asked: Iterable[Request] = many()
        while isinstance(event := (yield asked), Chunk):
            asked = ()
        return (event.id,)

    found = run_plans(engine(), [Plan(first_of_many()), Plan(text(5000))])
    assert list(found) == ["0", "TEXT 5000"]
    assert len(made) == 1  # what a plan asked for but does not wait for is not run


def test_none_is_no_plan_right_now() -> None:
    plans = [None, Plan(text(0)), None, None, Plan(nothing(1)), None, Plan(text(2)), None]
    assert list(run_plans(shuffled(), plans)) == ["TEXT 0", "nothing 1", "TEXT 2"]


def test_an_answer_does_not_wait_for_a_plan_that_is_not_there_yet() -> None:
    given: list[str] = []

    def plans() -> Iterator[Plan[str] | None]:
        for number, steps in enumerate((nothing, text, nothing)):
            yield Plan(steps(number))
            while len(given) <= number:  # the next one comes when the last was answered
                yield None

    for answer in run_plans(engine(), plans()):
        given.append(answer)
    assert given == ["nothing 0", "TEXT 1", "nothing 2"]


@pytest.mark.parametrize("in_order", [True, False])
def test_plans_that_ask_nothing_are_answered_before_more_are_pulled(in_order: bool) -> None:
    pulled = 0

    def plans() -> Iterator[Plan[str]]:
        nonlocal pulled
        for number in range(500):
            pulled += 1
            yield Plan(nothing(number))

    for number, answer in enumerate(run_plans(engine(), plans(), in_order=in_order)):
        assert (answer, pulled) == (f"nothing {number}", number + 1)
    assert pulled == 500


def test_one_run_of_the_engine_serves_many_plans() -> None:
    fake = shuffled()
    assert len(list(run_plans(fake, [Plan(text(number)) for number in range(9)]))) == 9
    assert fake.runs == 1


def test_a_refused_request_is_its_plans_business_and_the_others_go_on() -> None:
    class Choosy(FakeEngine):
        def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
            for asked in requests:
                if asked is not None and asked.id == "1":
                    yield asked.refused(BadInput("too long"), self.info)
                else:
                    yield from super().run([asked])

    def errors(number: int) -> Exchange[tuple[str, ...]]:
        found = yield from ask(request(str(number), count=2))
        return tuple(str(result.error) for result in found)

    found = list(run_plans(Choosy(), [Plan(errors(number)) for number in range(3)]))
    assert found == ["None", "None", "too long", "None", "None"]


def test_what_a_plan_raises_ends_everything_after_what_came_before() -> None:
    def broken() -> Exchange[tuple[str, ...]]:
        yield from ask(request("1"))
        raise ZeroDivisionError

    found = run_plans(engine(), [Plan(text(0)), Plan(broken()), Plan(text(2))])
    assert next(found) == "TEXT 0"
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_a_plan_can_end_its_request_when_it_has_seen_enough() -> None:
    fake = engine()

    def short() -> Exchange[tuple[str, ...]]:
        said: list[str] = []

        def seen(event: Event) -> None:
            if isinstance(event, Chunk):
                said.append(event.text)
                fake.cancel(event.id)

        [done] = yield from ask(request("0", "abcdefghijklm"), seen)
        assert isinstance(done, Completion)
        return ("".join(said), done.finish_reason)

    found = list(run_plans(fake, [Plan(short()), Plan(text(1))]))
    assert found == ["ABCD", "cancelled", "TEXT 1"]


def test_whoever_stops_reading_stops_the_pulling() -> None:
    fake = engine()
    found = run_plans(fake, (Plan(text(number)) for number in range(100)))
    next(found)
    found.close()
    assert fake.asked is not None
    assert len(fake.asked) == 1


def test_what_is_there_so_far_is_given_out_while_the_plan_is_first() -> None:
    class Writing:
        def __init__(self, number: int) -> None:
            self.number, self.text, self.given = number, "", 0

        def exchange(self) -> Exchange[tuple[str, ...]]:
            yield from ask(request(str(self.number), "abcdefgh"), self.seen)
            return (f"end of {self.number}",)

        def seen(self, event: Event) -> None:
            if isinstance(event, Chunk):
                self.text += event.text

        def so_far(self) -> Iterator[str]:
            if len(self.text) > self.given:
                yield self.text[self.given :]
                self.given = len(self.text)

    plans = [Writing(number) for number in range(2)]
    found = run_plans(shuffled(), [Plan(one.exchange(), one.so_far) for one in plans])
    # The second is written first, as a whole; it is given out when its turn has come.
    assert list(found) == ["ABCD", "EFGH", "end of 0", "ABCDEFGH", "end of 1"]


def test_events_that_nobody_waits_for_are_dropped() -> None:
    class Chatty(FakeEngine):
        def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
            for event in super().run(requests):
                yield event
                yield replace(event, id="stranger")
                if isinstance(event, Completion):
                    yield event

    assert list(run_plans(Chatty(), [Plan(text(0)), Plan(text(1))])) == [" there was"] * 2


# Results of a request


def completion(index: int, error: BadInput | None = None) -> Completion:
    return replace(
        request("0").refused(error or BadInput("x"), FakeEngine().info), index=index, error=error
    )


def test_a_request_is_answered_by_its_last_result() -> None:
    waiting = Unanswered()
    waiting.add(request("0", count=2))
    assert waiting.take(completion(1)) == []
    assert [done.index for done in waiting.take(completion(0))] == [0, 1]  # type: ignore[union-attr]
    assert waiting.take(completion(0)) == []


def test_an_error_is_the_last_result_whatever_was_due() -> None:
    waiting = Unanswered()
    waiting.add(request("0", count=3))
    bad = completion(0, BadInput("too long"))
    assert waiting.take(bad) == [bad]


def test_a_kind_with_one_result_is_answered_at_once() -> None:
    asked = LoglikelihoodRequest(id="0", prompt="", choices=(" a",))
    waiting = Unanswered()
    waiting.add(asked)
    [result] = FakeEngine().run([asked])
    assert not isinstance(result, Chunk)
    assert waiting.take(result) == [result]


# Order by number


def test_items_are_given_out_as_soon_as_those_before_them_are_there() -> None:
    order = InOrder[str]()
    found = [list(order.put(number, str(number))) for number in (2, 0, 1, 4, 3)]
    assert found == [[], ["0"], ["1", "2"], [], ["3", "4"]]
    assert order.due == 5


def test_numbers_of_which_nothing_comes_are_passed_by() -> None:
    order = InOrder[str]()
    order.skip(1)
    order.skip(3)
    assert order.skipped == 2
    assert list(order.put(2, "2")) == []
    assert list(order.put(0, "0")) == ["0", "2"]
    assert (order.due, order.skipped) == (4, 0)


def test_what_waits_for_a_number_that_never_came_is_the_rest() -> None:
    order = InOrder[str]()
    assert list(order.put(5, "5")) + list(order.put(3, "3")) == []
    assert list(order.rest()) == ["3", "5"]
    assert list(order.rest()) == []


def answered_together(plans: list[Plan[str]], slots: int = 3) -> list[str]:
    """The answers of plans that are one plan of a run, beside another."""
    given: list[str] = []
    other: list[str] = []

    def whole() -> Exchange[tuple[str, ...]]:
        yield from joined(plans, given.append)
        return ("whole",)

    engine = shuffled()
    engine.slots = slots
    other += run_plans(engine, [Plan(whole()), Plan(text(900))], in_order=False)
    assert sorted(other) == ["TEXT 900", "whole"]
    return given


@pytest.mark.parametrize("slots", [1, 2, 3, 50])
@pytest.mark.parametrize(
    "kinds",
    ["", "t", "n", "tttttttt", "nnnn", "ntntn", "tnnnnt", "nnnnttttnnnn", "tttn", "nttt"],
)
def test_many_plans_can_be_one_plan_of_another_run(kinds: str, slots: int) -> None:
    plans = [
        Plan(text(number) if kind == "t" else nothing(number)) for number, kind in enumerate(kinds)
    ]
    wanted = [
        f"TEXT {number}" if kind == "t" else f"nothing {number}"
        for number, kind in enumerate(kinds)
    ]
    assert answered_together(plans, slots) == wanted


def test_an_error_of_a_joined_plan_ends_the_whole_of_them_and_no_other() -> None:
    def broken() -> Exchange[tuple[str, ...]]:
        yield from ()
        raise BadInput("broken")

    def whole(caught: list[Exception]) -> Exchange[tuple[str, ...]]:
        try:
            yield from joined([Plan(text(1)), Plan(broken()), Plan(text(2))], caught_texts.append)
        except BadInput as error:
            caught.append(error)
        return ("whole",)

    for slots in (1, 3, 50):
        caught: list[Exception] = []
        caught_texts: list[str] = []
        engine = shuffled()
        engine.slots = slots
        found = run_plans(engine, [Plan(whole(caught)), Plan(text(900))], in_order=False)
        assert sorted(found) == ["TEXT 900", "whole"]
        assert [str(error) for error in caught] == ["broken"]


def test_joined_plans_are_begun_as_the_engine_has_room() -> None:
    begun: list[int] = []

    def counted() -> Iterator[Plan[str]]:
        for number in range(100):
            begun.append(number)
            yield Plan(text(number))

    def whole() -> Exchange[tuple[str, ...]]:
        yield from joined(counted(), most.append)
        return ()

    most: list[str] = []
    engine = shuffled()
    run = engine.run

    def watched(requests: Iterable[Request | None]) -> Iterator[Event]:
        for event in run(requests):
            assert len(begun) <= len(most) + engine.slots + 1
            yield event

    engine.run = watched  # type: ignore[method-assign]
    assert list(run_plans(engine, [Plan(whole())])) == []
    assert len(most) == 100


def test_fair_plans_take_turns_and_one_with_much_to_ask_holds_up_no_other() -> None:
    def much() -> Exchange[tuple[str, ...]]:
        asked: Iterable[Request] = [request(f"much {number}") for number in range(50)]
        for _ in range(100):  # a Chunk and a Completion each
            yield asked
            asked = ()
        return ("much",)

    plans = [Plan(much()), *(Plan(text(number)) for number in range(10))]
    found = list(run_plans(shuffled(), plans, in_order=False, fair=True))
    assert sorted(found[:10]) == sorted(f"TEXT {number}" for number in range(10))
    assert found[10] == "much"
