"""OpenAI's own package for Python, unmodified, against `gptcli serve`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.served import ServedProcess, serving

openai = pytest.importorskip("openai", reason="pip install openai")


@pytest.fixture(scope="module")
def client(served: ServedProcess):
    with openai.OpenAI(base_url=served.url, api_key="none", max_retries=0) as client:
        yield client


ASKED: dict[str, Any] = {"model": "tiny-tales", "max_tokens": 12, "seed": 4}


def test_the_list_of_models(client):
    [model] = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("tiny-tales", "model", "gptcli")


def test_a_whole_answer_and_its_stream(client):
    whole = client.completions.create(prompt="Once upon a time", logprobs=2, **ASKED)
    [choice] = whole.choices
    assert choice.finish_reason == "length"
    assert len(choice.logprobs.tokens) == len(choice.logprobs.top_logprobs) == 12
    assert whole.usage.total_tokens == 16
    asked = {**ASKED, "prompt": "Once upon a time", "logprobs": 2}
    events = list(
        client.completions.create(stream=True, stream_options={"include_usage": True}, **asked)
    )
    assert events[-1].usage.completion_tokens == 12
    pieces = [event.choices[0] for event in events[:-1]]
    assert "".join(piece.text for piece in pieces) == choice.text
    assert [token for piece in pieces for token in piece.logprobs.tokens] == choice.logprobs.tokens
    assert {event.id for event in events} == {events[0].id}


def test_several_texts_of_several_prompts(client):
    given = {**ASKED, "prompt": ["Once", "The king"], "n": 3, "echo": True}
    choices = client.completions.create(**given, best_of=4).choices
    assert [choice.index for choice in choices] == list(range(6))
    starts = [choice.text.startswith("Once") for choice in choices]
    assert starts == [True] * 3 + [False] * 3
    ids = client.completions.create(prompt=[[7, 8], [9]], **ASKED)
    assert len(ids.choices) == 2


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"prompt": "x " * 2000}, openai.BadRequestError, "prompt"),
        ({"prompt": "Once", "temperature": -1}, openai.BadRequestError, "temperature"),
        ({"prompt": "Once", "suffix": "end"}, openai.BadRequestError, "suffix"),
        ({"prompt": "Once", "model": "gpt-4"}, openai.NotFoundError, "model"),
    ],
)
def test_errors_are_the_exceptions_of_the_package(client, fields, kind, param):
    with pytest.raises(kind) as caught:
        client.completions.create(**{**ASKED, **fields})
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(kind):
        client.completions.create(stream=True, **{**ASKED, **fields})


def test_a_full_queue_is_a_rate_limit_that_is_tried_again():
    with serving("--max-queued-requests", "1", "--batch-size", "1") as busy:

        def ask(number: int, tries: int) -> str:
            with openai.OpenAI(base_url=busy.url, api_key="none", max_retries=tries) as client:
                answer = client.completions.create(
                    model="tiny-tales", prompt="A", max_tokens=200, n=2, seed=number, timeout=60
                )
                return answer.choices[0].text

        with ThreadPoolExecutor(5) as clients:
            hasty = [clients.submit(ask, number, 0) for number in range(5)]
            errors = [found.exception() for found in hasty]
        refused = [error for error in errors if error is not None]
        assert refused
        assert all(type(error) is openai.RateLimitError for error in refused)
        assert int(refused[0].response.headers["retry-after"]) >= 1
        with ThreadPoolExecutor(3) as clients:
            patient = list(clients.map(ask, range(3), [9] * 3))
        assert patient == [ask(number, 0) for number in range(3)]
