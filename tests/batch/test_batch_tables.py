"""Tables as inputs of a batch: columns, quotes, and rows with settings of their own."""

from __future__ import annotations

import csv
import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.batch_rows import errors, of, texts

from gptcli.batch.input.row import digest
from gptcli.batch.input.sources import rows
from gptcli.batch.options import BatchInput
from gptcli.errors import BadInput, UsageError


@pytest.mark.parametrize(
    ("data", "options", "expected"),
    [
        (b"prompt\none\n", {}, ["one"]),
        (b"text,prompt\na,b\n", {}, ["b"]),
        (b"text,other\na,b\n", {}, ["a"]),
        (b"question\na\n", {}, ["a"]),
        (b"a,b\n1,2\n", {"column": "b"}, ["2"]),
        (b"a,b\n1,2\n", {"column": "2"}, ["2"]),
        (b"2,1\na,b\n", {"column": "2"}, ["a"]),
        (b"a,a\n1,2\n", {"column": "2"}, ["2"]),
        (b"\xef\xbb\xbfprompt\none\n", {}, ["one"]),
        (b"\n\nprompt\n\none\n\r\n\ntwo\n", {}, ["one", "two"]),
        (b"id,prompt\r\n1,one\r\n2,two\r\n", {}, ["one", "two"]),
        (b'prompt\n"one, two"\n"say ""so"""\n', {}, ["one, two", 'say "so"']),
        (b'prompt\n"one\ntwo"\n"a\r\n\r\nb"\r\n', {}, ["one\ntwo", "a\r\n\r\nb"]),
        (b'id,prompt\n1,5" wide\n', {}, ['5" wide']),
        (b'id,prompt\n1,a "quoted" word\n', {}, ['a "quoted" word']),
        (b"id,prompt\n1,one", {}, ["one"]),
        (b'id,prompt\n1,"one"', {}, ["one"]),
        ("prompt\né🙂\u2028x\x85\n".encode(), {}, ["é🙂\u2028x\x85"]),
        (b"prompt\n", {}, []),
    ],
)
def test_a_table_gives_its_prompts(
    data: bytes, options: dict[str, object], expected: list[str]
) -> None:
    assert texts(of(data, input_format="csv", **options)) == expected


def test_tabs_separate_in_tsv() -> None:
    assert texts(of(b'id\tprompt\n1\ta, b\n2\t"c\td"\n', input_format="tsv")) == ["a, b", "c\td"]


def test_ids_come_from_the_column_of_that_name() -> None:
    found = of(b"id,key,prompt\n1,x,a\n,y,b\n", input_format="csv")
    assert [row.id for row in found] == ["1", "row:1"]
    found = of(b"id,key,prompt\n1,x,a\n,y,b\n", input_format="csv", id_column="key")
    assert [row.id for row in found] == ["x", "y"]


def test_cells_named_as_options_are_their_rows_settings() -> None:
    data = b"prompt,seed,temperature,stop,stop_on_loop,max_tokens\na,7,0.5,END,True,\nb,,,,,3\n"
    found = of(data, input_format="csv")
    assert found[0].overrides == {
        "seed": 7,
        "temperature": 0.5,
        "stop": ("END",),
        "stop_on_loop": True,
    }
    assert found[1].overrides == {"max_new_tokens": 3}


def test_cells_of_a_wrong_kind_make_a_bad_row() -> None:
    found = of(b"prompt,seed,temperature\na,x,\nb,,nan\nc,1,1\n", input_format="csv")
    assert texts(found) == [None, None, "c"]
    assert "line 2: seed: 'x' is not a whole number" in errors(found)[0]
    assert "line 3: temperature: 'nan' is not a number" in errors(found)[1]


def test_columns_can_be_kept_from_being_settings() -> None:
    data = b"prompt,temperature\na,cold\n"
    assert of(data, input_format="csv", row_settings=False)[0].overrides == {}


def test_the_prompts_column_is_no_setting() -> None:
    row = of(b"stop,seed\nThe bus stops here,4\n", input_format="csv", column="stop")[0]
    assert (row.text, row.overrides) == ("The bus stops here", {"seed": 4})


def test_a_prompt_may_be_longer_than_the_csv_modules_own_limit() -> None:
    assert texts(of(b"prompt\n" + b"x" * 200_000, input_format="csv")) == ["x" * 200_000]


def test_the_digest_is_that_of_the_whole_record() -> None:
    data = b'id,prompt\r\n1,"a\r\nb"\r\n2,c\r\n'
    found = of(data, input_format="csv")
    assert [row.digest for row in found] == [digest(b'1,"a\r\nb"'), digest(b"2,c")]


def test_rows_are_named_by_the_line_they_begin_in() -> None:
    found = of(b'id,prompt\n1,"a\nb\nc"\n2\n', input_format="csv")
    assert "line 5: 1 field where" in errors(found)[0]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", BadInput),
        (b"\n\n", BadInput),
        (b'pro"mpt,"a\nb', BadInput),
        (b"a,b\n", UsageError),
    ],
)
def test_a_bad_header_ends_the_reading_of_a_pipe(data: bytes, kind: type[Exception]) -> None:
    found = rows(["-"], BatchInput(input_format="csv"), io.BytesIO(data))
    with pytest.raises(kind):
        list(found)


def test_an_open_quote_does_not_swallow_the_file() -> None:
    good = b"," + b"good " * 200 + b"\n"
    found = of(b'id,prompt\n"open,1\n' + good * 1500, input_format="csv")
    assert found[0].error
    assert len(found) == 1501
    assert len(errors(found)) == 1


def test_quotes_that_are_never_closed_take_no_quadratic_time() -> None:
    data = (
        b"id,prompt\n" + b'a","c\n' * 20_000
    )  # each line looks open, and keeps the one before open
    started = time.monotonic()
    assert len(of(data, input_format="csv")) == 20_000
    assert time.monotonic() - started < 20


@given(
    st.lists(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2, max_size=2
        )
    ),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_the_csv_module_writes_is_read_back(table: list[list[str]], end: str) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["key", "prompt"], *table])
    found = of(out.getvalue().encode(), input_format="csv", allow_empty=True)
    assert texts(found) == [prompt for _, prompt in table]
