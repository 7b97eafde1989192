"""The writers that all commands share: one table, one JSON and one CSV writer, one for texts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gptcli.cli.output import table
from gptcli.cli.output.completions import ANSWER_COLUMNS, CompletionStyle, streamed, write
from gptcli.cli.output.records import Column, document, json_line, quoted, written
from gptcli.cli.output.sink import opened
from gptcli.errors import BadInput, GptcliError, UsageError
from gptcli.options import Output, Sampling
from gptcli.protocol import Chunk, Completion, Event, Usage
from gptcli.system.text.characters import width
from gptcli.tasks.answers import Answer, AnswerChunk

FAILED = BadInput("line 2", "it is too long", "Cut it.")
RECORDS = [
    {"id": "a", "value": 1.25, "text": 'one "two"\nthree', "error": None},
    {"id": "b", "value": None, "text": "é", "error": FAILED.to_dict()},
]
COLUMNS = (Column("id", 4, quoted=False), Column("value", 7, 1), Column("text"))


# Tables


def test_columns_are_as_wide_as_their_widest_cells() -> None:
    rows = [("name", "size", "x"), ("a", "1", "longer"), ("abcdef", "1000", "")]
    assert table.table(rows, right={1}) == ("name    size  x\na          1  longer\nabcdef  1000\n")


def test_a_table_without_rows_is_empty() -> None:
    assert table.table([]) == ""


def test_what_is_in_a_table_is_harmless_and_in_one_line() -> None:
    assert table.table([("a\x1b[2J", "b\nc")]) == "a^[[2J  b^Jc\n"


def test_a_line_of_fixed_widths_lets_longer_cells_push_on() -> None:
    assert table.line(("abcdef", "1"), (4, 3), right={1}) == "abcdef    1"
    assert table.line(("ab", "1"), (4, 3), right={1}, gap="") == "ab    1"


def test_columns_are_measured_in_columns_of_a_terminal() -> None:
    assert table.lines([("日本", "x"), ("abc", "y")]) == ["日本  x", "abc   y"]
    names = ["漢字", "e\u0301", "👩\u200d🚀", "❤\ufe0f", "\u200b", "한국어", "か\u3099", "a\tb"]
    shown = table.table([(name, "x") for name in names]).splitlines()
    assert {width(line) for line in shown} == {width("한국어") + 3}


def test_rows_with_wide_characters_line_up_and_are_cut_by_their_width() -> None:
    columns = (Column("name", 12, most=10, quoted=False), Column("value", 6, 2))
    rows = [{"name": "汉" * 9, "value": 1.0}, {"name": "abc", "value": 2.0}]
    shown = "".join(written(rows, "text", ("name", "value"), columns)).splitlines()
    assert [width(line) for line in shown] == [20, 20, 20]
    assert shown[1].startswith("汉汉汉... ")


# Records


def text_of(shape: Any, records: Iterable[dict[str, object]] = RECORDS) -> str:
    return "".join(written(records, shape, ("id", "value", "text", "error", "none"), COLUMNS))


def test_records_as_json_are_a_list_and_as_json_lines_one_each() -> None:
    assert json.loads(text_of("json")) == RECORDS
    assert [json.loads(line) for line in text_of("jsonl").splitlines()] == RECORDS


def test_json_keeps_letters_and_the_order_of_keys() -> None:
    value = {"z": "é", "a": [1]}
    assert document(value) == '{\n  "z": "é",\n  "a": [\n    1\n  ]\n}\n'
    assert json_line(value) == '{"z": "é", "a": [1]}\n'
    assert quoted('a "b"\n') == r'"a \"b\"\n"'


@pytest.mark.parametrize(("shape", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_separated_records_have_a_heading_and_an_errors_message(shape: str, delimiter: str) -> None:
    text = text_of(shape)
    assert "\r" not in text
    heading, first, second = csv.reader(io.StringIO(text), delimiter=delimiter)
    assert heading == ["id", "value", "text", "error", "none"]
    assert first == ["a", "1.25", 'one "two"\nthree', "", ""]
    assert second == ["b", "", "é", FAILED.message, ""]


def test_what_is_no_text_or_number_is_json_in_a_cell() -> None:
    text = "".join(written([{"labels": {"é": 0.5}}], "csv", ("labels",)))
    assert text == 'labels\n"{""é"": 0.5}"\n'


def test_records_for_people_have_numbers_at_the_right_and_texts_quoted() -> None:
    assert text_of("text") == (
        'id      value  text\na         1.2  "one \\"two\\"\\nthree"\nb           -  "é"\n'
    )


def test_a_long_text_is_cut_for_people() -> None:
    shown = "".join(written([{"text": "x" * 80}], "text", (), (Column("text", most=10),)))
    assert shown == 'text\n"xxxxxxx..."\n'


def test_a_record_is_written_before_the_next_is_there() -> None:
    def records() -> Iterable[dict[str, object]]:
        yield RECORDS[0]
        raise AssertionError("it was asked for too early")

    pieces = written(records(), "csv", ("id",))
    assert [next(pieces), next(pieces)] == ["id\n", "a\n"]


# Completions and answers


def completion(index: int = 0, text: str = " was", error: GptcliError | None = None) -> Completion:
    return Completion(
        id="0",
        index=index,
        prompt="Once",
        text=text,
        tokens=(1,),
        finish_reason="error" if error else "length",
        usage=Usage(prompt_tokens=1, completion_tokens=2),
        seed=5,
        model="fake",
        revision=None,
        error=error,
    )


def answer(id: str = "1", text: str = "yes", error: GptcliError | None = None) -> Answer:
    return Answer(
        task="answer",
        id=id,
        index=0,
        input="Is it?",
        text=text,
        finish_reason="error" if error else "stop",
        usage=Usage(prompt_tokens=1, completion_tokens=2),
        seed=5,
        model="fake",
        revision=None,
        error=error,
    )


def shown(
    folder: Path,
    events: Sequence[Event | AnswerChunk | Answer],
    style: CompletionStyle,
    terminal: bool = False,
) -> str:
    """What is written of events."""
    file = folder / "out.txt"
    with opened(Output(output=str(file), force=True)) as out:
        out.terminal = terminal
        write(out, events, style)
    return file.read_text() if file.exists() else ""


def test_several_sequences_are_set_apart(tmp_path: Path) -> None:
    style = CompletionStyle(shape="text", count=2, echo="Once")
    events = [completion(0, " a"), completion(1, " b")]
    assert shown(tmp_path, events, style) == "Once a\n\nOnce b\n"
    assert shown(tmp_path, events, style, terminal=True) == ("[1 of 2]\nOnce a\n[2 of 2]\nOnce b\n")


def test_a_sequence_that_failed_is_no_text(tmp_path: Path) -> None:
    events = [completion(0, "", FAILED), completion(1, " b")]
    assert shown(tmp_path, events, CompletionStyle(shape="text", count=2)) == " b\n"


@pytest.mark.parametrize(
    "piece", [AnswerChunk(" was"), Chunk(id="0", index=0, text=" was", tokens=())]
)
def test_streamed_text_ends_with_a_line_break(tmp_path: Path, piece: Chunk | AnswerChunk) -> None:
    style = CompletionStyle(shape="text", streamed=True, echo="Once")
    assert shown(tmp_path, [piece, completion()], style) == "Once was\n"


def test_what_fails_before_its_first_text_is_not_streamed(tmp_path: Path) -> None:
    style = CompletionStyle(shape="text", streamed=True, echo="Once")
    assert shown(tmp_path, [completion(error=FAILED)], style) == ""


def test_with_lines_an_answer_is_a_line_and_so_is_a_failed_one(tmp_path: Path) -> None:
    events = [answer("1", "a\nb"), answer("2", "", FAILED), answer("3", "c")]
    assert shown(tmp_path, events, CompletionStyle(shape="text", lines=True)) == "a b\n\nc\n"
    assert (
        shown(tmp_path, events[1:2], CompletionStyle(shape="text", lines=True, count=2)) == "\n\n"
    )


def test_one_sequence_is_an_object_and_several_are_a_list(tmp_path: Path) -> None:
    one = completion()
    assert json.loads(shown(tmp_path, [one], CompletionStyle(shape="json"))) == one.to_dict()
    for style in (
        CompletionStyle(shape="json", count=2),
        CompletionStyle(shape="json", lines=True),
    ):
        assert json.loads(shown(tmp_path, [one], style)) == [one.to_dict()]


@pytest.mark.parametrize("failures", [True, False])
def test_json_of_what_failed_is_written_only_where_that_is_wanted(
    tmp_path: Path, failures: bool
) -> None:
    text = shown(tmp_path, [answer(error=FAILED)], CompletionStyle(shape="json", failures=failures))
    assert bool(text) == failures


def test_csv_has_the_token_counts_as_columns(tmp_path: Path) -> None:
    style = CompletionStyle(shape="csv", columns=ANSWER_COLUMNS)
    [row] = csv.DictReader(io.StringIO(shown(tmp_path, [answer(error=FAILED)], style)))
    assert (row["input"], row["total_tokens"], row["error"]) == ("Is it?", "3", FAILED.message)
    assert "usage" not in row


def test_text_is_streamed_unless_something_is_in_the_way() -> None:
    assert streamed(Sampling(), Output(), [])
    assert not streamed(Sampling(), Output(stream=False), [])
    assert not streamed(Sampling(), Output(), [("beam search", "Drop it.")])
    with pytest.raises(UsageError, match="beam search cannot be streamed"):
        streamed(Sampling(), Output(stream=True), [("beam search", "Drop it.")])


def test_only_json_holds_logprobs() -> None:
    assert streamed(Sampling(logprobs=1), Output(format="jsonl"), [])
    with pytest.raises(UsageError, match="csv cannot hold them"):
        streamed(Sampling(logprobs=1), Output(format="csv"), [])
