"""`--server`: an engine behind an OpenAI-compatible endpoint, against a real local server."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import islice
from pathlib import Path

import pytest
from support import fake_server
from support.commands import REAL, environment, run, start
from support.fake_server import FakeServer, cutting, event, failing, saying, stalling, streaming
from support.remote import QUICK, opened

from gptcli.engines import open_engine
from gptcli.engines.remote import connect
from gptcli.engines.remote.client import Patience, endpoint
from gptcli.engines.remote.retry import pause
from gptcli.errors import BadInput, GptcliError, Unavailable, UsageError
from gptcli.options import Load, Sampling
from gptcli.protocol import (
    ChoiceLogprobs,
    Chunk,
    Completion,
    Engine,
    Event,
    GenerateRequest,
    LoglikelihoodRequest,
    Request,
)

PLAIN = Sampling(max_new_tokens=12)


pytestmark = pytest.mark.usefixtures("no_surroundings")


def asked(*prompts: str, sampling: Sampling = PLAIN) -> list[Request]:
    return [GenerateRequest(id=str(n), prompt=p, sampling=sampling) for n, p in enumerate(prompts)]


def completions(engine: Engine, requests: list[Request]) -> list[Completion]:
    done = [item for item in engine.run(requests) if isinstance(item, Completion)]
    return sorted(done, key=lambda item: (int(item.id), item.index))


def one(server: FakeServer, sampling: Sampling = PLAIN, prompt: str = "Once") -> Completion:
    [done] = completions(opened(server), asked(prompt, sampling=sampling))
    return done


def scored(server: FakeServer, prompt: str, *choices: str) -> ChoiceLogprobs:
    [score] = opened(server).run([LoglikelihoodRequest(id="0", prompt=prompt, choices=choices)])
    assert isinstance(score, ChoiceLogprobs)
    return score


def text(part: str, finish: str | None = None, index: int = 0) -> bytes:
    return event({"choices": [{"index": index, "text": part, "finish_reason": finish}]})


def joined(events: list[Event]) -> str:
    return "".join(item.text for item in events if isinstance(item, Chunk))


# What comes back.


def test_each_prompt_gets_its_own_text(server: FakeServer) -> None:
    done = completions(opened(server), asked("a", "b", "c"))
    assert [item.text for item in done] == [f" answer 0 to {name}" for name in "abc"]
    assert [item.prompt for item in done] == ["a", "b", "c"]


def test_a_completion_says_model_and_reason_and_has_no_token_ids(server: FakeServer) -> None:
    done = one(server)
    assert (done.model, done.revision, done.finish_reason) == ("gpt2", None, "stop")
    assert (done.tokens, done.error, done.logprobs, done.notices) == ((), None, None, ())


def test_chunks_come_one_by_one_and_join_to_the_whole(server: FakeServer) -> None:
    *chunks, last = opened(server).run(asked("Once"))
    assert isinstance(last, Completion)
    assert [item.text for item in chunks] == [" answer", " 0", " to", " Once"]
    assert joined(chunks) == last.text


def test_a_chunk_is_given_out_before_the_text_is_finished(server: FakeServer) -> None:
    server.hold = threading.Event()
    events = opened(server).run(asked("Once"))
    first = next(events)
    server.hold.set()
    rest = list(events)
    assert isinstance(first, Chunk)
    assert first.text + joined(rest) == " answer 0 to Once"


def test_a_server_that_does_not_stream_gives_the_whole_text(server: FakeServer) -> None:
    server.always = fake_server.whole
    done = one(server)
    assert (done.text, done.finish_reason) == (" answer 0 to Once", "length")
    assert done.usage.to_dict()["total_tokens"] == 8


def test_n_sequences_are_told_apart(server: FakeServer) -> None:
    events = list(opened(server).run(asked("Once", sampling=Sampling(num_return_sequences=3))))
    done = [item for item in events if isinstance(item, Completion)]
    assert server.bodies[0]["n"] == 3
    assert [item.index for item in done] == [0, 1, 2]
    for item in done:
        assert item.text == f" answer {item.index} to Once"
        assert item.text == "".join(
            e.text for e in events if isinstance(e, Chunk) and e.index == item.index
        )


def test_of_a_greedy_text_one_is_asked_for_and_n_are_given(server: FakeServer) -> None:
    sampling = Sampling(greedy=True, num_return_sequences=3)
    done = completions(opened(server), asked("Once", sampling=sampling))
    assert "n" not in server.bodies[0]
    assert [(item.index, item.text) for item in done] == [
        (index, " answer 0 to Once") for index in range(3)
    ]


def test_the_usage_is_the_servers(server: FakeServer) -> None:
    assert one(server).usage.to_dict() == {
        "prompt_tokens": 7,
        "completion_tokens": 4,
        "total_tokens": 11,
    }


def test_the_usage_of_several_sequences_is_estimated_for_each(server: FakeServer) -> None:
    done = completions(opened(server), asked("x", sampling=Sampling(num_return_sequences=2)))
    assert [item.usage.prompt_tokens for item in done] == [7, 7]
    assert [item.usage.completion_tokens for item in done] == [5, 5]  # 14 bytes


def test_without_a_usage_it_is_estimated(server: FakeServer) -> None:
    server.plan = [streaming(text("abcdef", "stop"))]
    usage = one(server, prompt="123456789").usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 2)


@pytest.mark.parametrize(
    ("said", "reason", "noticed"),
    [
        ("stop", "stop", ""),
        ("length", "length", ""),
        ("content_filter", "content_filter", "content_filter"),
    ],
)
def test_the_reason_for_the_end(server: FakeServer, said: str, reason: str, noticed: str) -> None:
    server.plan = [streaming(text("x", said))]
    done = one(server)
    assert done.finish_reason == reason
    assert noticed in "".join(done.notices)
    assert bool(done.notices) == bool(noticed)


def test_log_probabilities(server: FakeServer) -> None:
    server.reply = lambda body, index: " yes"
    done = one(server, Sampling(logprobs=2))
    assert server.bodies[0]["logprobs"] == 2
    assert done.logprobs is not None
    [token] = done.logprobs
    assert (token.token, token.logprob, token.id) == (" yes", -0.5, -1)
    assert [(other.token, other.logprob) for other in token.top] == [
        (" yes", -0.5),
        (" other", -1.5),
    ]


def test_no_others_are_listed_where_none_were_asked_for(server: FakeServer) -> None:
    done = one(server, Sampling(logprobs=0))
    assert done.logprobs
    assert all(item.top == () for item in done.logprobs)
    assert done.usage.completion_tokens == len(done.logprobs)


def test_missing_log_probabilities_are_noticed(server: FakeServer) -> None:
    server.always = fake_server.whole
    done = one(server, Sampling(logprobs=1))
    assert done.logprobs == ()
    assert done.notices == ("the server gave no log-probabilities",)


def test_characters_survive_any_cut_of_the_stream(server: FakeServer) -> None:
    wanted = " naïve 日本 😀 \u2028 \x85 end"
    data = text(wanted) + text("", "stop")
    server.plan = [streaming(*(data[i : i + 1] for i in range(len(data))))]
    assert one(server).text == wanted


def test_a_character_cut_into_two_escapes_is_joined(server: FakeServer) -> None:
    halves = [f'data: {{"choices": [{{"text": "\\u{half}"}}]}}\n\n' for half in ("d83d", "de00")]
    server.plan = [streaming(*(half.encode() for half in halves), text("!", "stop"))]
    assert one(server).text == "😀!"


def test_half_a_character_becomes_a_replacement(server: FakeServer) -> None:
    half = b'data: {"choices": [{"text": "a\\ud83d", "finish_reason": "stop"}]}\n\n'
    server.plan = [streaming(half)]
    assert one(server).text == "a\ufffd"


# What is asked.


def test_what_is_sent_by_default(server: FakeServer) -> None:
    done = one(server, Sampling())
    assert server.bodies == [
        {
            "model": "gpt2",
            "prompt": "Once",
            "max_tokens": 128,
            "temperature": 0.8,
            "top_p": 0.95,
            "seed": done.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


def test_a_drawn_seed_is_sent_and_told(server: FakeServer) -> None:
    done = completions(opened(server), asked("a", "b"))
    sent = {body["prompt"]: body["seed"] for body in server.bodies}
    assert {item.prompt: item.seed for item in done} == sent
    assert sent["a"] != sent["b"]


def test_a_given_seed_is_sent(server: FakeServer) -> None:
    assert one(server, Sampling(seed=0)).seed == 0
    assert server.bodies[0]["seed"] == 0


@pytest.mark.parametrize(
    ("sampling", "sent"),
    [
        (Sampling(top_k=5), {"top_k": 5}),
        (Sampling(top_k=0), {"top_k": -1}),
        (Sampling(min_p=0.1), {"min_p": 0.1}),
        (Sampling(repetition_penalty=1.2), {"repetition_penalty": 1.2}),
        (Sampling(min_new_tokens=4), {"min_tokens": 4}),
        (Sampling(stop_token_id=(5, 6)), {"stop_token_ids": [5, 6]}),
        (Sampling(presence_penalty=0.5), {"presence_penalty": 0.5}),
        (Sampling(frequency_penalty=-1), {"frequency_penalty": -1}),
        (Sampling(logit_bias=(("198", -100.0),)), {"logit_bias": {"198": -100.0}}),
        (Sampling(stop=("\n", "x")), {"stop": ["\n", "x"]}),
        (Sampling(max_new_tokens=3), {"max_tokens": 3}),
        (Sampling(temperature=0.001), {"temperature": 0.01}),
    ],
)
def test_a_setting_is_sent(server: FakeServer, sampling: Sampling, sent: dict[str, object]) -> None:
    one(server, sampling)
    assert sent.items() <= server.bodies[0].items()


def test_ids_are_sent_as_a_list(server: FakeServer) -> None:
    server.reply = lambda body, index: " answer"
    [done] = completions(opened(server), [GenerateRequest(id="0", prompt=(5, 6))])
    assert server.bodies[0]["prompt"] == [5, 6]
    assert (done.prompt, done.text) == ((5, 6), " answer")
    assert "token_ids" not in done.to_dict()
    assert done.to_dict()["prompt"] == [5, 6]


def test_greedy_sends_nothing_about_chance(server: FakeServer) -> None:
    one(server, Sampling(greedy=True, top_k=5, min_p=0.1))
    assert server.bodies[0]["temperature"] == 0
    assert not {"top_p", "top_k", "min_p", "n"} & server.bodies[0].keys()


@pytest.mark.parametrize(
    ("sampling", "flag"),
    [
        (Sampling(typical_p=0.5), "--typical-p"),
        (Sampling(no_repeat_ngram_size=3), "--no-repeat-ngram-size"),
        (Sampling(stop_on_loop=True), "--stop-on-loop"),
        (Sampling(bad_words=("x",)), "--bad-words"),
        (Sampling(num_beams=2), "--num-beams"),
        (Sampling(logit_bias=((" the", 1.0),)), "--logit-bias"),
        (Sampling(max_length=9), "--max-length"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_its_flag(
    server: FakeServer, sampling: Sampling, flag: str
) -> None:
    done = one(server, sampling)
    assert isinstance(done.error, UsageError)
    assert done.error.what == flag
    assert server.bodies == []


def test_cutting_to_fit_is_refused(server: FakeServer) -> None:
    request = GenerateRequest(id="0", prompt="x", on_overflow="truncate-left")
    [done] = completions(opened(server), [request])
    assert done.error is not None
    assert done.error.what == "--on-overflow"


def test_a_refused_request_fails_once_and_the_others_go_on(server: FakeServer) -> None:
    bad = Sampling(num_return_sequences=3, typical_p=0.5)
    requests = [*asked("a"), GenerateRequest(id="1", prompt="b", sampling=bad)]
    done = completions(opened(server), requests)
    assert [(item.id, item.error is None) for item in done] == [("0", True), ("1", False)]


# Stop strings.


def test_stop_strings_beyond_the_servers_four_are_watched_here(server: FakeServer) -> None:
    server.reply = lambda body, index: " one two three four five"
    stop = ("a1", "a2", "a3", "a4", "ee fo")
    *chunks, done = opened(server).run(asked("x", sampling=Sampling(stop=stop)))
    assert isinstance(done, Completion)
    assert server.bodies[0]["stop"] == list(stop[:4])
    assert (done.text, done.finish_reason) == (" one two thr", "stop")
    assert joined(chunks) == done.text


def test_a_stop_string_found_here_ends_the_stream(server: FakeServer) -> None:
    server.hold = threading.Event()
    server.reply = lambda body, index: " one two"
    assert one(server, Sampling(stop=("one",))).text == " "
    assert server.left.wait(5)


def test_what_might_have_become_a_stop_string_is_given_in_the_end(server: FakeServer) -> None:
    server.reply = lambda body, index: " one two"
    assert one(server, Sampling(stop=("two three",))).text == " one two"


# Many at a time.


def test_as_many_requests_as_places_are_in_flight_and_no_more(server: FakeServer) -> None:
    server.hold = threading.Event()
    found: list[Completion] = []
    engine = opened(server, places=3)
    worker = threading.Thread(target=lambda: found.extend(completions(engine, asked(*"abcdefg"))))
    worker.start()
    full = server.wait_for(3)
    time.sleep(0.1)  # a fourth would come now
    server.hold.set()
    worker.join(10)
    assert full
    assert server.most == 3
    assert len(found) == 7


def test_requests_are_pulled_only_when_there_is_a_place(server: FakeServer) -> None:
    pulled: list[int] = []

    def endless() -> Iterator[Request]:
        while True:
            pulled.append(len(pulled))
            yield GenerateRequest(id=str(pulled[-1]), prompt="x", sampling=PLAIN)

    events = opened(server, places=2).run(endless())
    done = (item for item in events if isinstance(item, Completion))
    assert len(list(islice(done, 5))) == 5
    assert len(pulled) <= 5 + 2
    events.close()


def test_who_finishes_first_comes_first(server: FakeServer) -> None:
    server.hold = threading.Event()
    server.always = lambda handler, body: (
        fake_server.whole if body["prompt"] == "quick" else fake_server.answer
    )(handler, body)
    order = []
    for item in opened(server).run(asked("slow", "quick")):
        if isinstance(item, Completion):
            order.append(item.prompt)
            server.hold.set()
    assert order == ["quick", "slow"]


def test_none_means_no_request_right_now(server: FakeServer) -> None:
    first, second = asked("a", "b")
    waiting = [None, first, None, None, second, None]
    done = [e for e in opened(server).run(waiting) if isinstance(e, Completion)]
    assert {item.prompt for item in done} == {"a", "b"}


def test_events_come_while_there_is_no_request_right_now(server: FakeServer) -> None:
    finished = threading.Event()

    def queue() -> Iterator[Request | None]:
        yield asked("a")[0]
        while not finished.is_set():
            yield None

    done = []
    for item in opened(server).run(queue()):
        if isinstance(item, Completion):
            done.append(item.text)
            finished.set()
    assert done == [" answer 0 to a"]


def test_two_runs_at_once_do_not_disturb_each_other(server: FakeServer) -> None:
    engine = opened(server)
    outer = engine.run(asked("a"))
    started = next(outer)
    assert [item.text for item in completions(engine, asked("b"))] == [" answer 0 to b"]
    assert joined([started, *outer]) == " answer 0 to a"


def test_no_requests_no_questions(server: FakeServer) -> None:
    assert list(opened(server).run([])) == []
    assert server.bodies == []


# Cancelling and leaving.


def test_a_cancelled_request_lets_go_of_the_server(server: FakeServer) -> None:
    server.hold = threading.Event()
    engine = opened(server)
    events = engine.run(asked("Once", sampling=Sampling(num_return_sequences=1)))
    first = next(events)
    engine.cancel("0")
    *_, done = events
    assert isinstance(done, Completion)
    assert (done.finish_reason, done.error, done.text) == ("cancelled", None, first.text)
    assert server.left.wait(5)


def test_a_cancelled_request_does_not_end_the_others(server: FakeServer) -> None:
    server.plan = [fake_server.silent]
    engine = opened(server)
    done: list[Completion] = []

    def cancelling() -> Iterator[Request | None]:
        yield asked("a")[0]
        while not server.bodies:
            yield None
        yield asked("a", "b")[1]
        while not done:
            yield None
        engine.cancel("0")

    for item in engine.run(cancelling()):
        if isinstance(item, Completion):
            done.append(item)
    assert [(item.id, item.finish_reason) for item in done] == [("1", "stop"), ("0", "cancelled")]


def test_a_request_can_be_cancelled_before_it_is_pulled(server: FakeServer) -> None:
    engine = opened(server, places=1)
    events = engine.run(asked("a", "b"))
    started = next(events)
    engine.cancel("1")
    done = [item for item in events if isinstance(item, Completion)]
    assert isinstance(started, Chunk)
    assert [item.finish_reason for item in done] == ["stop", "cancelled"]
    assert [body["prompt"] for body in server.bodies] == ["a"]


def test_a_cancelled_id_can_be_used_again(server: FakeServer) -> None:
    engine = opened(server)
    engine.cancel("0")
    assert [item.finish_reason for item in completions(engine, asked("a"))] == ["stop"]


def test_a_cancelled_text_keeps_what_was_held_back(server: FakeServer) -> None:
    def two_at_once(handler: fake_server.Handler, body: fake_server.Body) -> None:
        handler.begin_stream()
        handler.send_part(text(" answer") + text(" 0"))  # so the second is there with the first
        fake_server.silent(handler, body)

    server.plan = [two_at_once]
    engine = opened(server)
    events = engine.run(asked("x", sampling=Sampling(stop=(" 0 never",))))
    first = next(events)
    engine.cancel("0")
    *chunks, done = events
    assert isinstance(done, Completion)
    assert joined([first, *chunks]) == done.text == " answer 0"


def test_leaving_a_run_ends_its_streams_and_its_thread(server: FakeServer) -> None:
    server.hold = threading.Event()
    events = opened(server).run(asked("a"))
    next(events)
    begun = time.monotonic()
    events.close()
    assert server.left.wait(5)
    assert time.monotonic() - begun < 2
    gc.collect()  # a socket left open would warn, and a warning fails the test
    assert not [t for t in threading.enumerate() if t.name == "server"]


# Trying again.


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(server: FakeServer, status: int) -> None:
    server.plan = [failing(status)] * 4
    done = one(server)
    assert (done.text, done.error) == (" answer 0 to Once", None)
    assert len(server.bodies) == 5
    assert len({body["seed"] for body in server.bodies}) == 1


@pytest.mark.parametrize(
    ("behaviour", "kind", "tries"),
    [
        (failing(503), Unavailable, 5),
        (failing(429), Unavailable, 5),
        (fake_server.hanging_up, Unavailable, 5),
        (streaming(), Unavailable, 5),
        (failing(501), Unavailable, 1),
        (failing(400), BadInput, 1),
        (failing(413), BadInput, 1),
        (failing(422), BadInput, 1),
        (failing(307, Location="http://elsewhere.invalid/v1"), Unavailable, 1),
        (saying("text/html", b"<html>"), Unavailable, 1),
        (saying("application/json", b'{"choices": ['), Unavailable, 1),
        (saying("application/json", b"[" * 100_000), Unavailable, 1),
        (saying("application/json", b"\xff\xfe"), Unavailable, 1),
        (saying("application/json", b'{"object": "list"}'), Unavailable, 1),
        (saying("application/json", b'{"choices": 5}'), Unavailable, 1),
        (saying("application/json", b'{"choices": [5]}'), Unavailable, 1),
        (saying("application/json", b'{"choices": [{"text": 5}]}'), Unavailable, 1),
        (saying("application/json", b'{"choices": [{"text": "", "index": 7}]}'), Unavailable, 1),
        (saying("application/json", b'{"choices": [{"text": "", "index": -1}]}'), Unavailable, 1),
        (saying("application/json", b'{"choices": []}'), Unavailable, 5),
        (streaming(b"data: {nonsense\n\n"), Unavailable, 1),
        (streaming(b"data: \xff\n\n"), Unavailable, 1),
        (streaming(b"data: [1]\n\n"), Unavailable, 1),
        (streaming(event({"choices": []})), Unavailable, 5),
        (streaming(event({"error": {"message": "no", "code": 400}})), BadInput, 1),
        (streaming(event({"error": {"message": "no", "code": 500}})), Unavailable, 5),
        (streaming(event({"error": "no"})), Unavailable, 1),
    ],
)
def test_what_a_broken_server_comes_to(
    server: FakeServer, behaviour: fake_server.Behaviour, kind: type[GptcliError], tries: int
) -> None:
    server.always = behaviour
    done = one(server)
    assert type(done.error) is kind
    assert (done.finish_reason, done.text) == ("error", "")
    assert done.error.hint
    assert len(server.bodies) == tries


def test_one_broken_answer_does_not_end_the_others(server: FakeServer) -> None:
    server.plan = [failing(400, "prompt too long")]
    done = completions(opened(server, places=1), asked("a", "b", "c"))
    assert [item.error is None for item in done] == [False, True, True]
    assert "prompt too long" in str(done[0].error)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0.2", 0.2), ("0", 0.0), ("-5", 0.0), ("3600", 2.0), ("nonsense", None), ("inf", None)],
)
def test_retry_after_is_honoured_and_capped(
    server: FakeServer, value: str, seconds: float | None
) -> None:
    server.plan = [failing(429, Retry_After=value)]
    patience = Patience(first=0.001, longest=2.0, total=1.9)  # 2 s would be too long to wait
    begun = time.monotonic()
    [done] = completions(opened(server, patience=patience), asked("a"))
    if seconds == 2.0:
        assert isinstance(done.error, Unavailable)
        assert len(server.bodies) == 1
    else:
        assert done.error is None
        assert time.monotonic() - begun >= (seconds or 0)


def test_retry_after_can_be_a_date() -> None:
    import httpx2

    from gptcli.engines.remote.wire import StatusError

    def wait(date: str) -> float | None:
        error = StatusError(429, httpx2.Headers({"Retry-After": date}), None)
        return pause(error, 1, Patience(longest=30))

    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)
    assert 8 < (wait(soon) or 0) <= 10
    assert wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert wait("Fri, 31 Dec 9999 23:59:59 GMT") == 30


def test_pauses_grow_and_are_capped() -> None:
    from gptcli.engines.remote.failures import CutOff

    patience = Patience(tries=9, first=1.0, longest=8.0)
    pauses = [pause(CutOff(), tried, patience) for tried in range(1, 10)]
    for value, longest in zip(pauses, (1, 2, 4, 8, 8, 8, 8, 8), strict=False):
        assert value is not None
        assert longest / 2 <= value <= longest
    assert pauses[-1] is None


def test_a_stream_cut_before_any_text_is_begun_again(server: FakeServer) -> None:
    server.plan = [cutting(0), streaming(text(""), done=False)]
    done = one(server)
    assert (done.text, done.error) == (" answer 0 to Once", None)
    assert len(server.bodies) == 3


def test_what_was_held_back_of_a_cut_stream_is_not_repeated(server: FakeServer) -> None:
    server.plan = [cutting(1)]
    done = one(server, Sampling(stop=(" answer never",)))
    assert (done.text, done.error) == (" answer 0 to Once", None)


@pytest.mark.parametrize("behaviour", [cutting(2), stalling(2)])
def test_a_stream_that_breaks_in_the_middle_is_an_error_that_keeps_the_text(
    server: FakeServer, behaviour: fake_server.Behaviour
) -> None:
    server.plan = [behaviour]
    engine = opened(server, patience=Patience(read=0.2, first=0.001))
    *chunks, done = engine.run(asked("Once"))
    assert isinstance(done, Completion)
    assert isinstance(done.error, Unavailable)
    assert (done.text, done.finish_reason) == (" answer 0", "error")
    assert joined(chunks) == done.text
    assert len(server.bodies) == 1


def test_an_end_without_a_reason_is_a_cut(server: FakeServer) -> None:
    server.plan = [streaming(text("half a"))]
    done = one(server)
    assert isinstance(done.error, Unavailable)
    assert "broke off" in str(done.error)


def test_a_text_that_was_finished_is_not_lost_with_its_usage(server: FakeServer) -> None:
    server.plan = [streaming(text("all of it", "stop"), done=False)]
    done = one(server)
    assert (done.text, done.error, done.finish_reason) == ("all of it", None, "stop")


def test_a_server_that_does_not_answer_is_left(server: FakeServer) -> None:
    server.always = fake_server.silent
    engine = opened(server, patience=Patience(tries=2, read=0.2, first=0.001))
    begun = time.monotonic()
    [done] = completions(engine, asked("a"))
    assert isinstance(done.error, Unavailable)
    assert "does not answer" in str(done.error)
    assert len(server.bodies) == 2
    assert time.monotonic() - begun < 3


def test_no_try_begins_after_the_time_is_up(server: FakeServer) -> None:
    server.always = failing(503)
    engine = opened(server, patience=Patience(tries=1000, first=0.05, longest=0.05, total=0.3))
    begun = time.monotonic()
    [done] = completions(engine, asked("a"))
    assert isinstance(done.error, Unavailable)
    assert time.monotonic() - begun < 2


def test_a_long_message_of_the_server_is_shortened(server: FakeServer) -> None:
    server.always = failing(400, "too long\n" * 1000)
    message = str(one(server).error)
    assert len(message) < 500
    assert "\n" not in message


# Opening.


def test_the_model_is_the_servers_first(server: FakeServer) -> None:
    server.models = [{"id": "one", "max_model_len": 77}, {"id": "two"}]
    info = opened(server).info
    assert (info.name, info.context, info.notices) == ("one", 77, ())
    assert (info.vocabulary, info.parameters, info.folder) == (0, 0, None)


def test_the_model_named_is_asked_for(server: FakeServer) -> None:
    server.models.append({"id": "tuned", "max_model_len": 5})
    engine = connect(Load(server=server.url, model="tuned"), 1, QUICK)
    completions(engine, asked("a"))
    assert engine.info.context == 5
    assert server.bodies[0]["model"] == "tuned"


@pytest.mark.parametrize("length", [None, 0, -1, "long"])
def test_an_unknown_context_is_noticed(server: FakeServer, length: object) -> None:
    server.models = [{"id": "one", "max_model_len": length}]
    info = opened(server).info
    assert info.context >= 10**6
    assert "does not say" in info.notices[0]


def test_a_server_without_a_list_needs_a_name(server: FakeServer) -> None:
    server.models_answer = failing(404)
    engine = connect(Load(server=server.url, model="mine"), 1, QUICK)
    assert [item.model for item in completions(engine, asked("a"))] == ["mine"]
    with pytest.raises(Unavailable):
        opened(server)


def test_a_server_without_models_says_so(server: FakeServer) -> None:
    server.models = []
    with pytest.raises(Unavailable, match="no model"):
        opened(server)


@pytest.mark.parametrize(
    "behaviour",
    [
        failing(500),
        saying("text/html", b"<html>hello</html>"),
        saying("application/json", b"{"),
        saying("application/json", b"[]"),
        saying("application/json", b'{"data": 5}'),
    ],
)
def test_a_server_that_lists_nonsense_is_unavailable(
    server: FakeServer, behaviour: fake_server.Behaviour
) -> None:
    server.models_answer = behaviour
    with pytest.raises(Unavailable) as raised:
        opened(server)
    assert server.url in str(raised.value)


def test_a_refused_connection_is_said_within_seconds() -> None:
    begun = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        connect(Load(server="http://127.0.0.1:9/v1"))
    assert time.monotonic() - begun < 5
    assert "http://127.0.0.1:9/v1" in str(raised.value)
    assert "refused" in str(raised.value)


def test_a_server_that_is_gone_fails_the_request(server: FakeServer) -> None:
    engine = connect(Load(server=server.url), 1, QUICK)
    server.__exit__(None, None, None)
    [done] = completions(engine, asked("a"))
    assert isinstance(done.error, Unavailable)


def test_flags_about_this_machine_are_said_to_be_unused(server: FakeServer) -> None:
    load = Load(server=server.url, dtype="float16", revision="main", threads=1)
    notices = " ".join(connect(load, 1, QUICK).info.notices)
    assert [flag in notices for flag in ("--dtype", "--revision", "--threads", "--device")] == [
        True,
        True,
        True,
        False,
    ]


def test_offline_forbids_all_but_this_machine(server: FakeServer) -> None:
    assert connect(Load(server=server.url, offline=True), 1, QUICK).info.name == "gpt2"
    with pytest.raises(UsageError, match="--offline"):
        connect(Load(server="http://host.invalid/v1", offline=True), 1, QUICK)


def test_beams_are_refused_at_once(server: FakeServer) -> None:
    with pytest.raises(UsageError, match="--num-beams"):
        open_engine(Load(server=server.url), beams=True)


def test_without_the_package_it_says_what_to_install(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("gptcli.engines.remote")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(Unavailable, match=r"pip install 'gptcli\[remote\]'"):
        open_engine(Load(server=server.url))


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:8000", "localhost", "ftp://host/v1", "file:///etc/passwd", "http://"),
        *("http:///v1", "http://host:port/v1", "http://host:99999/v1", "http://[::1/v1"),
        *("http://host/v1?key=1", "http://host/v1#x", "http://ho st/v1", "http://host/\n"),
        *("http://name:secret@host/v1", "javascript:alert(1)"),
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        Load(server=url)
    assert raised.value.what == "server"
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://localhost:8000/v1", "https://a.b/v1/", "http://[::1]:1"])
def test_an_address_is_taken(url: str) -> None:
    assert Load(server=url).server == url


# Keys and proxies.


def test_the_key_is_sent(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.key = "sk-secret"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("GPTCLI_API_KEY", "sk-secret")
    assert one(server).error is None


def test_the_openai_key_is_the_second_choice(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "sk-secret"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert one(server).error is None


def test_a_wrong_key_ends_it_and_is_not_shown(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTCLI_API_KEY", "sk-wrong-secret")
    server.key = "sk-right"
    with pytest.raises(Unavailable, match="GPTCLI_API_KEY") as raised:
        opened(server)
    assert "sk-wrong" not in "".join(traceback.format_exception(raised.value))
    assert "sk-wrong" not in repr(endpoint(server.url))


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_refused_later_ends_the_whole_run(server: FakeServer, status: int) -> None:
    server.always = failing(status)
    with pytest.raises(Unavailable, match="key"):
        completions(opened(server, places=1), asked("a", "b"))
    assert len(server.bodies) == 1


def test_an_unknown_model_ends_the_run_and_names_those_there_are(server: FakeServer) -> None:
    server.always = failing(404, "no such model")
    with pytest.raises(Unavailable, match="gpt2"):
        completions(connect(Load(server=server.url, model="x"), 1, QUICK), asked("a", "b"))


@pytest.mark.parametrize("key", ["line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_unseen(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTCLI_API_KEY", key)
    with pytest.raises(UsageError) as raised:
        endpoint("http://localhost/v1")
    assert key not in str(raised.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "a.localhost"])
def test_no_proxy_is_used_for_this_machine(host: str) -> None:
    assert endpoint(f"http://{host}:8000/v1").is_local


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", "localhost.example.org"])
def test_a_proxy_of_the_environment_is_used_for_others(host: str) -> None:
    assert not endpoint(f"http://{host}/v1").is_local


def test_a_dead_proxy_does_not_matter_here(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert one(server).error is None


def test_a_proxy_that_cannot_be_used_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "nonsense://host:1")
    with pytest.raises(Unavailable, match="proxy"):
        connect(Load(server="http://host.invalid/v1"))


def test_a_redirect_is_not_followed(server: FakeServer) -> None:
    with FakeServer() as other:
        server.always = failing(307, Location=f"{other.url}/completions")
        assert other.url in str(one(server).error)
        assert other.bodies == []


# Scoring.


def test_choices_are_scored_by_echo(server: FakeServer) -> None:
    server.always = fake_server.echo
    score = scored(server, "The film was", " good", " very bad")
    assert server.bodies[0]["prompt"] == ["The film was good", "The film was very bad"]
    assert (server.bodies[0]["echo"], server.bodies[0]["max_tokens"]) == (True, 0)
    assert [(item.text, item.logprobs) for item in score.choices] == [
        (" good", (-5.0,)),
        (" very bad", (-5.0, -4.0)),
    ]
    assert (score.error, score.usage.prompt_tokens) == (None, 9)


@pytest.mark.parametrize(
    "behaviour",
    [fake_server.whole, failing(400, "echo is not supported"), failing(422), failing(501)],
)
def test_a_server_that_does_not_score_is_said_to(
    server: FakeServer, behaviour: fake_server.Behaviour
) -> None:
    server.always = behaviour
    score = scored(server, "The film was", " good")
    assert isinstance(score.error, Unavailable)
    assert score.choices == ()


def test_a_choice_inside_a_token_is_refused(server: FakeServer) -> None:
    server.always = fake_server.echo
    error = scored(server, "The film", "s good").error
    assert isinstance(error, BadInput)
    assert "s good" in str(error)


def test_an_empty_choice_is_refused(server: FakeServer) -> None:
    assert isinstance(scored(server, "The film", "").error, BadInput)
    assert server.bodies == []


def test_scoring_is_tried_again_and_can_be_cancelled(server: FakeServer) -> None:
    server.plan = [failing(503), fake_server.echo, fake_server.silent]
    assert scored(server, "The", " end").error is None
    engine = opened(server)

    def requests() -> Iterator[Request | None]:
        yield LoglikelihoodRequest(id="0", prompt="The", choices=(" end",))
        while len(server.bodies) < 3:
            yield None
        engine.cancel("0")

    [score] = engine.run(requests())
    assert isinstance(score, ChoiceLogprobs)
    assert (score.choices, score.notices) == ((), ("cancelled",))


# Counting.


@pytest.mark.parametrize(("words", "tokens"), [("", 0), ("a", 1), ("abcdef", 2), ("日本", 2)])
def test_tokens_are_estimated(server: FakeServer, words: str, tokens: int) -> None:
    assert opened(server).count(words) == tokens


def test_half_a_character_can_be_counted(server: FakeServer) -> None:
    assert opened(server).count("\ud83d") == 1


# The command.


def test_generate_with_a_server(server: FakeServer) -> None:
    done = run(REAL, "generate", "--server", server.url, "Once", "--max-new-tokens", "5")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Once answer 0 to Once\n", b"")
    assert server.bodies[0]["max_tokens"] == 5


def test_generate_writes_json_of_several(server: FakeServer) -> None:
    args = ("Once", "--json", "-n", "2", "-v")
    done = run(REAL, "generate", "--server", server.url, *args)
    assert [item["text"] for item in json.loads(done.stdout)] == [
        " answer 0 to Once",
        " answer 1 to Once",
    ]
    assert b"gpt2 in unknown dtype on http://127.0.0.1" in done.stderr


def test_the_server_can_come_from_the_environment(server: FakeServer) -> None:
    done = run(REAL, "generate", "Once", GPTCLI_SERVER=server.url)
    assert done.stdout == b"Once answer 0 to Once\n"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("--server", "ftp://x"), 2),
        (("--server", "http://127.0.0.1:9/v1"), 69),
    ],
)
def test_generate_without_a_server_fails_in_one_line(args: tuple[str, ...], code: int) -> None:
    done = run(REAL, "generate", *args, "Once")
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.startswith(b"gptcli: error: --server")
    assert done.stderr.count(b"\n") == 1


def test_generate_reports_what_the_server_refuses(server: FakeServer) -> None:
    server.always = failing(400, "context is 1024 \x1b[31m")
    done = run(REAL, "generate", "--server", server.url, "Once")
    assert (done.returncode, done.stdout) == (65, b"")
    assert b"context is 1024" in done.stderr
    assert b"\x1b" not in done.stderr


def test_a_signal_ends_it_at_once(server: FakeServer) -> None:
    server.hold = threading.Event()
    process = start(REAL, "generate", "--server", server.url, "Once")
    assert server.wait_for(1)
    process.terminate()
    assert process.wait(5) == -15
    assert server.left.wait(5)
    process.communicate()


def test_torch_is_not_imported(server: FakeServer, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from gptcli.engines import open_engine\n"
        "from gptcli.options import Load\n"
        "from gptcli.protocol import GenerateRequest\n"
        f"engine = open_engine(Load(server={server.url!r}))\n"
        "print([e.text for e in engine.run([GenerateRequest(id='0', prompt='x')])][-1])\n"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        env=environment(HF_HOME=tmp_path),
        check=True,
        timeout=60,
    )
    assert done.stdout.decode().splitlines() == [" answer 0 to x", "[]"]
    assert done.stderr == b""
    assert not list(tmp_path.iterdir())
