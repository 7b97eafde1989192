"""The engine's thread: what fails ends what it concerns, and the counts stay right."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from support.fake_engine import FakeEngine

from gptcli.options import Sampling
from gptcli.protocol import Event, GenerateRequest, Request
from gptcli.server.engine_thread import ClientJob, EngineThread
from gptcli.server.refusals import Refusal
from gptcli.server.service import Service, ServiceLimits


class Panic(BaseException):
    """What a library in Rust raises."""


class Failing:
    """An engine that fails where a prompt says so."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.inner = error, FakeEngine()
        self.info, self.tokenizer = self.inner.info, None
        self.cancel = self.inner.cancel

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """As the fake engine does."""

        def seen() -> Iterator[Request | None]:
            for request in requests:
                if request is not None and request.prompt == "fail":
                    raise self.error
                yield request

        return self.inner.run(seen())


def job(prompt: str, tokens: int = 10) -> ClientJob:
    """A job that asks one request, and sends on what comes."""

    def begin(send: Callable[[Any], None], ids: Iterator[str]):
        def exchange():
            asked = (GenerateRequest(id=next(ids), prompt=prompt, sampling=Sampling()),)
            if prompt == "plan":
                raise Panic
            while True:
                event = yield asked
                asked = ()
                send(event)
                if hasattr(event, "finish_reason"):
                    return

        return exchange()

    return ClientJob(begin, tokens)


async def outcome(job: ClientJob) -> str:
    try:
        async with asyncio.timeout(5):
            return "done" if [item async for few in job.items() for item in few] else "nothing"
    except Refusal as refusal:
        return str(refusal.status)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("a bug"), Panic()])
def test_a_failure_of_the_engine_is_500_to_its_jobs_and_others_go_on(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        thread = EngineThread(Failing(error))
        thread.start()
        assert await outcome(thread.submit(job("good"))) == "done"
        assert await outcome(thread.submit(job("fail"))) == "500"
        assert await outcome(thread.submit(job("plan"))) == "500"
        assert await outcome(thread.submit(job("good"))) == "done"
        assert thread.alive
        assert thread.failures == 1
        assert (thread.jobs, thread.queued, thread.queued_tokens) == (0, 0, 0)
        thread.close(5)
        assert not thread.alive

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(main())


def test_a_thread_that_ended_is_told_and_refuses(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        service = Service.of(Failing(SystemExit()), ServiceLimits())
        service.engine.start()
        assert service.trouble is None
        assert await outcome(service.submit(job("fail"))) == "500"
        assert service.trouble == "failed"
        with pytest.raises(Exception, match="it has stopped"):
            service.submit(job("good"))
        await asyncio.sleep(0.05)
        assert service.engine.jobs == 0

    with caplog.at_level(logging.CRITICAL + 1):
        asyncio.run(main())


def test_an_engine_that_does_not_step_is_stalled() -> None:
    async def main() -> None:
        limits = ServiceLimits(stall_seconds=0.05)
        service = Service.of(FakeEngine(pause=0.3), limits)
        service.engine.start()
        assert service.engine.stalled == 0
        asked = service.submit(job("good"))
        await asyncio.sleep(0.2)
        assert service.trouble == "stalled"
        assert await outcome(asked) == "done"
        assert service.trouble is None
        service.engine.close(5)

    asyncio.run(main())


def test_counts_are_right_after_cancels_at_any_time() -> None:
    async def main() -> None:
        thread = EngineThread(FakeEngine(pause=0.001))
        ended: list[ClientJob] = []
        thread.observe = ended.append
        thread.start()
        jobs = []
        for number in range(300):
            jobs.append(thread.submit(job("good")))
            if number % 3 == 0:
                await asyncio.sleep(0)
            if number % 2:
                thread.cancel(jobs[number - number % 7])
        for one in jobs[::5]:
            thread.cancel(one)
            thread.cancel(one)
        async with asyncio.timeout(20):
            while thread.jobs:
                await asyncio.sleep(0.01)
        assert (thread.queued, thread.queued_tokens, thread.running) == (0, 0, 0)
        assert len(ended) == len(set(ended)) == 300
        assert all(one.done and not one.ids for one in jobs if not one.cancelled)
        thread.close(5)

    asyncio.run(main())


def test_what_came_before_a_failure_is_given_first() -> None:
    async def main() -> None:
        one = ClientJob(lambda send, ids: iter(()))
        one.put("a")
        one.put("b")
        one.put(Refusal(504, "late"))
        items = one.items()
        assert await anext(items) == ["a", "b"]
        with pytest.raises(Refusal, match="late"):
            await anext(items)

    asyncio.run(main())
