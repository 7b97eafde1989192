"""Bad rows among good ones: each is one row with an error, and those after it are unharmed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.batch_rows import of, texts
from support.fake_engine import FakeEngine

from gptcli.errors import BadInput, ExitCode
from gptcli.inputs.encoding import foreign_encoding
from gptcli.inputs.pieces import MAX_LINE_BYTES

GOOD = b'{"prompt": "good"}\n'
DEEP = b"[" * 100_000


def body(inner: bytes, url: bytes = b"/v1/completions") -> bytes:
    return b'{"custom_id": "a", "method": "POST", "url": "%b", "body": %b}' % (url, inner)


JSON = {
    "no JSON": (b"Once upon a time", "not JSON"),
    "cut short": (b'{"prompt": "a"', "not JSON"),
    "two on a line": (b'{"prompt": "a"} {"prompt": "b"}', "not JSON"),
    "single quotes": (b"{'prompt': 'a'}", "not JSON"),
    "bad UTF-8": (b'{"prompt": "a\xff"}', "invalid UTF-8 at byte 13"),
    "UTF-16": ('{"prompt": "a"}'.encode("utf-16-le"), "not JSON"),
    "second byte order mark": (b'\xef\xbb\xbf{"prompt": "a"}', "not JSON"),
    "lone surrogate": (b'{"prompt": "a\\ud800"}', "half of a surrogate pair at character 1"),
    "lone surrogate in the id": (b'{"prompt": "a", "id": "\\udfff"}', "the id has half"),
    "lone surrogate in a stop": (b'{"prompt": "a", "stop": ["\\ud800"]}', "stop has half"),
    "control character": (b'{"prompt": "a\x01"}', "not JSON"),
    "deep nesting": (DEEP, "nested too deeply"),
    "deep nesting inside": (b'{"prompt": "a", "x": ' + DEEP + b"}", "nested too deeply"),
    "NaN": (b'{"prompt": "a", "temperature": NaN}', "NaN is not a JSON number"),
    "Infinity": (b'{"prompt": "a", "top_p": -Infinity}', "-Infinity is not a JSON number"),
    "a setting twice": (b'{"prompt": "a", "seed": 1, "seed": 2}', "'seed' stands twice"),
    "huge number": (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", "5000 digits"),
    "a key twice": (b'{"prompt": "a", "prompt": "b"}', "stands twice"),
    "a list": (b'["a"]', "not an object"),
    "a number": (b"5", "not an object"),
    "null": (b"null", "not an object"),
    "no prompt": (b'{"question": "a"}', "no key prompt or text"),
    "null prompt": (b'{"prompt": null, "text": "a"}', "the prompt is null"),
    "number prompt": (b'{"prompt": 5}', "the prompt is a number"),
    "true prompt": (b'{"prompt": true}', "the prompt is true or false"),
    "list prompt": (b'{"prompt": ["a"]}', "is no token id"),
    "object prompt": (b'{"prompt": {}}', "the prompt is an object"),
    "empty prompt": (b'{"prompt": ""}', "the prompt is empty"),
    "blank prompt": (b'{"prompt": " \\n"}', "the prompt is empty"),
    "empty text": (b'""', "the prompt is empty"),
    "list id": (b'{"prompt": "a", "id": [1]}', "the id is a list"),
    "fraction id": (b'{"prompt": "a", "id": 1.5}', "the id is a number"),
    "true id": (b'{"prompt": "a", "id": true}', "the id is true or false"),
    "too long": (b'{"prompt": "' + b"x" * MAX_LINE_BYTES + b'"}', "longer than 1 MiB"),
    "text temperature": (b'{"prompt": "a", "temperature": "hot"}', "temperature: 'hot' is not"),
    "true temperature": (b'{"prompt": "a", "temperature": true}', "temperature: True is not"),
    "hot temperature": (b'{"prompt": "a", "temperature": 900}', "900 is out of range. Give from 0"),
    "broken tokens": (b'{"prompt": "a", "max_tokens": 1.5}', "max_new_tokens: 1.5 is not a whole"),
    "no tokens": (b'{"prompt": "a", "max_new_tokens": 0}', "0 is out of range"),
    "two limits": (b'{"prompt": "a", "max_tokens": 1, "max_new_tokens": 1}', "given twice"),
    "top_p 0": (b'{"prompt": "a", "top_p": 0}', "top_p: 0 is out of range"),
    "negative seed": (b'{"prompt": "a", "seed": -1}', "seed: -1 is out of range"),
    "stop number": (b'{"prompt": "a", "stop": 5}', "stop: 5 is no list of texts"),
    "stop numbers": (b'{"prompt": "a", "stop": ["a", 5]}', "is no list of texts"),
    "empty stop": (b'{"prompt": "a", "stop": [""]}', "stop: the text is empty"),
    "bias list": (b'{"prompt": "a", "logit_bias": [1]}', "logit_bias: [1] is no object"),
    "bias text": (b'{"prompt": "a", "logit_bias": {"1": "x"}}', "is no object of numbers"),
    "bias too strong": (b'{"prompt": "a", "logit_bias": {"1": 101}}', "101 is out of range"),
    "greedy": (b'{"prompt": "a", "greedy": true}', "Write temperature = 0"),
    "beams": (b'{"prompt": "a", "num_beams": 4}', "num_beams cannot be set by a row"),
    "several": (b'{"prompt": "a", "num_return_sequences": 2}', "cannot be set by a row"),
    "unknown setting": (b'{"prompt": "a", "sampling": {"temp": 1}}', "no setting 'temp'"),
    "set twice": (b'{"prompt": "a", "seed": 1, "sampling": {"seed": 1}}', "in the row and in"),
    "other method": (
        b'{"custom_id": "a", "method": "GET", "url": "/v1/completions", "body": {}}',
        "method 'GET'",
    ),
    "other url": (body(b"{}", b"/v1/embeddings"), "'/v1/embeddings' is not served"),
    "list url": (b'{"custom_id": "a", "url": [], "body": {}}', "is not served"),
    "text body": (body(b'"a"'), "body is no object"),
    "no prompt in the body": (body(b'{"messages": []}'), "body has no prompt"),
    "a token that is none": (body(b'{"prompt": [1, true]}'), "prompt is a list"),
    "two prompts": (body(b'{"prompt": ["a", "b"]}'), "prompt is a list"),
    "two answers": (body(b'{"prompt": "a", "n": 2}'), "n = 2 cannot be done"),
    "a suffix": (body(b'{"prompt": "a", "suffix": "b"}'), "suffix = 'b'"),
    "an echo": (body(b'{"prompt": "a", "echo": true}'), "echo = True"),
    "no messages": (body(b'{"prompt": "a"}', b"/v1/chat/completions"), "no messages"),
    "no role": (body(b'{"messages": [{}]}', b"/v1/chat/completions"), "no role"),
    "an image": (
        body(
            b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
            b"/v1/chat/completions",
        ),
        "content is not a text",
    ),
    "no content": (
        body(b'{"messages": [{"role": "user"}]}', b"/v1/chat/completions"),
        "content is not a text",
    ),
    "hot body": (body(b'{"prompt": "a", "temperature": 900}'), "temperature: 900"),
}


@pytest.mark.parametrize(("bad", "message"), JSON.values(), ids=JSON.keys())
def test_a_bad_line_of_json_is_one_bad_row(bad: bytes, message: str) -> None:
    found = of(GOOD + bad + b"\n" + GOOD)
    assert texts(found) == ["good", None, "good"]
    error = found[1].error
    assert isinstance(error, BadInput)
    assert error.exit_code == ExitCode.DATA
    assert error.message.startswith("standard input line 2: ")
    assert message in str(error)
    assert error.hint
    assert len(str(error)) < 1000


CSV = {
    "too few": (b"1", "1 field where the header has 2"),
    "too many": (b"1,2,3", "3 fields where the header has 2"),
    "bad UTF-8": (b"1,a\xff", "invalid UTF-8 at byte 3"),
    "NUL": (b"1,a\0b", "NUL character"),
    "empty prompt": (b"1,", "the prompt is empty"),
    "blank prompt": (b"1,  ", "the prompt is empty"),
    "text behind a quote": (b'1,"a"b', "goes on behind its closing quote"),
    "quote left open": (b'1,"a', "quote"),
    "quote open at the first field": (b'"1,a', "quote"),
    "carriage return inside": (b"1,a\rb", "new-line character"),
    "too long": (b"1," + b"x" * MAX_LINE_BYTES, "longer than 1 MiB"),
    "too long and open": (b'1,"' + b"x" * (MAX_LINE_BYTES + 9), "longer than 1 MiB"),
}


@pytest.mark.parametrize(("bad", "message"), CSV.values(), ids=CSV.keys())
@pytest.mark.parametrize("after", [b'8,"good"\n', b"8,good\n"], ids=["quoted", "bare"])
def test_a_bad_record_of_csv_is_one_bad_row(bad: bytes, message: str, after: bytes) -> None:
    found = of(b"id,prompt\n7,good\n" + bad + b"\n" + after, input_format="csv")
    assert texts(found) == ["good", None, "good"]
    assert isinstance(found[1].error, BadInput)
    assert found[1].error.message.startswith("standard input line 3: ")
    assert message in str(found[1].error)


LINES = {
    "empty": (b"", "the prompt is empty"),
    "blank": (b" \t", "the prompt is empty"),
    "only a carriage return": (b"\r", "the prompt is empty"),
    "bad UTF-8": (b"a\xff\xfe", "invalid UTF-8 at byte 1"),
    "surrogate in UTF-8": (b"\xed\xa0\x80", "invalid UTF-8 at byte 0"),
    "too long": (b"x" * (MAX_LINE_BYTES + 1), "longer than 1 MiB"),
    "much too long": (b"x" * (3 * MAX_LINE_BYTES), "longer than 1 MiB"),
}


@pytest.mark.parametrize(("bad", "message"), LINES.values(), ids=LINES.keys())
def test_a_bad_line_is_one_bad_row(bad: bytes, message: str) -> None:
    found = of(b"good\n" + bad + b"\ngood")
    assert texts(found) == ["good", None, "good"]
    assert isinstance(found[1].error, BadInput)
    assert found[1].error.message.startswith("standard input line 2: ")
    assert message in str(found[1].error)


def test_all_bad_rows_together_leave_the_good_ones_unharmed() -> None:
    data = GOOD + b"".join(bad + b"\n" + GOOD for bad, _ in JSON.values())
    found = of(data)
    assert texts(found)[::2] == ["good"] * (len(JSON) + 1)
    assert texts(found)[1::2] == [None] * len(JSON)


CARRIED = {
    "long integers": (b"9" * 40, b"-" + b"9" * 3999, b"9" * 4000, b"9" * 4001),
    "large numbers": (b"1e400", b"NaN", b"-Infinity", b"0." + b"1" * 500),
    "deep": tuple(b"[" * depth + b"]" * depth for depth in (198, 199, 200, 201)),
    "odd": (b'"\\ud800"', b'{"a": 1, "a": 2}', '"\u2028"'.encode(), b'"\\u0000"'),
}


@pytest.mark.parametrize("values", CARRIED.values(), ids=CARRIED)
@pytest.mark.parametrize("key", [b"other", b"id", b"temperature", b"messages", b"prompt"])
def test_a_batch_reads_what_it_wrote_of_a_row(
    key: bytes, values: tuple[bytes, ...], tmp_path: Path, main_in: Callable[..., Any]
) -> None:
    rows = (b'{"prompt": "good", "%b": %b}\n' % (key, value) for value in values)
    (tmp_path / "in.jsonl").write_bytes(b"".join(rows))
    args = ("batch", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"))
    code, _, err = main_in(*args, engine=FakeEngine())
    assert code in (0, 3), err
    written = (tmp_path / "out.jsonl").read_bytes()
    assert written.count(b"\n") == len(values)
    again, _, err = main_in(*args, engine=FakeEngine())
    assert again == code, err
    assert (tmp_path / "out.jsonl").read_bytes() == written


@given(st.binary(max_size=200), st.sampled_from(["lines", "jsonl", "openai", "csv", "tsv"]))
def test_no_bytes_are_a_bug(data: bytes, format: str) -> None:
    assume(foreign_encoding(b"prompt\n" + data) is None)
    assert all(row.text or row.error for row in of(b"prompt\n" + data, input_format=format))


@given(st.lists(st.sampled_from([b'"', b",", b"\n", b"a", b"\r", b'""', b'"\n']), max_size=30))
def test_a_record_behind_broken_quotes_is_found(parts: list[bytes]) -> None:
    found = of(
        b"id,prompt\n" + b"".join(parts) + b'\n\n9,last\n10,"very last"\n', input_format="csv"
    )
    assert texts(found)[-1] == "very last"
