"""Rows of JSON with settings of their own, and lines of OpenAI's batches."""

from __future__ import annotations

import json
from io import BytesIO

import pytest
from support.batch_rows import errors, of, texts

from gptcli.batch.input.notices import RowNotices
from gptcli.batch.input.row import Row
from gptcli.batch.input.sources import rows
from gptcli.batch.options import BatchInput
from gptcli.options import Sampling


def line(body: dict[str, object], url: str = "/v1/completions", id: object = "r-1") -> bytes:
    row = {"custom_id": id, "method": "POST", "url": url, "body": {"model": "x", **body}}
    return json.dumps(row).encode() + b"\n"


def chat(*messages: tuple[str, object], **body: object) -> Row:
    """The row of a conversation of these roles and contents."""
    said = [{"role": role, "content": content} for role, content in messages]
    return of(line({"messages": said, **body}, "/v1/chat/completions"))[0]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('"temperature": 0', {"temperature": 0}),
        ('"max_tokens": 5', {"max_new_tokens": 5}),
        ('"max_new_tokens": 5.0', {"max_new_tokens": 5}),
        ('"stop": "END"', {"stop": ("END",)}),
        ('"stop": ["a", "\\n"], "bad_words": ["x"]', {"stop": ("a", "\n"), "bad_words": ("x",)}),
        ('"logit_bias": {"50256": -100}', {"logit_bias": (("50256", -100),)}),
        ('"seed": null, "top_p": 0.5', {"top_p": 0.5}),
        ('"sampling": {"seed": 3, "max_tokens": 2}', {"seed": 3, "max_new_tokens": 2}),
        ('"sampling": "stratified", "label": 3, "temp": "cold"', {}),
        ('"logprobs": 2, "stop_on_loop": true', {"logprobs": 2, "stop_on_loop": True}),
    ],
)
def test_a_row_sets_its_own_sampling(written: str, expected: dict[str, object]) -> None:
    row = of(f'{{"prompt": "a", {written}}}\n'.encode())[0]
    assert row.error is None
    assert row.overrides == expected


def test_settings_of_a_row_can_be_left_alone() -> None:
    row = of(b'{"prompt": "a", "temperature": "cold"}\n', row_settings=False)[0]
    assert (row.error, row.overrides) == (None, {})


def test_every_setting_of_a_row_is_one_that_sampling_takes() -> None:
    row = of(b'{"prompt": "a", "seed": 1, "stop": "x", "logit_bias": {"5": 1}}\n')[0]
    assert Sampling(**row.overrides).stop == ("x",)  # type: ignore[arg-type]


def test_keys_can_be_named() -> None:
    data = b'{"q": "a", "prompt": "no", "key": "x"}\n"bare"\n{"prompt": "b"}\n'
    found = of(data, input_format="jsonl", column="q", id_column="key")
    assert texts(found) == ["a", "bare", None]
    assert found[0].id == "x"
    assert "no key q" in errors(found)[0]


def test_blank_lines_are_no_rows() -> None:
    found = of(b'{"prompt": "a"}\r\n\r\n \t\n{"prompt": 5}\n')
    assert texts(found) == ["a", None]
    assert "line 4" in errors(found)[0]


def test_a_request_for_a_completion_is_a_prompt() -> None:
    body = {
        "prompt": "Once",
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 1,
        "stop": ["\n"],
        "seed": 3,
        "n": 1,
        "frequency_penalty": 0.5,
        "presence_penalty": None,
        "logit_bias": {"5": 1},
        "logprobs": 2,
        "user": "me",
        "echo": False,
    }
    row = of(line(body))[0]
    assert (row.error, row.id, row.text) == (None, "r-1", "Once")
    assert row.overrides == {
        "max_new_tokens": 9,
        "temperature": 0.5,
        "top_p": 1,
        "stop": ("\n",),
        "seed": 3,
        "frequency_penalty": 0.5,
        "logit_bias": (("5", 1),),
        "logprobs": 2,
    }


def test_a_list_of_one_prompt_is_that_prompt() -> None:
    assert texts(of(line({"prompt": ["Once"]}))) == ["Once"]


def test_a_single_message_of_the_user_is_the_prompt() -> None:
    assert chat(("user", "Hello")).text == "Hello"


def test_a_conversation_is_one_text() -> None:
    row = chat(("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi."), ("user", "Bye"))
    assert row.text == "system: Be brief.\nuser: Hello\nassistant: Hi.\nuser: Bye"


def test_a_message_can_come_in_parts() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert chat(("user", parts)).text == "Hello"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": 3}),
        ({"logprobs": True}, {"logprobs": 0}),
        ({"logprobs": False, "top_logprobs": None}, {}),
        ({"max_completion_tokens": 4}, {"max_new_tokens": 4}),
        ({"response_format": {"type": "text"}, "tools": []}, {}),
    ],
)
def test_a_conversation_has_its_own_spellings(
    body: dict[str, object], expected: dict[str, object]
) -> None:
    row = chat(("user", "Hello"), **body)
    assert row.error is None
    assert row.overrides == expected


@pytest.mark.parametrize(
    "body",
    [{"n": 2}, {"n": True}, {"tools": [{}]}, {"response_format": {"type": "json_object"}}],
)
def test_what_cannot_be_done_is_a_bad_row(body: dict[str, object]) -> None:
    row = chat(("user", "Hello"), **body)
    assert "cannot be done" in str(row.error)
    assert row.id == "r-1"


def test_two_limits_of_tokens_are_a_bad_row() -> None:
    row = chat(("user", "Hello"), max_tokens=3, max_completion_tokens=4)
    assert "max_tokens is given twice" in str(row.error)


def test_a_line_of_another_kind_is_bad_where_openai_is_asked_for() -> None:
    found = of(b'{"prompt": "a"}\n"b"\n' + line({"prompt": "c"}), input_format="openai")
    assert texts(found) == [None, None, "c"]
    assert "not a line of an OpenAI batch" in errors(found)[0]


def test_ids_given_twice_are_found_in_openai_batches() -> None:
    found = of(line({"prompt": "a"}) + line({"prompt": "b"}))
    assert texts(found) == ["a", None]


def test_fields_that_are_not_known_are_said_once_and_those_of_vllm_are_served() -> None:
    said: list[str] = []
    body = {"prompt": "a", "min_tokens": 3, "ignore_eos": True, "stop_token_ids": [5], "user": "u"}
    body["guided_regex"] = "a+"
    quiet = {"prompt": "a", "ignore_eos": False, "stop_token_ids": [], "guided_json": None}
    data = line(body) + line(body, id="r-2") + line(quiet, id="r-3")
    found = [
        row for row in rows(["-"], BatchInput(), BytesIO(data), RowNotices(said.append)) if row
    ]
    assert [(row.error, row.overrides) for row in found] == [
        *[(None, {"min_new_tokens": 3, "stop_token_id": (5,)})] * 2,
        (None, {"stop_token_id": ()}),
    ]
    assert [notice.split(":")[0] for notice in said] == ["ignore_eos", "guided_regex"]
