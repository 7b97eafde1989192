"""Tables as people have them: any separator, any quoting, ids that stay with their rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptcli.errors import BadInput, UsageError
from gptcli.inputs import delimited
from gptcli.inputs.columns import CarriedNames, TextColumn
from gptcli.inputs.pieces import MAX_LINE_BYTES
from gptcli.inputs.table import TableFormat, TableRow, read_table
from gptcli.options import TableInput

Table = tuple[list[TableRow], list[str]]


def read(
    data: bytes,
    format: TableFormat = "csv",
    wanted: Sequence[TextColumn] | None = None,
    **options: str,
) -> Table:
    """The rows of a table, and what is said about it."""
    said: list[str] = []
    table = TableInput(**options)  # type: ignore[arg-type]
    columns = wanted or [TextColumn(table.column)]
    rows = read_table(iter([data]), "a.csv", format, table, said.append, columns)
    return [row for row in rows if row is not None], said


def pairs(found: Table) -> list[tuple[str | None, str | None]]:
    return [(row.id, row.texts[0] if row.texts else None) for row in found[0]]


BOTH = [("1", "Once upon a time"), ("2", "A fox, tired")]


@pytest.mark.parametrize("format", ["csv", "tsv"])
@pytest.mark.parametrize(
    ("separator", "shown"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (",", "commas")]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_header_says_the_separator_and_a_guess_is_said(
    format: TableFormat, separator: str, shown: str, end: str, mark: str
) -> None:
    lines = [("id", "prompt"), ("1", "Once upon a time"), ("2", '"A fox, tired"')]
    data = mark + "".join(separator.join(cells) + end for cells in lines)
    found = read(data.encode(), format)
    assert pairs(found) == BOTH
    usual = {"csv": ",", "tsv": "\t"}[format]
    assert [shown in notice for notice in found[1]] == [True] * (separator != usual)


@pytest.mark.parametrize("separator", [";", ",", "|", "\t", "^"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_excels_first_line_says_the_separator(separator: str, mark: str) -> None:
    data = f"{mark}sep={separator}\r\nid{separator}prompt\r\n1{separator}a\r\n"
    found = read(data.encode())
    assert (pairs(found), found[1]) == ([("1", "a")], [])
    assert found[0][0].line == 3


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ('id;"a, b, c";prompt', ";"),
        ("when, where|prompt", "|"),
        ("id,when;where,prompt", ","),
        ('"prompt";"id"', ";"),
        ("x ; prompt", ";"),
    ],
)
def test_a_known_name_in_the_header_decides(header: str, separator: str) -> None:
    table, said = read(
        header.encode() + b"\n" + separator.join("1234"[: header.count(separator) + 1]).encode()
    )
    assert [row.error for row in table] == [None]
    assert len(said) == (separator != ",")


@pytest.mark.parametrize(
    ("given", "separator"),
    [(";", ";"), ("tab", "\t"), (r"\t", "\t"), ("\t", "\t"), ("~", "~"), ("§", "§")],
)
def test_a_separator_can_be_given(given: str, separator: str) -> None:
    data = f"id{separator}prompt\n1{separator}a, b;c\n".replace("a, b;c", "a, b")
    assert (
        pairs(read(data.encode(), delimiter=given)),
        read(data.encode(), delimiter=given)[1],
    ) == (
        [("1", "a, b")],
        [],
    )


@pytest.mark.parametrize("given", ["", "ab", '"', "\n", "\r", "\ud800"])
def test_what_cannot_separate_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="delimiter"):
        TableInput(delimiter=given)


def test_a_table_without_a_known_column_is_refused_with_its_columns() -> None:
    with pytest.raises(UsageError, match="Name one: a, b"):
        read(b"a;b\n1;2\n")


@pytest.mark.parametrize("written", [r"\t", "tab", "\t"])
def test_excels_line_can_name_the_tab(written: str) -> None:
    assert pairs(read(f"sep={written}\nid\tprompt\n1\ta\n".encode())) == [("1", "a")]


@pytest.mark.parametrize("header", ["id:prompt", "id prompt", "id~prompt", "ID^Text", "text/id"])
def test_a_header_that_looks_like_several_columns_is_not_taken_as_one(header: str) -> None:
    with pytest.raises(UsageError, match="--delimiter"):
        read(header.encode() + b"\n1:a\n")
    assert pairs(read(header.encode() + b"\n1:a\n", column="1")) == [(None, "1:a")]


def test_an_only_column_of_another_name_is_the_text_and_that_is_said() -> None:
    found = read(b"review\nGood.\n")
    assert (pairs(found), found[1]) == (
        [(None, "Good.")],
        ["a.csv: its only column, 'review', is taken as the prompt"],
    )
    assert read(b"Prompt\nGood.\n")[1] == []
    for title in (b"source_text", b"Text (English)", b"the text", b"Wer, wie, was"):
        assert pairs(read(b'"' + title + b'"\nGood.\n')) == [(None, "Good.")]


def test_quotation_marks_between_tabs_are_text_where_they_enclose_nothing() -> None:
    data = (
        'id\tprompt\n1\t"Yes," he said, and\n2\tHe was 5" tall and\n3\t"The end\n4\tA fox\n'
        '5\tShe said "no" and\n6\t"The end"\n7\t"a\tb"\n8\t"one\ntwo"\n9\t"He said ""no"""\n'
        '10\t"It ends\n11\tand ends"\n12\t"\n'
    )
    assert pairs(read(data.encode(), "tsv")) == [
        ("1", '"Yes," he said, and'),
        ("2", 'He was 5" tall and'),
        ("3", '"The end'),
        ("4", "A fox"),
        ("5", 'She said "no" and'),
        ("6", "The end"),
        ("7", "a\tb"),
        ("8", "one\ntwo"),
        ("9", 'He said "no"'),
        ("10", '"It ends'),
        ("11", 'and ends"'),
        ("12", '"'),
    ]


def test_quoting_none_takes_every_mark_as_text() -> None:
    data = b'id,prompt\n1,"a"\n2,"b\n3,""\n'
    assert pairs(read(data, quoting="none")) == [("1", '"a"'), ("2", '"b'), ("3", '""')]


def test_quoting_minimal_is_strict_between_tabs_too() -> None:
    table, _ = read(b'id\tprompt\n1\t"Yes," he said\n2\tb\n', "tsv", quoting="minimal")
    assert [bool(row.error) for row in table] == [True, False]


@pytest.mark.parametrize(
    ("line", "id"),
    [
        (b"7,a\xff,n", "7"),
        (b"7,a,\xff", "7"),
        (b"7,a\0b,n", "7"),
        (b"7", "7"),
        (b"7,a,b,n", "7"),
        (b'7,"a"b,n', "7"),
        (b'7,"a', "7"),
        (b'"7","a"b,n', "7"),
        (b'"7",a,b,n', "7"),
        (b"7," + b"x" * MAX_LINE_BYTES + b",n", "7"),
        (b'7,"' + b"x" * MAX_LINE_BYTES, "7"),
        (b"\xff,a,n", None),
        (b'"7,a,n', None),
        (b",a,b,n", None),
    ],
)
def test_a_broken_row_keeps_its_id_where_it_can_be_read(line: bytes, id: str | None) -> None:
    table, _ = read(b"id,prompt,note\n1,good,n\n" + line + b"\n8,good,n\n")
    assert [row.id for row in table] == ["1", id, "8"]
    assert [bool(row.error) for row in table] == [False, True, False]


def test_an_id_behind_a_text_with_a_separator_too_many_is_not_guessed() -> None:
    table, _ = read(b"prompt,id\na,1\nb, c,2\nd\xff,3\n")
    assert [row.id for row in table] == ["1", None, "3"]


@pytest.mark.parametrize(
    ("line", "id"),
    [
        ('{"id": 7, "prompt": "a', "7"),
        ('{"x": [1], "id": "b", "prompt": }', "b"),
        ('{"id": 12', None),
        ('{"prompt": "a" "id": 7}', None),
        ('{"id": 7, "prompt": "\udcff"}', "7"),
        ('{"prompt": "\udcff", "id": 7}', "7"),
        ('{"id": 7, "prompt": 5}', "7"),
        ('{"id": 7}', "7"),
        ('{"id": 7, "x": ' + "[" * 100_000 + "}", "7"),
    ],
)
def test_a_broken_line_of_json_keeps_its_id(line: str, id: str | None) -> None:
    table, _ = read(line.encode("utf-8", "surrogateescape"), "jsonl")
    assert [row.id for row in table] == [id]
    assert isinstance(table[0].error, BadInput)


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "-Infinity",
        "1e999",
        "9" * 39,
        "9" * 5000,
        '{"a": 1, "a": 2}',
        '[{"b": NaN}]',
        '"\\ud800"',
    ],
)
def test_a_key_that_is_nobodys_business_does_no_harm(value: str) -> None:
    table, _ = read(f'{{"id": 1, "prompt": "a", "x": {value}, "y": 1, "y": 2}}'.encode(), "jsonl")
    assert [(row.id, row.texts, row.error) for row in table] == [("1", ("a",), None)]
    assert list(table[0].others) == ["x", "y"]


@pytest.mark.parametrize(
    ("written", "id"),
    [
        *(("1.0", "1"), ("1", "1"), ("-3.0", "-3"), ("NaN", None), ("null", None), ('""', None)),
        *(('"1.0"', "1.0"), ("9" * 39, "9" * 39)),
    ],
)
def test_a_whole_number_is_an_id_however_it_is_written(written: str, id: str | None) -> None:
    table, _ = read(f'{{"id": {written}, "prompt": "a"}}'.encode(), "jsonl")
    assert (table[0].id, table[0].error) == (id, None)


@pytest.mark.parametrize("key", ["id", "prompt"])
def test_a_key_that_is_needed_stands_once(key: str) -> None:
    table, _ = read(f'{{"id": "1", "prompt": "a", "{key}": "b"}}'.encode(), "jsonl")
    assert f"the key {key!r} stands twice" in str(table[0].error)


def test_other_columns_are_carried_under_names_of_their_own() -> None:
    table, _ = read(b"id,prompt,cond,cond,\n1,a,x,y,z\n")
    assert table[0].others == {"cond": "x", "cond_2": "y", "column_5": "z"}
    said: list[str] = []
    names = CarriedNames({"model", "input_model"}, said.append)
    for _ in range(2):
        assert names.carried({"model": 1, "x": 2}) == {"input_input_model": 1, "x": 2}
    assert said == ["column model: written as input_input_model, as the output has its own model"]


def test_several_texts_can_be_wanted_of_a_row() -> None:
    wanted = [
        TextColumn(defaults=("sentence_good", "good"), what="the good sentence"),
        TextColumn(defaults=("sentence_bad", "bad"), what="the bad sentence"),
    ]
    table, _ = read(b"Good\tBad\tuid\na\tb\t1\n", "tsv", wanted, id_column="uid")
    assert [(row.id, row.texts) for row in table] == [("1", ("a", "b"))]
    with pytest.raises(UsageError, match="no column sentence_bad or bad"):
        read(b"good\tother\na\tb\n", "tsv", wanted)


@pytest.mark.parametrize("format", ["csv", "tsv"])
@pytest.mark.parametrize(
    "filling",
    [b"a,b\n", b"a\tb\n", b'a""\n', b'"\n', b'""\n', b'","\n', b'"\t"\n', b'a,"""b\n', b"ab\n"],
)
def test_an_unclosed_quote_before_ten_megabytes_takes_no_time(
    format: TableFormat, filling: bytes
) -> None:
    data = b'"id,prompt\tx;y' + filling * min(100_000, 2_000_000 // len(filling))
    start = time.process_time()
    for whole in (data, b'id,prompt\tz\n"1,a\n' + data):
        with suppress(BadInput, UsageError):
            read(whole, format)
    assert time.process_time() - start < 10


@given(
    st.binary(max_size=200),
    st.sampled_from(["csv", "tsv", "jsonl"]),
    st.sampled_from(["minimal", "none", None]),
)
def test_no_bytes_are_a_bug(data: bytes, format: TableFormat, quoting: str | None) -> None:
    table, _ = read(b"id,prompt\n" + data, format, quoting=quoting)  # type: ignore[arg-type]
    assert all(bool(row.texts) != bool(row.error) for row in table)


@given(st.lists(st.sampled_from(['"', "\t", "\n", "a", '""', '"\n', '\t"']), max_size=30))
def test_between_tabs_every_row_behind_broken_marks_is_found(parts: list[str]) -> None:
    data = "id\tprompt\n" + "".join(parts) + '\n\n9\tlast\n10\t"very last"\n'
    assert pairs(read(data.encode(), "tsv"))[-2:] == [("9", "last"), ("10", "very last")]


@pytest.mark.parametrize("format", ["csv", "tsv"])
@pytest.mark.parametrize("columns", [1, 10, 1000])
@pytest.mark.parametrize(
    "lines",
    ['"open,1\n', 'a","x\n', 'a",,"x\n', '"\n', '"open\nplain\n', '"""\n', 'a,"b\nc,d\n', "x\n"],
)
def test_a_line_is_scanned_twice_at_most_whatever_quotes_stay_open(
    monkeypatch: pytest.MonkeyPatch, format: TableFormat, columns: int, lines: str
) -> None:
    scanned = 0
    for name in ("_scan", "_scan_lenient"):
        scan = getattr(delimited, name)

        def counted(line: bytes, *rest: object, scan: delimited.Scan = scan) -> object:
            nonlocal scanned
            scanned += 1
            return scan(line, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(delimited, name, counted)
    head = ",".join(["text", *(f"c{number}" for number in range(columns - 1))])
    whole = f'{head}\n{"x" * 9},"open\n{lines * 2000}'.replace(
        ",", {"csv": ",", "tsv": "\t"}[format]
    )
    read(whole.encode(), format)
    assert scanned <= 2 * (whole.count("\n") + 1)
