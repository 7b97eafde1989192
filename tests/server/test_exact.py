"""What /v1/completions says is exact: log-probabilities, places, the order of a stream.

Where two answers must be equal to the last digit our kernels run: torch's sums depend on the batch.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support.odd_texts import odd_texts
from support.served import InProcess
from support.weights import needs_kernels

import gptcli

END = "<|endoftext|>"
SCORING = {"max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True, "seed": 1234}


@pytest.fixture(scope="module")
def ids_of(tales_engine):
    return tales_engine.tokenizer.encode


def scored(app: InProcess, prompt: Any, **fields: Any) -> dict[str, Any]:
    """The log-probabilities of the one choice."""
    [choice] = app.complete(prompt=prompt, **{**SCORING, **fields})["choices"]
    return choice["logprobs"]


def test_echoed_logprobs_and_places_are_those_of_score(app, tales, ids_of):
    texts = [text for text in odd_texts([END], 60, seed=3) if 1 < len(ids_of(text)) < 500][:40]
    assert len(texts) == 40
    model = gptcli.load(str(tales), offline=True)
    for text, score in zip(texts, model.score_many(texts, detail="tokens", bos=False), strict=True):
        expected = [token.logprob for token in score.token_scores]
        for prompt in (text, ids_of(text)):
            found = scored(app, prompt, max_tokens=0)
            assert found["token_logprobs"][0] is None
            assert found["token_logprobs"][1:] == pytest.approx(expected[1:], abs=1e-6)
            assert found["text_offset"] == [token.start for token in score.token_scores]


@pytest.mark.parametrize(
    "text", ["a", "Once upon a time", "日本", f"{END}", f"The end.{END}", "\x00"]
)
@pytest.mark.parametrize(
    "fields", [{}, {"stop": ["zzz"]}, {"stop": [END, "\n", "e", " ", ".", ","]}, {"n": 2}]
)
def test_a_scoring_request_has_one_entry_more_than_its_prompt(app, ids_of, text, fields):
    for choice in app.complete(prompt=ids_of(text), **SCORING, **fields)["choices"]:
        for entries in choice["logprobs"].values():
            assert len(entries) == len(ids_of(text)) + 1
        assert all(choice["logprobs"]["top_logprobs"][1:])


def test_the_entry_is_there_where_the_one_token_ends_the_text(app, ids_of):
    prompt = "So they lived happily"
    [tale] = app.complete(prompt=prompt, max_tokens=60, temperature=0)["choices"]
    assert tale["finish_reason"] == "stop"
    whole = prompt + tale["text"]
    for fields in ({}, {"stop": ["zzz"]}, {"stop": [END]}, {"n": 2}):
        answer = app.complete(prompt=ids_of(whole), **SCORING, **fields)
        for choice in answer["choices"]:
            assert (choice["text"], choice["finish_reason"]) == (whole, "stop")
            assert choice["logprobs"]["tokens"][-1] == END
            assert len(choice["logprobs"]["tokens"]) == len(ids_of(whole)) + 1
        assert answer["usage"]["completion_tokens"] == len(answer["choices"])


def test_a_prompt_that_fills_the_context_is_scored_to_its_end(app, tales_engine):
    context = tales_engine.info.context
    ids = [7 + place % 900 for place in range(context)]
    assert len(scored(app, ids)["token_logprobs"]) == context + 1
    assert len(scored(app, ids, max_tokens=0)["token_logprobs"]) == context
    assert len(scored(app, ids[:-1], stop="zzz")["token_logprobs"]) == context
    for fields in ({"temperature": 1}, {"max_tokens": 2}, {"logprobs": None}):
        error = app.refused(json.dumps({"prompt": ids, **SCORING, **fields}).encode())
        assert (error["param"], error["code"]) == ("prompt", "context_length_exceeded")


def test_a_text_that_would_leave_the_context_ends_there(app, tales_engine):
    context = tales_engine.info.context
    answer = app.complete(prompt=[7] * (context - 3), max_tokens=50, ignore_eos=True)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3


@needs_kernels
def test_the_one_token_is_the_same_by_both_ways(app, ids_of):
    """The prompt's scores say it; a stop string that never comes has it generated."""
    for text in odd_texts([END], 30, seed=5)[1:]:
        if (ids := ids_of(text)) and len(ids) < 500:
            fields = {**SCORING, "logprobs": 3, "prompt": [text, ids]}
            one, other = app.complete(**fields), app.complete(**fields, stop="never\x01this")
            assert one["choices"] == other["choices"]
            assert one["usage"]["total_tokens"] == other["usage"]["total_tokens"]


def test_the_likeliest_token_is_known_by_equal_numbers(app, tales_engine, ids_of):
    greedy = app.complete(prompt="Once upon a time", max_tokens=30, temperature=0)
    text = greedy["choices"][0]["text"]
    found = scored(app, "Once upon a time" + text)
    begin = len(ids_of("Once upon a time"))
    own, top = found["token_logprobs"], found["top_logprobs"]
    assert [own[place] == max(top[place].values()) for place in range(begin, begin + 30)] == (
        [True] * 30
    )
    for place in range(1, begin):
        assert own[place] in top[place].values()


def test_parts_of_characters_are_named_by_their_bytes(app):
    found = scored(app, "é日", max_tokens=0)
    names = ["bytes:\\xc3", "bytes:\\xa9", "bytes:\\xe6", "bytes:\\x97", "bytes:\\xa5"]
    assert found["tokens"] == names
    assert found["text_offset"] == [0, 0, 1, 1, 1]
    numbered = scored(app, "é", max_tokens=0, return_tokens_as_token_ids=True)
    assert [name[:9] for name in numbered["tokens"]] == ["token_id:"] * 2


def test_of_two_ids_with_one_text_the_likelier_stays(app, tales_engine):
    from gptcli.protocol import Alternative
    from gptcli.server.openai.text_places import TextPlaces
    from gptcli.server.openai.token_logprobs import LegacyLogprobs, ListedToken

    class Doubled:
        """A tokenizer in which two ids have one text."""

        byte_level = True

        def token_bytes(self, id: int) -> bytes:
            return b"a" if id < 2 else b"b"

    tokenizer: Any = Doubled()
    names = LegacyLogprobs(tokenizer, False, TextPlaces(tokenizer))
    for own, other in ((-1.0, -2.0), (-2.0, -1.0)):
        token = ListedToken(0, own, (Alternative(1, "a", other), Alternative(2, "b", -3.0)))
        [top] = names.lists([token])["top_logprobs"]
        assert top == {"a": -1.0, "b": -3.0}


def test_what_cannot_be_is_a_finite_number():
    from gptcli.server.openai.token_logprobs import printable

    assert printable(float("-inf")) == -9999.0
    assert printable(-3.25) == -3.25


def joined(events: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The choices of a stream, as a whole answer has them."""
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        for piece in event["choices"]:
            known = found.setdefault(piece["index"], {**piece, "text": "", "logprobs": None})
            assert known is not None
            known["text"] += piece["text"]
            known["finish_reason"] = piece["finish_reason"]
            for name, values in (piece["logprobs"] or {}).items():
                known["logprobs"] = known["logprobs"] or {}
                known["logprobs"].setdefault(name, []).extend(values)
    return found


def check_places(text: str, logprobs: dict[str, list[Any]]) -> None:
    """Each token stands in the text where its offset says."""
    offsets = logprobs["text_offset"]
    assert offsets == sorted(offsets)
    for name, start in zip(logprobs["tokens"], offsets, strict=True):
        if not name.startswith(("bytes:", "token_id:")) and name != END:
            assert name.startswith(text[start : start + len(name)]), (name, start)


def random_request(chance: random.Random, engine: Any, texts: list[str]) -> dict[str, Any]:
    prompts: list[Any] = []
    for _ in range(chance.choice([1, 1, 2, 3])):
        ids = engine.tokenizer.encode(chance.choice(texts))
        begin = chance.randrange(len(ids))
        few = ids[begin : begin + chance.randint(1, 12)]
        any_ids = [chance.randrange(engine.info.vocabulary) for _ in range(6)]
        prompts.append(chance.choice([chance.choice(texts), few, few, any_ids]))
    fields = {
        "prompt": prompts if len(prompts) > 1 or chance.random() < 0.3 else prompts[0],
        "max_tokens": chance.choice([0, 1, 1, 2, 7, 20]),
        "seed": chance.randrange(99),
        "temperature": chance.choice([0, 0, 1, 1.7]),
        "echo": chance.random() < 0.6,
        "n": chance.choice([1, 1, 2, 4]),
        "logprobs": chance.choice([None, 0, 1, 1, 5]),
        "return_tokens_as_token_ids": chance.random() < 0.2,
    }
    if chance.random() < 0.4:
        stops = [["the"], ["\n", "e", "."], [" "], ["\ufffd"], [END], ["zzzz", "Th", "."]]
        fields["stop"] = chance.choice(stops)
    if chance.random() < 0.2:
        fields["logit_bias"] = {str(engine.tokenizer.eos_id): chance.choice([5, 100])}
    return fields


@needs_kernels
def test_a_stream_joins_to_the_whole_answer(app, tales_engine):
    chance = random.Random(7)
    texts = [text for text in odd_texts([END], 400) if text and len(text) < 200]
    for _ in range(80):
        fields = random_request(chance, tales_engine, texts)
        whole = app.complete(**fields)
        events = app.stream(**fields, stream_options={"include_usage": True})
        last = events.pop()
        assert last["choices"] == []
        assert all(event["usage"] is None for event in events)
        for usage in (last["usage"], whole["usage"]):  # the cache knows more the second time
            del usage["prompt_tokens_details"]
        assert last["usage"] == whole["usage"]
        found = joined(events)
        assert [found[choice["index"]] for choice in whole["choices"]] == whole["choices"]
        for choice in whole["choices"]:
            if choice["logprobs"]:
                check_places(choice["text"], choice["logprobs"])


def test_a_stream_begins_with_its_prompt(app):
    for fields in ({"logprobs": 1}, {}, {"logprobs": 0, "n": 3}):
        events = app.stream(prompt="Once upon", echo=True, max_tokens=5, **fields)
        first: dict[int, str] = {}
        for event in events:
            for piece in event["choices"]:
                first.setdefault(piece["index"], piece["text"])
        assert set(first.values()) == {"Once upon"}


def test_the_best_of_several_has_the_greatest_mean_logprob(app):
    asked = {"prompt": "The king", "max_tokens": 12, "seed": 5, "temperature": 1.3}
    every = app.complete(**asked, n=6, logprobs=0)["choices"]
    means = {
        choice["text"]: sum(choice["logprobs"]["token_logprobs"])
        / len(choice["logprobs"]["token_logprobs"])
        for choice in every
    }
    ranked = sorted(means, key=lambda text: -means[text])
    best = app.complete(**asked, n=2, best_of=6)
    assert [choice["text"] for choice in best["choices"]] == ranked[:2]
    assert [choice["index"] for choice in best["choices"]] == [0, 1]
    assert all(choice["logprobs"] is None for choice in best["choices"])
    assert best["usage"]["completion_tokens"] == 6 * 12
    several = app.complete(**{**asked, "prompt": ["The king", "A fox"]}, best_of=3, echo=True)
    assert [choice["index"] for choice in several["choices"]] == [0, 1]
    assert several["choices"][1]["text"].startswith("A fox")


def test_the_same_seed_writes_what_the_command_writes(app, tales: Path, main_in):
    asked = {"prompt": "Once upon a time", "max_tokens": 20, "seed": 11, "temperature": 0.9}
    whole = app.complete(**asked, top_k=40, top_p=0.9)
    flags = ["--max-tokens=20", "--seed=11", "-t0.9", "--top-k=40", "--top-p=0.9", "--no-echo"]
    code, out, _ = main_in("generate", "-m", str(tales), "--offline", "-q", *flags, asked["prompt"])
    assert code == 0
    assert out == whole["choices"][0]["text"] + "\n"
