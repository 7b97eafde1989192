"""JSON and TOML are read within bounds: of depth, of digits, of time."""

from __future__ import annotations

import time

import pytest

from gptcli.errors import BadConfig
from gptcli.system.strict_json import MAX_DEPTH, loaded, parse_value, parse_written, too_deep
from gptcli.system.strict_toml import MAX_DEPTH as MAX_TABLES
from gptcli.system.strict_toml import MAX_KEY_PARTS, parse_toml


@pytest.mark.parametrize("parse", [loaded, parse_value, parse_written])
def test_json_of_the_greatest_depth_is_read_and_a_deeper_one_refused(parse) -> None:
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert repr(parse(deepest)).replace("'", "") == deepest
    for text in (f"[{deepest}]", f'{{"a": {deepest}}}', "[" * 990 + "]" * 990, "[" * 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse(text)


def test_brackets_in_a_text_are_no_depth() -> None:
    assert parse_value('"' + "[" * 500 + '"') == "[" * 500
    assert not too_deep([[]] * 500)


def test_what_we_write_as_json_has_no_infinities() -> None:
    for text in ("NaN", "[Infinity]", '{"a": 1e999}', "9" * 5000):
        with pytest.raises(ValueError, match=r"number|range|digits"):
            parse_written(text)
    assert parse_written('{"a": 1, "b": [0.5, null]}') == {"a": 1, "b": [0.5, None]}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (f"a = {'9' * 5000}", "a whole number that is too long"),
        (f"a = 0x{'f' * 6000}", "a whole number that is too long"),
        (f"[b]\nc = 1\na = {'9' * 5000}", r"too long \(at line 3\)"),
        (f"[b]\na = 0x{'f' * 6000}", r"too long \(at line 2\)"),
        (f"a = [{{ b = 0b{'1' * 20_000} }}]", "a whole number that is too long"),
        (f"{'a.' * MAX_KEY_PARTS}a = 1", "a key of more than 32 parts"),
        (f"b = 1\n[{'a . ' * MAX_KEY_PARTS}a]", "a key of more than 32 parts"),
        ("b = { c = 1, " + '"x".' * MAX_KEY_PARTS + "a = 1 }", "a key of more than 32 parts"),
        (f"a = {'[' * (MAX_TABLES + 1)}{']' * (MAX_TABLES + 1)}", "nested too deeply"),
        (f"a = {'[' * 100_000}", "nested too deeply"),
        ("a = = 1", "line 1"),
    ],
)
def test_toml_beyond_the_bounds_is_refused_by_its_rule(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        parse_toml(text)


def test_a_message_quotes_the_beginning_and_the_end_of_what_is_long() -> None:
    error = BadConfig("a.toml", f"{'x' * 10**6} is wrong", "Correct it")
    assert len(str(error)) < 2100
    assert "xxx ... xxx" in error.why
    assert error.why.endswith("is wrong")


def test_toml_within_the_bounds_is_read() -> None:
    assert parse_toml(f"a = {'9' * 400}\n") == {"a": int("9" * 400)}
    assert parse_toml(f'a = """\n{"a." * 99}a"""') == {"a": "a." * 99 + "a"}
    assert "a" in parse_toml("a." * (MAX_KEY_PARTS - 1) + "a = 1")


@pytest.mark.parametrize(
    "text",
    ["a." * 60_000 + "a = 1", "a" * 120_000, '"' * 120_000, "a. " * 40_000],
    ids=["parts", "word", "quotes", "spaces"],
)
def test_toml_takes_a_time_that_grows_with_its_length(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(ValueError, match=r"."):
        parse_toml(text)
    assert time.process_time() - begun < 5  # it took minutes
