"""gptcli's own routes: the JSON of the commands, over one engine for all; tokens and paths."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_engine import INFO, FakeEngine
from support.served import InProcess, events_of

from gptcli.errors import UsageError
from gptcli.options import Sampling
from gptcli.protocol import LoglikelihoodRequest
from gptcli.tasks.definition import catalog

Command = Callable[..., tuple[int, str, str]]
TEXTS = ("Once upon a time there was a king.", "The fox ran away. The king slept.")
POST: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    (
        "tasks/summarize",
        {"input": TEXTS[0], "seed": 4, "max_new_tokens": 12},
        ("summarize", TEXTS[0], "--seed", "4", "--max-new-tokens", "12"),
    ),
    (
        "tasks/translate",
        {"input": TEXTS[1], "to": "fr", "max_tokens": 6, "seed": 1, "n": None},
        ("translate", TEXTS[1], "--to", "fr", "--max-tokens", "6", "--seed", "1"),
    ),
    (
        "tasks/classify",
        {"input": TEXTS[0], "labels": ["good", "bad"], "calibration": "pmi"},
        ("classify", TEXTS[0], "--labels", "good,bad", "--calibration", "pmi"),
    ),
    (
        "tasks/classify",
        {"input": TEXTS[0], "examples": [["I like it", "positive"], "It is bad = negative"]},
        (
            *("classify", TEXTS[0], "--example", "I like it = positive"),
            *("--example", "It is bad = negative"),
        ),
    ),
    (
        "tasks/summarize",
        {"input": TEXTS[0], "seed": 4, "max_new_tokens": 5, "num_return_sequences": 3},
        ("summarize", TEXTS[0], "--seed", "4", "--max-new-tokens", "5", "-n", "3"),
    ),
    ("score", {"input": TEXTS[0]}, ("score", TEXTS[0])),
    ("score", {"input": TEXTS[0], "tokens": True}, ("score", TEXTS[0], "--tokens")),
    (
        "score",
        {"input": "The horse | ran | away.", "regions": "|", "word_method": "trailing"},
        ("score", "The horse | ran | away.", "--regions", "|", "--word-method", "trailing"),
    ),
    (
        "score",
        {"input": "The horse | ran.", "regions": "|", "words": True},
        ("score", "The horse | ran.", "--regions", "|", "--words"),
    ),
    (
        "score",
        {"input": [" king", " fox", " x"], "compare": True, "context": "There was a"},
        ("score", "--compare", " king", " fox", " x", "--context", "There was a"),
    ),
]


def asked(app: InProcess, path: str, **body: object) -> Any:
    """The answer, which must be one."""
    status, headers, data = app.send(json.dumps(body).encode(), path)
    assert status == 200, data
    is_stream = headers["content-type"].startswith("text/event-stream")
    return events_of(data) if is_stream else json.loads(data)


def got(app: InProcess, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    return app.send(b"", path, method)


@pytest.mark.parametrize(("route", "body", "words"), POST, ids=lambda value: str(value)[:30])
def test_a_route_says_what_its_command_says(
    app: InProcess,
    tales_engine: Any,
    main_in: Command,
    route: str,
    body: dict[str, Any],
    words: tuple[str, ...],
) -> None:
    code, out, _ = main_in(*words, "--json", engine=tales_engine)
    assert code == 0
    assert asked(app, f"/v1/{route}", **body) == json.loads(out)


@pytest.mark.parametrize(
    ("route", "flags"),
    [("tasks/summarize", ("summarize", "--seed", "1")), ("score", ("score",))],
)
def test_a_list_is_what_lines_are_for_the_command(
    app: InProcess, tales_engine: Any, main_in: Command, route: str, flags: tuple[str, ...]
) -> None:
    texts = [TEXTS[0], "", TEXTS[1]]
    words = (*flags, "--lines", "--json", *(("-f", "-") if route == "score" else ()))
    code, out, _ = main_in(*words, stdin="\n".join(texts).encode(), engine=tales_engine)
    assert code == 3
    wanted = json.loads(out)
    found = asked(app, f"/v1/{route}", input=texts, **({"seed": 1} if "tasks" in route else {}))
    for rows in (wanted, found):
        assert rows[1]["error"]["message"]
        rows[1].pop("error")
    assert [row["id"] for row in found] == ["1", "2", "3"]
    assert found == wanted


def test_pairs_have_an_accuracy(
    app: InProcess, tales_engine: Any, main_in: Command, tmp_path: Path
) -> None:
    pairs = [
        {"sentence_good": "Once upon a time", "sentence_bad": "Once on a time"},
        {"sentence_good": "x", "sentence_bad": ""},
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs[:1]))
    _, out, _ = main_in("score", "--pairs", str(file), "--json", engine=tales_engine)
    assert asked(app, "/v1/score", pairs=pairs[:1]) == json.loads(out)
    found = asked(app, "/v1/score", pairs=pairs)
    assert found["pairs"] == 1
    assert "empty text" in found["rows"][1]["error"]["message"]


def test_a_stream_joins_to_the_answer_at_its_end(app: InProcess) -> None:
    body = {"input": TEXTS[1], "max_new_tokens": 30, "seed": 2}
    *deltas, answer = asked(app, "/v1/tasks/summarize", **body, stream=True)
    assert len(deltas) > 2
    assert "".join(delta["delta"] for delta in deltas) == answer["text"]
    assert answer == asked(app, "/v1/tasks/summarize", **body)


@pytest.mark.parametrize(
    ("task", "more"),
    [("classify", {}), ("extract", {}), ("answer", {"abstain_below": -0.5})],
)
def test_an_answer_that_may_be_withheld_is_not_streamed(
    app: InProcess, task: str, more: dict[str, object]
) -> None:
    body = {"input": "Who ran?", "max_new_tokens": 5, "stream": True, **more}
    [answer] = asked(app, f"/v1/tasks/{task}", **body)
    assert answer["task"] == task


def test_many_clients_at_once_get_what_each_gets_alone(app: InProcess) -> None:
    bodies = [
        ("/v1/tasks/summarize", {"input": [f"{text} {n}" for text in TEXTS], "seed": n})
        for n in range(6)
    ]
    bodies += [("/v1/score", {"input": [f"The {n}. king", "a fox"] * 4}) for n in range(6)]
    bodies += [("/v1/tasks/classify", {"input": [f"good {n}"], "labels": "a,b"}) for n in range(6)]
    alone = [asked(app, path, **body, max_new_tokens=8) for path, body in bodies]
    with ThreadPoolExecutor(18) as pool:
        many = list(pool.map(lambda one: asked(app, one[0], **one[1], max_new_tokens=8), bodies))
    assert many == alone


def test_one_client_with_many_texts_does_not_hold_up_the_others(app: InProcess) -> None:
    many = {"input": [f"The {n}. king." for n in range(200)], "max_new_tokens": 8}

    def seconds(path: str, body: dict[str, Any]) -> float:
        begun = time.perf_counter()
        asked(app, path, **body)
        return time.perf_counter() - begun

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(seconds, "/v1/tasks/translate", many)
        while app.service.engine.running == 0:
            time.sleep(0.001)
        few = pool.submit(seconds, "/v1/score", {"input": "a fox"}).result()
        assert few < first.result() / 2


def test_a_calibration_is_computed_once_for_a_wording() -> None:
    fake = FakeEngine(info=replace(INFO, context=1000), asked=[])
    assert fake.asked is not None
    with InProcess(fake) as app:
        for labels, requests in ((["a", "b"], 2), (["a", "b"], 1), (["b", "a"], 2)):
            fake.asked.clear()
            asked(app, "/v1/tasks/classify", input="x", labels=labels, calibration="pmi")
            assert len(fake.asked) == requests
            assert all(isinstance(one, LoglikelihoodRequest) for one in fake.asked)


def test_what_is_wrong_with_some_of_many_texts_ends_nothing() -> None:
    fake = FakeEngine(info=replace(INFO, context=1000))
    with InProcess(fake) as app:
        found = asked(app, "/v1/tasks/summarize", input=["", "x", ""] * 100)
    assert [row["finish_reason"] for row in found[:3]] == ["error", "length", "error"]
    assert len(found) == 300


@pytest.mark.parametrize(
    ("path", "body", "param", "why"),
    [
        ("/v1/tasks/classify", {"input": "x", "lables": ["a", "b"]}, "lables", "mean labels?"),
        ("/v1/tasks/classify", {"input": "x", "n": 2}, "n", "mean num_return_sequences?"),
        ("/v1/tasks/summarize", {"input": "x", "num_beams": 4}, "num_beams", "beam search"),
        ("/v1/tasks/summarize", {"input": "x", "file": "/etc/passwd"}, "file", "in input"),
        ("/v1/tasks/summarize", {"input": ""}, "input", "empty input"),
        ("/v1/tasks/summarize", {"input": ["x"] * 2000}, "input", "at most 1024"),
        ("/v1/tasks/summarize", {"input": "x" * 2**21}, "input", "at most 1048576"),
        ("/v1/tasks/translate", {"input": "x", "from": "en", "to": "en"}, "to", "same as from"),
        ("/v1/tasks/extract", {"input": "x", "types": []}, "types", "the list is empty"),
        ("/v1/score", {"input": ""}, "input", "empty text"),
        ("/v1/score", {"input": "x", "tokens": True, "words": True}, "words", "with tokens"),
        ("/v1/score", {"input": "x", "compare": True}, "compare", "two or more"),
        ("/v1/score", {"input": "x", "sort": "logprob"}, "sort", "sort the rows"),
        ("/v1/score", {"pairs": [{"good": "x"}]}, "pairs", "as sentence_good"),
        ("/v1/score", {"pairs": ["x"]}, "pairs", "pair 1 is no object"),
        ("/v1/score", {"input": "x", "stride": 10**6}, None, "at most 511"),
        ("/tokenize", {"messages": [{"role": "user"}]}, "messages", "not tokenized"),
        ("/tokenize", {}, "prompt", "one of them"),
        ("/detokenize", {"tokens": [4096]}, "tokens", "0 to 4095"),
        ("/detokenize", {"tokens": [-1]}, "tokens", "0 to 4095"),
    ],
)
def test_what_is_wrong_is_named(
    app: InProcess, path: str, body: dict[str, object], param: str | None, why: str
) -> None:
    error = app.refused(json.dumps(body).encode(), path=path)
    assert error["status"] == 400
    assert error["param"] == param
    assert why in error["message"]


@pytest.mark.parametrize("name", ["nothing", "..%2f", "%2e%2e", "Summarize", "a" * 300])
def test_a_task_that_does_not_exist_is_not_found(app: InProcess, name: str) -> None:
    error = app.refused(b'{"input": "x"}', path=f"/v1/tasks/{name}")
    assert (error["status"], error["code"]) == (404, "task_not_found")


def test_a_value_is_never_the_name_of_a_file(app: InProcess, tmp_path: Path) -> None:
    file = tmp_path / "secret.txt"
    file.write_text("The fox knows it.")
    body = {"input": "Who knows it?", "max_new_tokens": 3, "temperature": 0}
    named = asked(app, "/v1/tasks/answer", **body, context=str(file))
    read = asked(app, "/v1/tasks/answer", **body, context=file.read_text())
    assert named["usage"] != read["usage"]


def test_the_tasks_of_the_user_who_serves_are_there(app: InProcess) -> None:
    folder = catalog.user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    mine, broken = folder / "mine.toml", folder / "broken.toml"
    mine.write_text('description = "d"\nprompt = "say {input}"\n')
    broken.write_text("prompt = 5")
    try:
        status, _, data = got(app, "/v1/tasks")
        names = [task["id"] for task in json.loads(data)["data"]]
        assert status == 200
        assert {"mine", "summarize", "classify"} <= {*names}
        assert "broken" not in names
        assert asked(app, "/v1/tasks/mine", input="x", max_new_tokens=1)["task"] == "mine"
        assert got(app, "/v1/tasks/broken")[0] == 500
    finally:
        mine.unlink()
        broken.unlink()


def test_tokens_go_there_and_back(app: InProcess, tales_engine: Any) -> None:
    text = "Once upon a time 日本 \x00<|endoftext|>"
    found = asked(app, "/tokenize", prompt=text)
    assert found["tokens"] == tales_engine.tokenizer.encode(text)
    assert found["count"] == len(found["tokens"])
    assert found["max_model_len"] == 512
    assert asked(app, "/detokenize", tokens=found["tokens"]) == {"prompt": text, "content": text}
    pieces = asked(app, "/tokenize", content=text, with_pieces=True)["tokens"]
    assert [piece["id"] for piece in pieces] == found["tokens"]
    data = b"".join(
        one["piece"].encode() if isinstance(one["piece"], str) else bytes(one["piece"])
        for one in pieces
    )
    assert data.decode() == text


def test_the_tokenizer_is_told_only_where_it_is_asked_for(app: InProcess) -> None:
    assert got(app, "/tokenizer_info")[0] == 404
    app.service.tokenizer_info = True
    try:
        found = json.loads(got(app, "/tokenizer_info")[2])
    finally:
        app.service.tokenizer_info = False
    assert (found["eos_token"], found["eos_token_id"]) == ("<|endoftext|>", 4095)
    assert (found["vocab_size"], found["model_max_length"]) == (4096, 512)
    assert found["chat_template"] is None


def test_a_model_is_found_by_its_name(app: InProcess) -> None:
    assert json.loads(got(app, "/v1/models/tiny-tales")[2])["id"] == "tiny-tales"
    for name in ("gpt-4o", "openai-community/gpt2", "a/b/c"):
        assert app.refused(b"", path=f"/v1/models/{name}", method="GET")["status"] == 404


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/v1/completions", "/v1/completions"),
        ("/v1/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/v1/completions/", "/v1/completions"),
        ("/v1//completions", "/v1/completions"),
        ("/v1/complet", "/v1/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/models", "/v1/models"),
        ("/v1/v1/models/a/b", "/v1/models/a/b"),
        ("/tasks/summarize/", "/v1/tasks/summarize"),
        ("/v1/tokenize", "/tokenize"),
        ("/score", "/v1/score"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_that_is_nearly_right_is_told_the_right_one(
    app: InProcess, path: str, meant: str, method: str
) -> None:
    error = app.refused(b"", path=path, method=method)
    assert error["status"] == 404
    assert error["message"].endswith(f"did you mean {meant}?")


def test_a_list_of_models_with_a_slash_is_no_model_without_a_name(app: InProcess) -> None:
    error = app.refused(b"", path="/v1/models/", method="GET")
    assert error["message"].endswith("did you mean /v1/models?")


def test_a_path_that_is_nothing_like_it_gets_the_list(app: InProcess) -> None:
    for path in ("/api/tags", "/v1", "/v1/", "/v1/v1", "/" + "x" * 10_000, "/v1/\x00"):
        error = app.refused(b"", path=path, method="GET")
        assert error["status"] == 404
        assert len(error["message"]) < 1500


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/v1/completions", "GET", "OPTIONS, POST"),
        ("/v1/completions", "DELETE", "OPTIONS, POST"),
        ("/v1/models", "POST", "GET, HEAD, OPTIONS"),
        ("/v1/tasks/summarize", "PUT", "GET, HEAD, OPTIONS, POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    app: InProcess, path: str, method: str, allowed: str
) -> None:
    status, headers, _ = got(app, path, method)
    assert (status, headers["Allow"]) == (405, allowed)
    status, headers, data = got(app, path, "OPTIONS")
    assert (status, headers["Allow"], data) == (204, allowed, b"")


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/score", "/tokenize", "/v1/tasks/code"]
)
@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"input": NaN}', b"{", b'{"input": "\\ud800"}', b"\xff", b"[" * 10_000],
)
def test_a_body_that_is_no_strict_object_is_refused_everywhere(
    app: InProcess, path: str, body: bytes
) -> None:
    assert app.refused(body, path=path)["status"] == 400


@pytest.mark.parametrize(
    "wrong",
    [
        *({"logit_bias": {"a": [1]}}, {"logit_bias": {"a": {}}}, {"logit_bias": [["a", "b"]]}),
        *({"stop_token_id": 1.5}, {"stop_token_id": "1"}, {"stop_token_id": [True]}),
        *({"stop_token_id": {}}, {"bad_words": [1]}, {"stop": [None]}),
    ],
    ids=str,
)
def test_items_of_a_wrong_type_are_refused_in_python_as_here(
    app: InProcess, wrong: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        Sampling(**wrong)
    error = app.refused(json.dumps({"input": "x"} | wrong).encode(), path="/v1/tasks/summarize")
    assert error["param"] == next(iter(wrong))
