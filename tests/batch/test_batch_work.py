"""Rows into records: settings of their own, seeds, failures, order, and how many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from support.fake_engine import INFO, FakeEngine

from gptcli.batch.input.row import Row, digest
from gptcli.batch.output.stream import Stream
from gptcli.batch.run.order import RowWindow
from gptcli.batch.run.width import Width, width
from gptcli.batch.run.work import Done, Work, answered
from gptcli.engines import open_engine
from gptcli.errors import BadInput
from gptcli.options import Load, Sampling
from gptcli.protocol import GenerateRequest
from gptcli.tasks.definition import catalog
from gptcli.tasks.prompts import worded


def row(number: int, text: str = "Once", **more) -> Row:
    return Row(number, digest(text.encode()), more.pop("id", str(number)), text, **more)


def work(sampling: Sampling | None = None, **more) -> Work:
    return Work(load=Load(), sampling=sampling or Sampling(seed=5), **more)


def engine(**more) -> FakeEngine:
    return FakeEngine(reply=lambda r: r.prompt.upper(), info=replace(INFO, context=900), **more)


def records(
    engine: FakeEngine, rows: Iterable[Row | None], job: Work | None = None, at_once: int = 4
) -> list[Done]:
    found = answered(engine, job or work(), iter(rows), Width(at_once, at_once))
    return sorted(found, key=lambda done: done.row.number)


def test_every_row_has_a_record_with_its_own_id() -> None:
    found = records(engine(), [row(0, "a", id="x"), None, row(1, "b"), None])
    assert [(d.record["id"], d.record["text"]) for d in found] == [("x", "A"), ("1", "B")]


def test_a_rows_settings_are_its_own_and_its_seed_its_number() -> None:
    fake = engine(asked=[])
    records(fake, [row(0), row(1, overrides={"temperature": 0.5}), row(2, overrides={"seed": 9})])
    assert fake.asked is not None
    asked = sorted(fake.asked, key=lambda request: int(request.id))
    assert [request.sampling.seed for request in asked] == [5, 6, 9]
    assert [request.sampling.temperature for request in asked] == [0.8, 0.5, 0.8]


def test_bad_rows_have_errors_and_the_others_go_on() -> None:
    bad = BadInput("row 1", "not UTF-8", "")
    rows = [row(0), row(1, error=bad), row(2, overrides={"num_beams": 2, "logprobs": 1}), row(3)]
    found = records(engine(), rows)
    assert [done.failed for done in found] == [False, True, True, False]
    assert found[1].record["error"] == bad.to_dict()


def test_many_bad_rows_in_a_row_do_not_stop_anything() -> None:
    bad = BadInput("row", "empty", "")
    rows = [row(n, error=bad) for n in range(500)] + [row(500)]
    assert sum(done.failed for done in records(engine(), rows)) == 500


def test_several_sequences_are_one_record() -> None:
    [done] = records(engine(), [row(0)], work(Sampling(seed=1, num_return_sequences=3)))
    choices = done.record["choices"]
    assert isinstance(choices, list)
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert done.completion_tokens == 3


def test_no_more_rows_are_in_flight_than_the_width() -> None:
    pulled, emitted, most = 0, 0, 0

    def rows() -> Iterator[Row]:
        nonlocal pulled
        for number in range(30):
            pulled += 1
            yield row(number)

    for _ in answered(engine(), work(), rows(), Width(3, 3)):
        emitted += 1
        most = max(most, pulled - emitted)
    assert emitted == 30
    assert most <= 3


def test_a_task_answers_rows() -> None:
    task = catalog.find("classify")
    wording = worded(task, {option.name: option.default for option in task.options})
    bad = BadInput("row", "empty", "")
    found = records(engine(), [row(0), row(1, error=bad), row(2, id="c")], work(wording=wording))
    assert [done.record["id"] for done in found] == ["0", "1", "c"]
    assert [done.failed for done in found] == [False, True, False]
    assert found[2].record["labels"]


def test_text_depends_on_seed_and_number_alone(tiny: Path) -> None:
    rows = [row(n, "Once upon a time"[: 4 + n % 12]) for n in range(24)]
    texts = set()
    for size in (1, 3, 8):
        opened = open_engine(Load(model=str(tiny)), size)
        job = work(Sampling(seed=3, max_new_tokens=9))
        shuffled = Random(size).sample(rows, len(rows))
        found = records(opened, shuffled, job, size)  # type: ignore[arg-type]
        texts.add(tuple(str(done.record["text"]) for done in found))
    assert len(texts) == 1
    assert len(set(texts.pop())) > 12  # rows are not all alike


# Order


def numbered(numbers: Iterable[int]) -> Iterator[Done]:
    for number in numbers:
        yield Done(row(number), {"error": None}, 1, 1)


def test_rows_come_out_in_the_order_of_the_input() -> None:
    window = RowWindow(Stream(lambda text: None), 100)
    found = [done.row.number for done in window.ordered(numbered([2, 0, 1, 4, 3]))]
    assert found == [0, 1, 2, 3, 4]


def test_no_more_rows_go_in_than_the_window_holds() -> None:
    window = RowWindow(Stream(lambda text: None), 2)
    pulled = window.rows(iter([row(0), row(1), row(2)]))
    assert [next(pulled), next(pulled)] == [row(0), row(1)]
    assert next(pulled) is None
    assert [d.row.number for d in window.ordered(numbered([0]))] == [0]
    assert next(pulled) == row(2)


class Half:
    """A journal that has every row with an even number."""

    def skip(self, row: Row) -> bool:
        return row.number % 2 == 0


def test_rows_that_are_there_pass_by() -> None:
    window = RowWindow(Half(), 8)  # type: ignore[arg-type]
    rows = [r for r in window.rows(iter([row(n) for n in range(6)])) if r]
    assert [r.number for r in rows] == [1, 3, 5]
    assert [d.row.number for d in window.ordered(numbered([5, 3, 1]))] == [1, 3, 5]
    assert window.due == 6


# Width


def settled(speeds: dict[int, float], most: int = 64) -> int:
    """The width that is found where each gives so many tokens a second."""
    time = 0.0
    found = Width(4, most, settled=False, clock=lambda: time)
    for _ in range(5000):
        if found.settled:
            return found.limit
        time += found.limit / speeds[found.limit]
        for _ in range(found.limit):
            found.written(1, found.limit)
    raise AssertionError("never settles")


@pytest.mark.parametrize(
    ("speeds", "limit"),
    [
        ({4: 10, 8: 20, 16: 40, 32: 41}, 16),
        ({4: 10, 8: 9}, 4),
        ({4: 10, 8: 20, 16: 40, 32: 80, 64: 160}, 64),
    ],
)
def test_the_width_is_doubled_while_it_pays(speeds: dict[int, float], limit: int) -> None:
    assert settled(speeds) == limit


def test_the_width_stays_within_the_memory() -> None:
    assert settled({4: 10, 8: 20, 16: 40}, most=20) == 16
    assert width(None, 3).limit == 3


def test_a_width_that_is_given_stays() -> None:
    given = width(7, 64)
    for _ in range(1000):
        given.written(1, 7)
    assert (given.limit, given.most) == (7, 7)


def test_a_batch_that_is_not_full_says_nothing_of_the_width() -> None:
    time = 0.0
    found = Width(8, 64, settled=False, clock=lambda: time)
    for _ in range(1000):
        time += 1
        found.written(1, 5)
    assert (found.limit, found.settled) == (8, False)


def test_requests_carry_the_overflow_rule() -> None:
    fake = engine(asked=[])
    records(fake, [row(0)], work(on_overflow="truncate-left"))
    assert fake.asked == [
        GenerateRequest(
            id="0",
            prompt="Once",
            sampling=Sampling(seed=5),
            on_overflow="truncate-left",
            shown=False,
        )
    ]
