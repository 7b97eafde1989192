"""`--server` against servers as people run them: each is known for one of the habits below."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from support import fake_server
from support.commands import REAL, run
from support.fake_server import FakeServer, cutting, event, failing, saying, streaming
from support.remote import QUICK, opened

from gptcli.engines.remote import RemoteEngine, connect
from gptcli.engines.remote.client import Patience
from gptcli.engines.remote.gate import WHOLE_ANSWERS, Gate
from gptcli.errors import BadInput, Unavailable, UsageError
from gptcli.options import Load, Sampling
from gptcli.protocol import ChoiceLogprobs, Completion, GenerateRequest, LoglikelihoodRequest

pytestmark = pytest.mark.usefixtures("no_surroundings")


def asked(
    engine: RemoteEngine, *prompts: str, sampling: Sampling | None = None, shown: bool = False
) -> list[Completion]:
    requests = [
        GenerateRequest(id=str(number), prompt=prompt, sampling=sampling or Sampling(), shown=shown)
        for number, prompt in enumerate(prompts)
    ]
    done = [item for item in engine.run(requests) if isinstance(item, Completion)]
    return sorted(done, key=lambda item: (int(item.id), item.index))


def scored(engine: RemoteEngine, prompt: str, *choices: str) -> ChoiceLogprobs:
    [score] = engine.run([LoglikelihoodRequest(id="0", prompt=prompt, choices=choices)])
    assert isinstance(score, ChoiceLogprobs)
    return score


def text(part: str, finish: str | None = None, index: int = 0) -> bytes:
    return event({"choices": [{"index": index, "text": part, "finish_reason": finish}]})


# A list of models that fails.


@pytest.mark.parametrize(
    "behaviour",
    [
        *(failing(status) for status in (403, 404, 405, 429, 500, 501, 502, 503)),
        saying("text/html", b"<html>hello</html>"),
        saying("application/json", b"[]"),
        saying("application/json", b"{"),
    ],
)
def test_with_a_model_named_no_list_is_needed(
    server: FakeServer, behaviour: fake_server.Behaviour
) -> None:
    server.models_answer = behaviour
    begun = time.monotonic()
    engine = connect(Load(server=server.url, model="mine"), 1, QUICK)
    assert time.monotonic() - begun < 2  # nothing is tried again
    assert [item.model for item in asked(engine, "a")] == ["mine"]
    assert "does not say" in engine.info.notices[0]


def test_a_list_that_never_comes_is_not_waited_for_long(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gptcli.engines.remote import connection

    monkeypatch.setattr(connection, "NOT_NEEDED", Patience(tries=1, read=0.2))
    server.models_answer = fake_server.silent
    assert connect(Load(server=server.url, model="mine"), 1, QUICK).info.name == "mine"


def test_a_key_that_the_list_refuses_is_said_at_once(server: FakeServer) -> None:
    server.models_answer = failing(401)
    with pytest.raises(Unavailable, match="GPTCLI_API_KEY"):
        connect(Load(server=server.url, model="mine"), 1, QUICK)


def test_without_a_name_a_failing_list_says_what_does_without_it(server: FakeServer) -> None:
    server.models_answer = failing(500)
    with pytest.raises(Unavailable, match="-m"):
        opened(server)


# A server that ignores or refuses n.


@pytest.mark.parametrize("count", [2, 4])
def test_missing_texts_are_asked_for_by_themselves(server: FakeServer, count: int) -> None:
    server.always = fake_server.one_text
    server.reply = lambda body, index: f" of {body['seed']}"
    done = asked(opened(server), "x", sampling=Sampling(num_return_sequences=count, seed=5))
    assert [item.index for item in done] == list(range(count))
    assert [item.text for item in done] == [f" of {item.seed}" for item in done]
    assert len({item.seed for item in done}) == count
    assert done[0].seed == 5
    assert [body.get("n", 1) for body in server.bodies] == [count] + [1] * (count - 1)
    assert all(item.usage.completion_tokens == 2 for item in done)
    assert not any(item.usage.estimated for item in done)
    assert not any(item.notices for item in done)


def test_texts_that_are_all_equal_are_noticed(server: FakeServer) -> None:
    server.always = fake_server.one_text
    server.reply = lambda body, index: " the very same text again"
    done = asked(opened(server), "x", sampling=Sampling(num_return_sequences=3))
    assert [len(item.notices) for item in done] == [0, 1, 0]
    assert "ignores temperature or seed" in done[1].notices[0]
    server.always = None
    greedy = Sampling(num_return_sequences=3, greedy=True)
    assert not any(item.notices for item in asked(opened(server), "x", sampling=greedy))


def test_a_server_that_refuses_n_is_asked_for_each_text(server: FakeServer) -> None:
    def refusing(handler: fake_server.Handler, body: fake_server.Body) -> None:
        refuse = body.get("n", 1) > 1
        (failing(400, "n must be 1") if refuse else fake_server.answer)(handler, body)

    server.always = refusing
    engine = opened(server)
    for _ in range(2):
        done = asked(engine, "x", sampling=Sampling(num_return_sequences=3))
        assert [item.error for item in done] == [None] * 3
    assert [body.get("n", 1) for body in server.bodies] == [3, *[1] * 6]  # it is known by then


def test_a_refusal_for_another_reason_is_said_once(server: FakeServer) -> None:
    server.always = failing(400, "prompt too long")
    [done] = asked(opened(server), "x", sampling=Sampling(num_return_sequences=3))
    assert isinstance(done.error, BadInput)
    assert "prompt too long" in str(done.error)


def test_one_of_several_texts_that_broke_off_is_asked_for_again(server: FakeServer) -> None:
    server.plan = [fake_server.one_text, fake_server.one_text, cutting(1)]
    server.always = fake_server.one_text
    done = asked(opened(server), "x", sampling=Sampling(num_return_sequences=4))
    assert [item.text for item in done] == [" answer 0 to x"] * 4
    assert len(server.bodies) == 5


def test_generate_prints_as_many_texts_as_asked_for(server: FakeServer) -> None:
    server.always = fake_server.one_text
    done = run(REAL, "generate", "--server", server.url, "Once", "-n", "4", "--json")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)) == 4


# A server that asks to wait.


@pytest.mark.parametrize("headers", [{"Retry_After": "0.2"}, {"Retry_After_Ms": "200"}])
def test_a_pause_that_the_server_names_is_kept(server: FakeServer, headers: dict[str, str]) -> None:
    server.plan = [failing(429, **headers), failing(503, **headers)]
    begun = time.monotonic()
    [done] = asked(opened(server), "a")
    assert done.error is None
    assert time.monotonic() - begun >= 0.4


def test_a_pause_of_more_than_half_a_minute_is_waited_out() -> None:
    import httpx2

    from gptcli.engines.remote.retry import pause
    from gptcli.engines.remote.wire import StatusError

    asked = StatusError(429, httpx2.Headers({"Retry-After": "61"}), None)
    assert pause(asked, 1, Patience()) == 61


def test_a_pause_that_is_too_long_is_said_at_once(server: FakeServer) -> None:
    server.always = failing(429, Retry_After="3600")
    begun = time.monotonic()
    [done] = asked(connect(Load(server=server.url)), "a")
    assert time.monotonic() - begun < 5
    assert "asks to wait" in str(done.error)
    assert "60" in str(done.error)
    assert len(server.bodies) == 1


def test_generate_says_that_it_waits(server: FakeServer) -> None:
    server.plan = [failing(429, Retry_After="2.1")]
    done = run(REAL, "generate", "--server", server.url, "Once")
    assert (done.returncode, done.stdout) == (0, b"Once answer 0 to Once\n")
    assert b"429" in done.stderr
    assert b"asks to wait 2.10 s" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_quiet_says_nothing_of_waiting(server: FakeServer) -> None:
    server.plan = [failing(429, Retry_After="2.1")]
    done = run(REAL, "generate", "--server", server.url, "Once", "--quiet")
    assert (done.returncode, done.stderr) == (0, b"")


def test_many_that_wait_for_the_same_time_say_it_once(server: FakeServer) -> None:
    said: list[str] = []
    server.plan = [failing(429, Retry_After="2.1")] * 4
    engine = connect(Load(server=server.url), 4)
    engine.say_waits(said.append)
    assert [item.error for item in asked(engine, *"abcd")] == [None] * 4
    assert len(said) == 1


# Streams.


def test_events_without_data_or_choices_are_passed_over(server: FakeServer) -> None:
    server.always = fake_server.whispering
    [done] = asked(opened(server), "x")
    assert (done.text, done.error, len(server.bodies)) == (" answer 0 to x", None, 1)


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_text_that_nobody_saw_is_begun_again(server: FakeServer, after: int) -> None:
    server.plan = [cutting(after), streaming(text(" half"))]
    [done] = asked(opened(server), "x")
    assert (done.text, done.error, len(server.bodies)) == (" answer 0 to x", None, 3)
    assert len({body["seed"] for body in server.bodies}) == 1


def test_a_server_that_serves_one_at_a_time_loses_no_row(server: FakeServer) -> None:
    server.always = fake_server.interrupted
    done = asked(opened(server, places=16), *(f"row {number}" for number in range(12)))
    assert [(item.text, item.error) for item in done] == [
        (f" answer 0 to row {number}", None) for number in range(12)
    ]


def test_a_batch_loses_no_row_to_a_server_that_cuts(server: FakeServer, tmp_path: Path) -> None:
    server.always = fake_server.interrupted
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"row {n}"}) + "\n" for n in range(9)))
    output = tmp_path / "out.jsonl"
    done = run(REAL, "batch", str(rows), "-o", str(output), "--server", server.url)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [item["text"] for item in found] == [f" answer 0 to row {n}" for n in range(9)]


def test_tasks_over_lines_lose_no_line_to_a_server_that_cuts(server: FakeServer) -> None:
    server.plan = [cutting(2)] * 3
    server.reply = lambda body, index: " done"
    done = run(
        *(REAL, "translate", "--server", server.url, "--to", "fr", "--lines"),
        stdin=b"one\ntwo\nthree\n",
    )
    assert (done.returncode, done.stdout) == (0, b"done\ndone\ndone\n"), done.stderr


def test_concurrency_bounds_what_is_sent_at_once(server: FakeServer, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"row {n}"}) + "\n" for n in range(9)))
    args = ("batch", str(rows), "-o", str(tmp_path / "out.jsonl"), "--server", server.url)
    assert run(REAL, *args, "--concurrency", "2").returncode == 0
    assert 1 <= server.most <= 2


def test_concurrency_can_be_more_than_the_default(server: FakeServer, tmp_path: Path) -> None:
    import threading

    from gptcli.batch.run.identity import REQUESTS_OF_SERVERS, identify

    many = REQUESTS_OF_SERVERS + 8
    load = Load(server=server.url, concurrency=many)
    assert identify(load).most == many
    server.hold = threading.Event()
    engine = connect(load, 1, QUICK)
    found: list[Completion] = []
    worker = threading.Thread(target=lambda: found.extend(asked(engine, *map(str, range(many)))))
    worker.start()
    assert server.wait_for(many)
    server.hold.set()
    worker.join(20)
    assert len(found) == many


@pytest.mark.parametrize("given", ["0", "-1", "many"])
def test_a_concurrency_that_is_none_is_refused(server: FakeServer, given: str) -> None:
    done = run(REAL, "generate", "x", "--server", server.url, "--concurrency", given)
    assert done.returncode == 2
    assert b"--concurrency" in done.stderr


def test_the_gate_lets_in_one_more_after_a_run_of_whole_answers() -> None:
    import asyncio

    async def trial() -> None:
        gate = Gate(8)
        tickets = [await gate.enter() for _ in range(6)]
        assert gate.broke_off(tickets[0])
        assert gate.limit == 3
        assert gate.broke_off(tickets[1])  # it was sent beside as many: no news
        assert gate.limit == 3
        for _ in range(6):
            gate.leave()
        for _ in range(WHOLE_ANSWERS):
            gate.answered()
        assert gate.limit == 4
        alone = await gate.enter()
        assert not gate.broke_off(alone)
        assert gate.limit == 4

    asyncio.run(trial())


# Counts that nobody gave.


@pytest.mark.parametrize(
    ("usage", "estimated"),
    [
        (None, True),
        ({}, True),
        ({"prompt_tokens": 3}, True),
        ({"completion_tokens": 3}, True),
        ({"prompt_tokens": None, "completion_tokens": None}, True),
        ({"prompt_tokens": True, "completion_tokens": 2}, True),
        ({"prompt_tokens": -1, "completion_tokens": 2}, True),
        ({"prompt_tokens": 0, "completion_tokens": 0}, True),  # beside a text
        ({"prompt_tokens": 3, "completion_tokens": 2}, False),
    ],
)
def test_an_invented_usage_is_marked(
    server: FakeServer, usage: dict[str, object] | None, estimated: bool
) -> None:
    parts = [text(" some text", "stop")]
    parts += [] if usage is None else [event({"choices": [], "usage": usage})]
    server.always = streaming(*parts)
    [done] = asked(opened(server), "x")
    assert done.usage.estimated == estimated
    assert ("estimated" in done.usage.to_dict()) == estimated


def test_json_and_verbose_mark_an_invented_usage(server: FakeServer) -> None:
    server.always = streaming(text(" some text", "stop"))
    done = run(REAL, "generate", "Once", "--server", server.url, "--json", "-v")
    assert json.loads(done.stdout)["usage"]["estimated"] is True
    assert b"about 4 tokens in" in done.stderr
    server.always = None
    done = run(REAL, "generate", "Once", "--server", server.url, "--json", "-v")
    assert "estimated" not in json.loads(done.stdout)["usage"]
    assert b"about" not in done.stderr


def test_a_batch_marks_an_invented_usage(server: FakeServer, tmp_path: Path) -> None:
    server.always = streaming(text(" some text", "stop"))
    rows = tmp_path / "rows.txt"
    rows.write_text("one\ntwo\n")
    summary = tmp_path / "summary.json"
    args = ("--server", server.url, "--summary", str(summary))
    done = run(REAL, "batch", str(rows), "-o", str(tmp_path / "out.jsonl"), *args)
    assert done.returncode == 0
    assert json.loads(summary.read_text())["estimated"] is True


def test_a_seed_is_named_only_where_something_is_drawn(server: FakeServer) -> None:
    done = run(REAL, "generate", "Once", "--server", server.url, "--greedy", "-v")
    assert b"seed" not in done.stderr
    done = run(REAL, "generate", "Once", "--server", server.url, "-v")
    assert b"seed" in done.stderr


# Scores.


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_server_that_takes_one_prompt_gets_one_at_a_time(server: FakeServer, status: int) -> None:
    server.always = fake_server.one_prompt(fake_server.echo, status)
    engine = opened(server)
    for _ in range(2):
        score = scored(engine, "The film was", " good", " very bad")
        assert [item.logprobs for item in score.choices] == [(-5.0,), (-5.0, -4.0)]
        assert score.usage.prompt_tokens == 18
    asked_for = [body["prompt"] for body in server.bodies]
    assert asked_for[1:] == ["The film was good", "The film was very bad"] * 2


def test_a_server_that_answers_the_first_prompt_is_asked_for_the_others(
    server: FakeServer,
) -> None:
    def first(handler: fake_server.Handler, body: fake_server.Body) -> None:
        prompts = body["prompt"] if isinstance(body["prompt"], str) else body["prompt"][0]
        fake_server.echo(handler, {**body, "prompt": prompts})

    server.always = first
    score = scored(opened(server), "The film was", " good", " bad")
    assert [item.logprobs for item in score.choices] == [(-5.0,), (-4.0,)]


def test_scores_that_agree_with_themselves_are_taken(server: FakeServer) -> None:
    server.always = fake_server.ranked()
    engine = opened(server)
    assert scored(engine, "The old film was", " good").error is None
    checked = len(server.bodies)
    assert checked > 1
    assert scored(engine, "The old film was", " bad").error is None
    assert len(server.bodies) == checked + 1  # once a server


@pytest.mark.parametrize("shift", [1, 2])
def test_scores_of_other_places_are_refused(server: FakeServer, shift: int) -> None:
    server.always = fake_server.ranked(shift)
    engine = opened(server)
    score = scored(engine, "The old film was", " good")
    assert isinstance(score.error, Unavailable)
    assert score.choices == ()
    known = len(server.bodies)
    assert isinstance(scored(engine, "The old film was", " bad").error, Unavailable)
    assert len(server.bodies) == known  # it is not asked again


def test_text_written_after_the_echo_is_cut_off(server: FakeServer) -> None:
    def longer(handler: fake_server.Handler, body: fake_server.Body) -> None:
        prompts = [prompt + " and more" for prompt in body["prompt"]]
        fake_server.echo(handler, {**body, "prompt": prompts})

    server.always = longer
    [choice] = scored(opened(server), "The film was", " good").choices
    assert choice.logprobs == (-5.0,)


def test_a_usage_of_scores_that_nobody_gave_is_marked(server: FakeServer) -> None:
    server.always = fake_server.ranked()
    assert scored(opened(server), "The old film was", " good").usage.estimated


@pytest.mark.parametrize("flags", [(), ("--no-bos",)])
def test_score_takes_the_echo_of_a_server(server: FakeServer, flags: tuple[str, ...]) -> None:
    server.always = fake_server.ranked()
    args = ("score", "--server", server.url, "--tokens", "--json", "the old best man", *flags)
    done = run(REAL, *args)
    assert (done.returncode, done.stderr) == (0, b"")
    rows = json.loads(done.stdout)
    before = "" if flags else "<|endoftext|>"
    wanted: dict[str, float | None] = {}
    for token in ("the", " old", " best", " man"):
        cost = fake_server.best_logprob(before) - (0 if token == " best" else 2)
        wanted[token] = cost if before else None
        before += token
    assert [row["token"] for row in rows] == list(wanted)
    assert [row["logprob"] for row in rows] == [
        None if value is None else pytest.approx(value) for value in wanted.values()
    ]
    assert [(row["start"], row["end"]) for row in rows] == [(0, 3), (3, 7), (7, 12), (12, 16)]


def test_score_asks_once_a_text(server: FakeServer, tmp_path: Path) -> None:
    server.always = fake_server.ranked()
    lines = tmp_path / "lines.txt"
    lines.write_text("the old man\na sea\nthe old man\n")
    done = run(REAL, "score", "--server", server.url, "--lines", "-f", str(lines), "--json")
    assert done.returncode == 0, done.stderr
    first, second, third = (row["logprob"] for row in json.loads(done.stdout))
    assert first == third != second
    texts = [prompt for body in server.bodies for prompt in body["prompt"]]
    assert texts.count("<|endoftext|>a sea") == 1


def test_score_compares_after_a_context(server: FakeServer) -> None:
    server.always = fake_server.ranked()
    args = ("--compare", " best", " worst", "--context", "of all", "--json")
    done = run(REAL, "score", "--server", server.url, *args)
    assert done.returncode == 0, done.stderr
    found = {row["text"]: row["logprob"] for row in json.loads(done.stdout)["texts"]}
    assert found[" best"] == pytest.approx(fake_server.best_logprob("<|endoftext|>of all"))
    assert found[" worst"] == pytest.approx(found[" best"] - 2)


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (fake_server.answer, b"does not score"),
        (fake_server.whole, b"does not score"),
        (fake_server.ranked(1), b"asked again"),
        (failing(400, "no echo"), b"no echo"),
    ],
)
def test_score_refuses_a_server_that_does_not_score(
    server: FakeServer, behaviour: fake_server.Behaviour, why: bytes
) -> None:
    server.always = behaviour
    done = run(REAL, "score", "--server", server.url, "the old man")
    assert (done.returncode, done.stdout) == (69, b"")
    assert why in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_text_whose_tokens_are_parts_of_characters_is_refused(server: FakeServer) -> None:
    def torn(handler: fake_server.Handler, body: fake_server.Body) -> None:
        logprobs = {"tokens": ["a", "\ufffd"], "token_logprobs": [None, -1.0]}
        [text] = body["prompt"]
        choice = {"index": 0, "text": text, "finish_reason": "length", "logprobs": logprobs}
        handler.send_json(200, {"choices": [choice]})

    server.always = fake_server.ranked()
    engine = opened(server)
    tokenizer = engine.tokenizer
    server.always = torn
    with pytest.raises(BadInput, match="part of a character"):
        tokenizer.encode("aé")


# Keys.


@pytest.mark.parametrize(
    ("key", "said", "shown"),
    [
        ("e", "the model is here", "the model is here"),
        ("none", "there is none", "there is none"),
        ("EMPTY", "the prompt is EMPTY", "the prompt is EMPTY"),
        ("sk-12345678", "wrong key sk-12345678.", "wrong key ***"),
        ("sk-12345678", 'key "sk-12345678", Bearer sk-12345678', 'key "***", Bearer ***'),
        ("token-abc", "subtoken-abcd is a word", "subtoken-abcd is a word"),
        ("a+b(c)*12", "key a+b(c)*12 is wrong", "key *** is wrong"),
    ],
)
def test_only_a_whole_key_is_masked(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, key: str, said: str, shown: str
) -> None:
    monkeypatch.setenv("GPTCLI_API_KEY", key)
    server.always = failing(400, said)
    [done] = asked(opened(server), "a")
    assert f": {shown}. Change" in str(done.error)


def test_usage_errors_come_before_a_server_is_asked() -> None:
    with pytest.raises(UsageError):
        Load(server="http://localhost/v1", concurrency=0)
