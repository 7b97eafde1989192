"""/v1/chat/completions: messages of all kinds, and a stream that joins to the whole reply."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_engine import INFO, FakeEngine
from support.served import InProcess, events_of

from gptcli.options import Sampling
from gptcli.protocol import Chunk, Completion, TokenLogprob, Usage
from gptcli.server.engine_thread import END, ClientJob
from gptcli.server.openai.chat import ChatAnswer, ChatCall
from gptcli.server.openai.completions import CompletionCall, PromptText, Written
from gptcli.server.openai.prompts import EncodedPrompt
from gptcli.server.service import Service, ServiceLimits

SAID = [{"role": "user", "content": "Tell me a tale."}]
ROUTE = "/v1/chat/completions"


def asked(app: InProcess, **body: object) -> Any:
    status, headers, data = app.send(json.dumps({"messages": SAID} | body).encode(), ROUTE)
    assert status == 200, data
    is_stream = headers["content-type"].startswith("text/event-stream")
    return events_of(data) if is_stream else json.loads(data)


def joined(events: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The choices that the pieces of a stream join to."""
    found = [{"content": "", "tokens": [], "end": None, "role": None} for _ in range(count)]
    for event in events:
        for choice in event["choices"]:
            one = found[choice["index"]]
            assert one["end"] is None, "nothing comes after the end"
            one["content"] += choice["delta"].get("content") or ""
            one["role"] = one["role"] or choice["delta"].get("role")
            one["tokens"] += (choice["logprobs"] or {"content": []})["content"]
            one["end"] = choice["finish_reason"]
    return found


def whole(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "content": choice["message"]["content"],
            "tokens": (choice["logprobs"] or {"content": []})["content"],
            "end": choice["finish_reason"],
            "role": choice["message"]["role"],
        }
        for choice in answer["choices"]
    ]


TEXTS = st.lists(st.text("ab \n\té\u3000", max_size=4), max_size=6)


@given(choices=st.lists(TEXTS, min_size=1, max_size=3), logprobs=st.booleans(), data=st.data())
def test_a_stream_joins_to_the_whole_reply_without_white_space_around_it(
    choices: list[list[str]], logprobs: bool, data: Any
) -> None:
    service = Service.of(FakeEngine(tokenizer=Letters()), ServiceLimits())  # type: ignore[arg-type]
    completion = CompletionCall(
        prompts=("p",), sampling=Sampling(), max_tokens=9, n=len(choices), asked=len(choices)
    )
    call = ChatCall(completion=completion, logprobs=logprobs)
    items = list(sent(choices, data))
    answer = asyncio.run(ChatAnswer(call, service).whole(job(items)))
    pieces = asyncio.run(collected(ChatAnswer(call, service), job(items)))
    assert joined(pieces, len(choices)) == whole(answer)
    assert [one["content"] for one in whole(answer)] == [
        "".join(chunks).strip() for chunks in choices
    ]


class Letters:
    """A tokenizer whose tokens are characters, and have no bytes."""

    longest = 1

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))

    def token_text(self, id: int) -> str:
        return str(id)

    def token_bytes(self, id: int) -> None:
        return None


def sent(choices: list[list[str]], data: Any) -> Iterator[Any]:
    """What a job sends for these chunks of each choice, interleaved at random."""
    yield PromptText(0, EncodedPrompt((1, 2, 3), "p"))
    left = {index: list(chunks) for index, chunks in enumerate(choices)}
    while left:
        index = data.draw(st.sampled_from(sorted(left)))
        if left[index]:
            text = left[index].pop(0)
            scored = (TokenLogprob(len(text), text, -1.0),)
            yield Written(0, Chunk(id="1", index=index, text=text, tokens=(1,), logprobs=scored))
            continue
        del left[index]
        yield Written(0, ended(index, choices[index]))


def ended(index: int, chunks: list[str]) -> Completion:
    return Completion(
        id="1",
        index=index,
        prompt="p",
        text="".join(chunks),
        tokens=(1,) * len(chunks),
        finish_reason="length",
        usage=Usage(prompt_tokens=3, completion_tokens=len(chunks)),
        seed=1,
        model="fake",
        revision=None,
        logprobs=tuple(TokenLogprob(len(text), text, -1.0) for text in chunks),
    )


def job(items: Sequence[Any]) -> ClientJob:
    made = ClientJob(lambda send, ids: iter(()))  # type: ignore[arg-type, return-value]
    for item in (*items, END):
        made.put(item)
    return made


async def collected(answer: ChatAnswer, job: ClientJob) -> list[dict[str, Any]]:
    return [piece async for pieces in answer.pieces(job) for piece in pieces]


@pytest.mark.parametrize("stop", [None, [" the", "\n"]])
def test_a_stream_of_a_model_joins_to_its_whole_reply(app: InProcess, stop: object) -> None:
    body = {"n": 3, "seed": 5, "max_tokens": 40, "logprobs": True, "top_logprobs": 2, "stop": stop}
    answer = asked(app, **body)
    events = asked(app, **body, stream=True, stream_options={"include_usage": True})
    *pieces, last = events
    assert joined(pieces, 3) == whole(answer)
    assert last["choices"] == []
    assert {**last["usage"], "prompt_tokens_details": 0} == {
        **answer["usage"],
        "prompt_tokens_details": 0,
    }
    assert {piece["usage"] for piece in pieces} == {None}
    assert {len(piece["choices"]) for piece in pieces} == {1}
    assert all(one["logprobs"]["refusal"] is None for one in answer["choices"])
    assert all(one["message"]["refusal"] is None for one in answer["choices"])


def prompt_of(messages: list[Any], info: Any = INFO) -> str:
    """The text of the prompt that is made of these messages."""
    fake = FakeEngine(info=replace(info, context=10_000), asked=[], tokenizer=Letters())  # type: ignore[arg-type]
    with InProcess(fake) as app:
        asked(app, messages=messages)
    [request] = fake.asked or ()
    return str(request.prompt)


def test_all_ways_to_say_a_text_are_read_and_instructions_come_first() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": parts},
        {"role": "assistant", "content": [{"type": "text", "text": "Hi."}], "refusal": None},
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "Bye"},
    ]
    wanted = "Be brief.\nBe kind.\n\nHuman: Hello\nAI: Hi.\nHuman: Bye\nAI:"
    assert prompt_of(messages) == wanted


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [*SAID, {"role": "assistant", "content": "Once"}]}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [{"role": "user", "content": [[]]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}, *SAID]},
            "messages[0].tool_calls",
        ),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"web_search_options": {"a": 1}}, "web_search_options"),
        ({"echo": True}, "echo"),
        ({"prompt": "Once"}, "prompt"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": 2}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream_options": {}}, "stream_options"),
        ({"messages": [{"role": "user", "content": "word " * 600}]}, "messages"),
    ],
)
def test_what_is_not_served_is_refused_by_its_name(
    app: InProcess, body: dict[str, object], param: str
) -> None:
    error = app.refused(json.dumps({"messages": SAID} | body).encode(), path=ROUTE)
    assert (error["status"], error["param"]) == (400, param)


def test_what_asks_for_nothing_is_tolerated(app: InProcess) -> None:
    nothing = {
        "tools": [],
        "functions": None,
        "response_format": {"type": "text"},
        "user": "u",
        "modalities": ["text"],
        "store": False,
        "metadata": {},
        "parallel_tool_calls": True,
        "reasoning_effort": None,
        "x_unknown": {"a": [1]},
        "max_completion_tokens": 2,
        "temperature": 0,
    }
    assert asked(app, **nothing)["usage"]["completion_tokens"] == 2


def test_the_templates_own_refusal_is_the_clients_matter(tales: Path, tmp_path: Path) -> None:
    template = tmp_path / "chat_template.jinja"
    template.write_text(
        "{% for m in messages %}{% if loop.index0 % 2 != (m.role == 'assistant') | int %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}<{{ m.content }}>{% endfor %}"
    )
    assert prompt_of(SAID, replace(INFO, folder=tmp_path)) == "<Tell me a tale.>"
    fake = FakeEngine(info=replace(INFO, folder=tmp_path))
    with InProcess(fake) as app:
        error = app.refused(json.dumps({"messages": SAID * 2}).encode(), path=ROUTE)
    assert (error["status"], error["param"]) == (400, "messages")
    assert "roles must alternate" in error["message"]
