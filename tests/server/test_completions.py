"""Each field of /v1/completions does what OpenAI, or the server that it comes from, says."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.served import InProcess

from gptcli.options import Sampling

BEGIN = "Once upon a time"


def texts(app: InProcess, **fields: Any) -> list[str]:
    asked = {"prompt": BEGIN, "max_tokens": 10, "seed": 2, **fields}
    return [choice["text"] for choice in app.complete(**asked)["choices"]]


def test_the_shape_is_openais(app):
    answer = app.complete(prompt=BEGIN)
    assert set(answer) == {
        *("id", "object", "created", "model", "system_fingerprint", "choices", "usage")
    }
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert abs(answer["created"] - time.time()) < 60
    assert set(answer["choices"][0]) == {"index", "text", "logprobs", "finish_reason"}
    assert answer["choices"][0]["logprobs"] is None
    assert answer["usage"]["completion_tokens"] == 16  # OpenAI's default
    assert app.complete(prompt=BEGIN)["id"] != answer["id"]


def test_a_prompt_is_a_text_ids_or_a_list_of_either(app, tales_engine):
    ids = tales_engine.tokenizer.encode(BEGIN)
    [expected] = texts(app)
    assert texts(app, prompt=ids) == texts(app, prompt=[BEGIN]) == texts(app, prompt=[ids])
    assert texts(app, prompt=[BEGIN, ids, "The king"])[:2] == [expected, expected]


def test_no_prompt_is_the_beginning_of_a_text(app, tales_engine):
    begin = tales_engine.tokenizer.roles.begin
    expected = texts(app, prompt=[begin])
    assert texts(app, prompt=None) == texts(app, prompt="") == texts(app, prompt=[""]) == expected
    answer = app.complete(max_tokens=3, echo=True, logprobs=1)
    assert len(answer["choices"][0]["logprobs"]["tokens"]) == 4
    assert answer["choices"][0]["text"] == "".join(answer["choices"][0]["logprobs"]["tokens"][1:])


def test_nothing_or_one_token_can_be_asked_for(app):
    answer = app.complete(prompt=[BEGIN, "The"], max_tokens=0, echo=True)
    assert [choice["text"] for choice in answer["choices"]] == [BEGIN, "The"]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["length"] * 2
    assert answer["usage"]["completion_tokens"] == 0
    assert texts(app, max_tokens=0) == [""]
    assert app.complete(prompt=BEGIN, max_tokens=1)["usage"]["completion_tokens"] == 1


def test_choices_are_numbered_prompt_by_prompt(app):
    answer = app.complete(prompt=["Once", "The"], n=2, echo=True, seed=1, max_tokens=5)
    choices = answer["choices"]
    assert [(choice["index"], choice["text"][:3]) for choice in choices] == [
        *((0, "Onc"), (1, "Onc"), (2, "The"), (3, "The"))
    ]
    assert choices[0]["text"] != choices[1]["text"]
    assert answer["usage"]["completion_tokens"] == 20


def test_special_tokens_of_ids_are_shown_in_the_echo(app, tales_engine):
    end = tales_engine.tokenizer.eos_id
    [text] = texts(app, prompt=[end, *tales_engine.tokenizer.encode(BEGIN)], echo=True)
    assert text.startswith(f"<|endoftext|>{BEGIN}")


def test_any_number_of_stop_strings(app):
    [whole] = texts(app, max_tokens=60, temperature=0)
    assert texts(app, max_tokens=60, temperature=0, stop=" King") == [whole.split(" King")[0]]
    many = [f"stop {number}" for number in range(1000)]
    answer = app.complete(prompt=BEGIN, max_tokens=60, temperature=0, stop=[*many, "said", " he"])
    assert answer["choices"][0]["text"] == whole.split(" he")[0]
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_settings_of_sampling_reach_the_sampler(app, tales_engine):
    [greedy] = texts(app, temperature=0)
    for fields in ({"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1}, {"typical_p": 1e-9}):
        kept = texts(app, **fields)
        assert kept == [greedy] or "typical_p" in fields
    assert texts(app, seed=3) != texts(app, seed=4)
    assert texts(app, seed=3) == texts(app, seed=3, user="someone", unknown=1)
    comma = tales_engine.tokenizer.encode(",")[0]
    assert greedy.startswith(",")
    assert not texts(app, temperature=0, logit_bias={str(comma): -100})[0].startswith(",")
    assert texts(app, logit_bias={str(comma): 100})[0] == "," * 10
    often = {"temperature": 0, "max_tokens": 80}
    [repeated] = texts(app, **often)
    for fields in ({"repetition_penalty": 1.5}, {"presence_penalty": 2}, {"frequency_penalty": 2}):
        assert texts(app, **often, **fields) != [repeated]
    words = texts(app, **often, no_repeat_ngram_size=1)[0]
    assert words != repeated


def test_the_end_of_a_text_can_be_put_off(app):
    asked = {"prompt": "So they lived happily", "max_tokens": 60, "temperature": 0}
    plain = app.complete(**asked)
    assert plain["choices"][0]["finish_reason"] == "stop"
    for fields in ({"ignore_eos": True}, {"min_tokens": 60}):
        longer = app.complete(**asked, **fields)
        assert longer["choices"][0]["finish_reason"] == "length"
        assert longer["usage"]["completion_tokens"] == 60


@pytest.mark.parametrize("given", [0, 1, 5, True])
def test_logprobs_are_as_many_as_asked_for_and_the_token_itself(app, given):
    [choice] = app.complete(prompt=BEGIN, logprobs=given, max_tokens=20, seed=1)["choices"]
    logprobs = choice["logprobs"]
    assert {len(entries) for entries in logprobs.values()} == {20}
    for name, own, top in zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    ):
        assert top[name] == own
        assert max(1, int(given)) <= len(top) <= int(given) + 1


def test_a_stream_without_usage_has_none(app):
    events = app.stream(prompt=BEGIN, max_tokens=3)
    assert all("usage" not in event and event["choices"] for event in events)
    assert len({event["id"] for event in events}) == 1
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]] == [None] * 3


@pytest.mark.skipif(not hasattr(Sampling(), "stop_token_id"), reason="no such option yet")
def test_token_ids_end_the_text(app, tales_engine):
    [king] = tales_engine.tokenizer.encode(" King")
    [whole] = texts(app, temperature=0, max_tokens=20)
    answer = app.complete(prompt=BEGIN, temperature=0, max_tokens=20, stop_token_ids=[king])
    assert answer["choices"][0]["text"] == whole.split(" King")[0]
    assert answer["choices"][0]["finish_reason"] == "stop"
    [comma] = tales_engine.tokenizer.encode(",")
    asked = {"temperature": 0, "max_tokens": 1, "echo": True, "logprobs": 1}
    [choice] = app.complete(prompt=BEGIN, **asked, stop_token_ids=[comma])["choices"]
    assert (choice["text"], choice["logprobs"]["tokens"][-1]) == (BEGIN, ",")
