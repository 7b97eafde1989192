"""`--server` against servers that never end an answer, or answer with too much.

Every case of `support.hostile` runs in one process for each kind of request, so that its memory can
be measured. Bounds of time are lowered there; those of size are the real ones.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import hostile
from support.commands import REAL, environment, run
from support.fake_server import (
    Behaviour,
    Body,
    FakeServer,
    Handler,
    answer,
    event,
    failing,
    streaming,
)
from support.remote import opened

from gptcli.engines.remote import connect
from gptcli.engines.remote.bounds import limits_of
from gptcli.engines.remote.bounds.meter import Meter
from gptcli.engines.remote.client import Patience, patience_of
from gptcli.engines.remote.schema import generation_body, scoring_body
from gptcli.options import Load, Sampling
from gptcli.protocol import Completion, GenerateRequest

KINDS = "unseen", "logprobs", "greedy", "choices", "echo"
STALL = 0.25  # seconds without progress
LONGEST = 8.0  # seconds of a case, on a slow machine
MOST_MEMORY = 100e6
TESTS = Path(__file__).parents[1]
# One of each sort, for kinds of requests that share the reading of answers.
SOME = (
    "text",
    "one line of JSON",
    "comments, slow",
    "headers, slow",
    "three million choices",
    "a hundred thousand choices",
    "JSON of one text",
    "many alternatives",
    "an error's body",
    "gzip of spaces",
    "comments behind the finish, slow",
)


pytestmark = pytest.mark.usefixtures("no_surroundings")


Outcome = dict[str, Any]


def outcomes(kinds: Iterable[str], names: Iterable[str], stall: float = STALL) -> list[Outcome]:
    """What comes of these cases, in two processes: half of the time they wait for nothing."""
    asked = [f"{kind}/{name}" for kind in kinds for name in names]
    listing = kinds == ("list",)
    with ThreadPoolExecutor() as pool:
        parts = pool.map(lambda part: clients(part, listing, stall), (asked[::2], asked[1::2]))
        return [one for part in parts for one in part]


def clients(asked: list[str], listing: bool, stall: float) -> list[Outcome]:
    """What comes of these cases, in a process of their own."""
    with FakeServer() as server:
        server.always = hostile.answering(hostile.TEXTS)
        server.models_answer = hostile.answering(hostile.LISTS) if listing else None
        done = subprocess.run(
            [sys.executable, "-m", "support.hostile_child", server.url, str(stall), *asked],
            env=environment(PYTHONPATH=f"{TESTS.parent}:{TESTS}"),
            capture_output=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["case"] for one in found] == asked
    assert [one["case"] for one in found if one["seconds"] > LONGEST] == []
    assert max((one["memory"] for one in found), default=0) < MOST_MEMORY
    return found


def differing(cases: dict[str, hostile.Case], found: list[Outcome]) -> list[str]:
    """The cases whose outcome is not the one that they name."""
    names = []
    for one in found:
        name = one["case"].partition("/")[2]
        said = cases[name].said
        code = 0 if not said else 65 if "refuses the request" in said else 69
        if one["code"] != code or not re.search(said or "^all of it$", one["said"]):
            names.append(name)
    return names


@pytest.mark.parametrize(
    ("kind", "cases"), [("generate", hostile.TEXTS), ("list", hostile.LISTS)], ids=["text", "list"]
)
def test_every_hostile_answer_comes_to_an_end_that_names_its_bound(
    kind: str, cases: dict[str, hostile.Case]
) -> None:
    others = differing(cases, outcomes((kind,), cases))
    if others:  # on a busy machine time is up before the bound that is meant
        assert differing(cases, outcomes((kind,), others, stall=3.0)) == []


def test_hostile_answers_to_other_requests_end_too() -> None:
    for one in outcomes(KINDS, SOME):
        assert one["code"] in (65, 69) or one["said"] == "all of it", one


# The command line.


def test_generate_names_the_bound(server: FakeServer) -> None:
    server.always = hostile.TEXTS["text"].act
    done = run(REAL, "generate", "x", "--max-new-tokens", "5", "--server", server.url)
    assert done.returncode == 69
    assert b"its answer passes a bound: more than" in done.stderr
    assert b"characters, where 1 text of 5 tokens should come" in done.stderr


def test_a_timeout_can_be_given(server: FakeServer) -> None:
    server.always = hostile.TEXTS["comments behind a text, slow"].act
    args = ("generate", "x", "--server", server.url, "--server-timeout", "1")
    done = run(REAL, *args)
    assert done.returncode == 69
    assert b"no more text came for 1 s" in done.stderr
    assert b"--server-timeout" in done.stderr


def test_a_timeout_that_is_none_is_refused() -> None:
    done = run(REAL, "generate", "x", "--server-timeout", "0", "--server", "http://localhost:9/v1")
    assert done.returncode == 2
    assert b"--server-timeout: 0.0 is out of range" in done.stderr


def test_in_a_batch_it_is_the_rows_error_and_the_others_go_on(
    server: FakeServer, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"p{n}"}) + "\n" for n in range(6)))

    def act(handler: Handler, body: Body) -> None:
        bad = {"p1": "text", "p3": "three million choices", "p4": "gzip of spaces"}
        case = bad.get(str(body["prompt"]))
        (hostile.TEXTS[case].act if case else answer)(handler, body)

    server.always = act
    out = tmp_path / "out.jsonl"
    done = run(REAL, "batch", str(rows), "-o", str(out), "--server", server.url)
    assert done.returncode == 3, done.stderr
    written = [json.loads(line) for line in out.read_text().splitlines()]
    failed = [row.get("error") for row in written]
    assert [error is None for error in failed] == [True, False, True, False, False, True]
    assert all("passes a bound" in str(error) for error in failed if error)


# Slow but honest.


def slow(handler: Handler, body: Body) -> None:
    """Headers come late, then comments while it queues, then one token at a time."""
    time.sleep(0.8)
    handler.begin_stream()
    for _ in range(8):
        time.sleep(0.1)
        handler.send_part(b": queued\n\n")
    for number in range(6):
        time.sleep(0.2)
        handler.send_part(event(hostile.piece(f" {number}", "length" if number == 5 else None)))
    handler.end_stream()


def completed(server: FakeServer, patience: Patience, count: int = 600) -> Completion:
    engine = opened(server, patience=patience)
    sampling = Sampling(max_new_tokens=count)
    [*_, done] = engine.run([GenerateRequest(id="0", prompt="Once", sampling=sampling)])
    assert isinstance(done, Completion)
    return done


def test_a_server_that_begins_late_and_writes_slowly_is_waited_for(server: FakeServer) -> None:
    server.always = slow
    done = completed(server, Patience(tries=1, read=1.5, silence=1.5))
    assert (done.text, done.error) == (" 0 1 2 3 4 5", None)


def test_the_defaults_are_kind() -> None:
    patience = Patience()
    request = GenerateRequest(id="0", prompt="x" * 4000, sampling=Sampling(max_new_tokens=256))
    limits = limits_of(generation_body(request, "m", 1), 600.0, 120.0, 5.0)
    assert patience_of(None) == patience
    assert (patience.read, patience.silence) == (600, 120)
    assert limits.whole >= 2 * 600 + 256 * 5  # five seconds a token, behind two long waits
    assert limits.characters >= 256 * 128
    assert limits.answer >= 2**20 + 256 * 2048
    echoed = limits_of(scoring_body(["x" * 4000] * 5, "m"), 600.0, 120.0, 5.0)
    assert echoed.tokens >= 20_000  # a token a byte
    assert echoed.document >= 20_000 * 200


def test_the_timeout_moves_every_bound_of_time() -> None:
    patience = patience_of(3000.0)
    assert (patience.read, patience.silence) == (3000, 600)
    limits = limits_of({"prompt": "x", "max_tokens": 120}, patience.read, patience.silence, 5.0)
    assert 3 * 3000 < limits.whole < 3.1 * 3000


@pytest.mark.parametrize("count", [10**6, 10**9, 10**15])
def test_no_request_asks_for_memory_without_end(count: int) -> None:
    limits = limits_of({"prompt": "x", "max_tokens": count, "logprobs": 5, "n": 64}, 1, 1, 1)
    assert limits.document <= 32 * 2**20
    assert limits.characters <= 4 * 2**20
    assert limits.tokens <= 2**18


def test_many_short_events_are_no_long_message(server: FakeServer) -> None:
    server.always = streaming(
        *[event(hostile.piece(" a" * 10)) for _ in range(3000)], event(hostile.piece("", "stop"))
    )
    done = completed(server, Patience(read=60))
    assert done.error is None
    assert len(done.text) == 60_000


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_an_event_ends_wherever_the_parts_are_cut(end: bytes, size: int) -> None:
    limits = limits_of({"prompt": "x", "max_tokens": 10**6}, 60.0, 60.0, 5.0)
    meter = Meter(limits)
    event_data = b'data: {"a": "' + b"{" * 50_000 + b'"}' + end
    stream = event_data * 4  # 46 MB if they were one, 11 MB each
    sizes = range(0, len(stream), size if size > 3 else 997)
    for start in sizes:
        for at in range(start, min(start + sizes.step, len(stream)), size if size > 3 else 997):
            assert meter.unfold(stream[at : at + sizes.step], stream=True)


def test_a_page_of_words_in_an_error_is_not_split_into_millions(server: FakeServer) -> None:
    server.always = failing(400, "a " * 30_000 + "end")
    assert len(str(completed(server, Patience(tries=1)).error)) < 500


def test_counts_without_sense_are_estimated(server: FakeServer) -> None:
    usage = {"prompt_tokens": 10**4000, "completion_tokens": 10**4000}
    server.always = streaming(
        event(hostile.piece("all of it", "stop")), event({"choices": [], "usage": usage})
    )
    done = completed(server, Patience(tries=1))
    assert done.error is None
    assert done.usage.estimated
    assert done.usage.completion_tokens < 100


def test_a_name_or_a_context_without_sense_is_none(server: FakeServer) -> None:
    server.models = [
        {"id": "a" * 10_000, "max_model_len": 5},
        {"id": "", "max_model_len": 5},
        {"id": "good", "max_model_len": 10**4000},
    ]
    engine = connect(Load(server=server.url), 1, Patience(read=5))
    assert engine.info.name == "good"
    assert engine.info.context == 10**9


def test_only_gzip_and_deflate_are_asked_for(server: FakeServer) -> None:
    completed(server, Patience(read=5))
    assert server.headers[0]["Accept-Encoding"] == "gzip, deflate"


def _packed(coding: str) -> Behaviour:
    import gzip
    import zlib

    data = json.dumps(hostile.piece("all of it", "stop")).encode()
    body = gzip.compress(data) if coding == "gzip" else zlib.compress(data)
    return hostile.once(body, "application/json", Content_Encoding=coding)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_answer_is_read(server: FakeServer, coding: str) -> None:
    server.always = _packed(coding)
    done = completed(server, Patience(read=5))
    assert (done.text, done.error) == ("all of it", None)


@pytest.mark.parametrize(
    "value",
    [
        "Fri, 31 Dec 999999999999999999999 23:59:59 GMT",
        "Wed, 21 Oct 2015 07:28:00 +99999999999999999999",
        "Fri, 31 Dec 9999 23:59:59 -9999",
        "9" * 5000,
        "nan",
        "1 2 3 4 5 6 7",
    ],
)
def test_a_pause_that_is_none_is_not_waited_for(server: FakeServer, value: str) -> None:
    server.plan = [failing(429, Retry_After=value)]
    done = completed(server, Patience(tries=2, read=5, first=0.001))
    assert done.error is None
    assert len(server.bodies) == 2
