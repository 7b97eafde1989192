"""Parquet files as inputs of a batch, as pyarrow writes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from support.batch_rows import errors, of, read, texts, until_the_error

from gptcli.batch.input.sources import rows
from gptcli.batch.options import BatchInput
from gptcli.errors import BadInput, GptcliError, Unavailable, UsageError

arrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
library = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")


def write(path: Path, columns: dict[str, Any], **options: object) -> Path:
    """A Parquet file of these columns."""
    library.write_table(arrow.table(columns), path, **options)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.parquet"


def test_the_prompts_and_ids_are_read(file: Path) -> None:
    write(file, {"id": [5, 6, None], "prompt": ["one", "two\n", "é🙂"], "x": [[1], [], None]})
    assert [(row.id, row.text) for row in read(file)] == [
        ("5", "one"),
        ("6", "two\n"),
        ("row:2", "é🙂"),
    ]
    assert [row.carried for row in read(file)] == [{"x": [1]}, {"x": []}, {"x": None}]


def test_a_file_without_a_suffix_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    assert texts(read(write(tmp_path / "a", {"prompt": ["one"]}))) == ["one"]


def test_columns_can_be_named(file: Path) -> None:
    write(file, {"q": ["one"], "key": ["x"]})
    assert [(row.id, row.text) for row in read(file, column="1", id_column="key")] == [("x", "one")]


def test_columns_named_as_options_are_their_rows_settings(file: Path) -> None:
    columns = {
        "prompt": ["a", "b"],
        "seed": [7, None],
        "temperature": [float("nan"), 0.5],
        "max_tokens": [16.0, None],
        "stop": [["x", "y"], None],
        "sampling": [{"top_p": 0.5, "top_k": None}, None],
        "logit_bias": arrow.array([[("50256", -1.0)], None], arrow.map_("string", "double")),
    }
    found = read(write(file, columns))
    assert found[0].overrides == {
        "seed": 7,
        "max_new_tokens": 16,
        "stop": ("x", "y"),
        "top_p": 0.5,
        "logit_bias": (("50256", -1.0),),
    }
    assert found[1].overrides == {"temperature": 0.5}


def test_bad_rows_leave_the_others_unharmed(file: Path) -> None:
    prompts = ["good", None, "", "good", "good", "good"]
    write(
        file, {"prompt": prompts, "id": ["a", "b", "c", "a", "d", "e"], "seed": [1, 2, 3, 4, -1, 5]}
    )
    found = read(file)
    assert texts(found) == ["good", None, None, None, None, "good"]
    for message, part in zip(
        errors(found),
        ("row 2: the prompt is null", "row 3: the prompt is empty", "that of", "seed: -1"),
        strict=True,
    ):
        assert part in message
    assert f"{file} row 4: the id 'a' is that of {file} row 1" in errors(found)[2]


@pytest.mark.parametrize("values", [[5, 6], [b"x", b"y"], [["x"], []], [True, False]])
def test_a_column_of_another_kind_is_bad_in_every_row(file: Path, values: list[object]) -> None:
    assert texts(read(write(file, {"prompt": values}))) == [None, None]


def test_bad_utf8_is_one_bad_row(file: Path) -> None:
    good, bad = b"good", b"a\xff"
    column = arrow.array([good, bad, good], arrow.binary()).cast(arrow.string(), safe=False)
    found = read(write(file, {"prompt": column}))
    assert texts(found) == ["good", None, "good"]
    assert "row 2: prompt: invalid UTF-8 at byte 1" in errors(found)[0]


def test_digests_depend_on_the_values_alone(tmp_path: Path) -> None:
    one = write(tmp_path / "1.parquet", {"prompt": ["a", "b"], "x": [1, 2]})
    two = write(tmp_path / "2.parquet", {"x": [1, 3], "prompt": ["a", "b"]}, compression="gzip")
    first, second = ([row.digest for row in read(path)] for path in (one, two))
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_all_row_groups_are_read(file: Path) -> None:
    prompts = [str(number) for number in range(3000)]
    write(file, {"prompt": prompts}, row_group_size=700)
    assert texts(read(file)) == prompts


@pytest.mark.parametrize(
    ("columns", "options", "kind"),
    [
        ({"a": ["x"], "b": ["y"]}, {}, UsageError),
        ({"a": ["x"]}, {"column": "b"}, UsageError),
        ({"a": ["x"]}, {"id_column": "b"}, UsageError),
    ],
)
def test_a_wrong_column_is_known_at_once(
    file: Path, columns: dict[str, Any], options: dict[str, Any], kind: type[GptcliError]
) -> None:
    write(file, columns)
    with pytest.raises(kind):
        rows([str(file)], BatchInput(**options), None)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"x" * 100 + b"PAR1", b"prompt\none\n"])
def test_what_is_not_parquet_is_known_at_once(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    with pytest.raises(BadInput, match="not Parquet, or damaged"):
        rows([str(file)], BatchInput(), None)


def test_damage_within_is_one_error(file: Path) -> None:
    prompts = [f"prompt {number}" for number in range(9000)]
    write(file, {"prompt": prompts}, row_group_size=3000, use_dictionary=False)
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = b"\xff" * 200
    file.write_bytes(data)
    found, error = until_the_error(rows([str(file)], BatchInput(), None))
    assert texts(found) == prompts[: len(found)]
    assert len(found) > 2000
    assert "damaged" in str(error)


def test_parquet_does_not_come_from_a_pipe(file: Path) -> None:
    data = write(file, {"prompt": ["one"]}).read_bytes()
    with pytest.raises(BadInput, match="name that"):
        of(data)


def test_without_pyarrow_parquet_is_unavailable(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, {"prompt": ["one"]})
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(Unavailable, match=r"pip install 'gptcli\[parquet\]'"):
        rows([str(file)], BatchInput(), None)


MAPS = {
    "text": (arrow.string(), ["a", "ü"], {"a": 1, "ü": 2}),
    "whole": (arrow.int64(), [1, -2], {"1": 1, "-2": 2}),
    "real": (arrow.float64(), [0.5, float("nan")], {"0.5": 1, "null": 2}),
    "flag": (arrow.bool_(), [True, False], {"true": 1, "false": 2}),
    "day": (arrow.date32(), [19_000, 0], {"2022-01-08": 1, "1970-01-01": 2}),
    "time": (arrow.timestamp("s"), [0, 60], {"1970-01-01 00:00:00": 1, "1970-01-01 00:01:00": 2}),
    "struct": (
        arrow.struct([("x", arrow.int8()), ("y", arrow.string())]),
        [{"x": 1, "y": "a"}, {"x": 2, "y": None}],
        {'{"x": 1, "y": "a"}': 1, '{"x": 2}': 2},
    ),
    "list": (arrow.list_(arrow.int8()), [[1, 2], []], {"[1, 2]": 1, "[]": 2}),
}


@pytest.mark.parametrize("kind", MAPS)
def test_a_map_is_an_object_whatever_its_keys_are(file: Path, kind: str) -> None:
    type_, keys, expected = MAPS[kind]
    pairs = list(zip(keys, [1, 2], strict=True))
    of_map = arrow.map_(type_, arrow.int8())
    columns = {
        "prompt": ["a"],
        "note": arrow.array([pairs], of_map),
        "inside": arrow.array([[{"m": pairs}]], arrow.list_(arrow.struct([("m", of_map)]))),
    }
    [row] = read(write(file, columns))
    assert row.carried == {"note": expected, "inside": [{"m": expected}]}


def test_a_map_of_bytes_is_a_column_of_bytes(file: Path) -> None:
    pairs = arrow.array([[(b"\xff", 1)]], arrow.map_(arrow.binary(), arrow.int8()))
    [row] = read(write(file, {"prompt": ["a"], "note": pairs}))
    assert row.carried == {}
    [row] = read(write(file, {"prompt": ["a"], "note": pairs}), column="note")
    assert "not a text" in str(row.error)


def test_a_date_that_python_has_not_is_carried_as_text(file: Path) -> None:
    dates = arrow.array([4_000_000, 2**31 - 1], arrow.int32()).view(arrow.date32())
    structs = arrow.StructArray.from_arrays([dates], names=["d"])
    found = read(write(file, {"prompt": ["a", "b"], "day": dates, "inside": structs}))
    assert [type(row.carried.get("day")) for row in found] == [str, str]
    assert [row.carried["inside"] for row in found] == [{"d": row.carried["day"]} for row in found]
    assert [row.error for row in found] == [None, None]


def test_names_with_dots_and_names_that_stand_twice_stay_in_their_places(file: Path) -> None:
    table = arrow.Table.from_arrays(
        [arrow.array(column) for column in (["p"], [b"x"], ["one"], ["two"], ["three"])],
        names=["prompt", "raw", "a.b", "a", "a"],
    )
    library.write_table(table, file)
    assert [row.carried for row in read(file)] == [{"a.b": "one", "a": "two", "a_2": "three"}]
