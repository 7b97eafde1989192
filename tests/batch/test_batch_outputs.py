"""The finished rows in other formats, and the hidden rows they are made from."""

from __future__ import annotations

import csv
import io
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.journal_child import manifest, record, rows, texts, work

from gptcli.batch.input.fingerprints import Fingerprint
from gptcli.batch.output import tables
from gptcli.batch.output.opening import open_changed, open_journal, open_retry
from gptcli.errors import BadInput, CannotCreate, Unavailable, UsageError

INPUTS = texts(9)
FORMATS = ["out.csv", "out.tsv", "out.parquet"]


@pytest.fixture(autouse=True)
def _quick_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing takes most of the time, and only a power cut would tell."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda descriptor: None, raising=False)


@pytest.fixture(params=FORMATS)
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where an output of each format may be made."""
    if request.param.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    return tmp_path / request.param


def as_lines(folder: Path, records: list[dict[str, object]]) -> Path:
    """A file of JSON lines."""
    path = folder / "rows.jsonl"
    path.write_bytes(b"".join(json.dumps(one).encode() + b"\n" for one in records))
    return path


def converted(folder: Path, records: list[dict[str, object]], shape: tables.BatchFormat) -> bytes:
    """The records in another format."""
    path = folder / "converted"
    with path.open("wb") as file:
        tables.convert(as_lines(folder, records), file.fileno(), shape)
    return path.read_bytes()


def as_csv(folder: Path, records: list[dict[str, object]]) -> str:
    """The records as CSV."""
    return converted(folder, records, "csv").decode()


def as_table(folder: Path, records: list[dict[str, object]]):
    """The records in Parquet, read again."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    return parquet.read_table(io.BytesIO(converted(folder, records, "parquet")))


def read(output: Path) -> list[dict[str, object]]:
    """The rows of an output, as its format gives them."""
    if output.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
        return parquet.read_table(output).to_pylist()
    with output.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if output.suffix == ".tsv" else ","))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("a.csv", "csv"),
        ("a.CSV", "csv"),
        ("a.tsv", "tsv"),
        ("a.parquet", "parquet"),
        ("a.jsonl", "jsonl"),
        ("a.json", "json"),
        ("a.t0.7", "jsonl"),
        ("csv", "jsonl"),
    ],
)
def test_the_name_says_the_format(name: str, shape: str) -> None:
    assert tables.shape_of(Path(name)) == shape


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.xlsx", "a.html", "a.gz"])
def test_a_suffix_of_no_table_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"\.jsonl.*\.csv.*\.parquet"):
        tables.shape_of(Path(name))


@pytest.mark.parametrize("rows", [[], [{"a": 1}], [{"a": "x\ny"}, {"b": None}]])
def test_a_document_is_a_list_of_the_rows(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    lines, output = tmp_path / "rows.jsonl", tmp_path / "out.json"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with output.open("wb") as file:
        tables.convert(lines, file.fileno(), "json")
    assert json.loads(output.read_text()) == rows


def test_columns_are_the_keys_of_all_rows_in_the_order_of_their_coming(tmp_path: Path) -> None:
    found = as_csv(tmp_path, [{"key": "0", "b": 1}, {"key": "1", "a": 2}, {"b": 3}])
    assert found == "key,b,a\n0,1,\n1,,2\n,3,\n"


def test_usage_is_a_column_a_count_and_an_error_its_message(tmp_path: Path) -> None:
    failed = {"usage": {"total_tokens": 3}, "error": {"type": "BadInput", "message": "bad"}}
    assert as_csv(tmp_path, [failed]) == "total_tokens,error\n3,bad\n"


def test_other_objects_and_lists_are_json(tmp_path: Path) -> None:
    assert as_csv(tmp_path, [{"a": [1, "é"], "b": {"c": None}}]) == (
        'a,b\n"[1, ""é""]","{""c"": null}"\n'
    )


def test_values_are_as_in_json_and_null_is_nothing(tmp_path: Path) -> None:
    found = as_csv(tmp_path, [{"a": True, "b": 0.1, "c": None, "d": "", "e": 1e300}])
    assert found == 'a,b,c,d,e\ntrue,0.1,,"",1e+300\n'


def test_a_lone_surrogate_becomes_an_escape(tmp_path: Path) -> None:
    assert as_csv(tmp_path, [{"a": "\ud800"}]) == "a\n\\ud800\n"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2))
def test_any_text_is_read_again_from_csv_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, values: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for shape, separator in (("csv", ","), ("tsv", "\t")):
        text = converted(folder, [{"a": values[0], "b": values[1]}], shape).decode()
        found = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
        assert found == [["a", "b"], values]


@pytest.mark.parametrize(
    ("values", "kind", "found"),
    [
        ([1, None, 3], "int64", [1, None, 3]),
        ([1, 0.5], "double", [1.0, 0.5]),
        ([True, None], "bool", [True, None]),
        ([None, None], "string", [None, None]),
        (["a", ""], "string", ["a", ""]),
        ([1, "a"], "string", ["1", "a"]),
        ([True, 1], "string", ["true", "1"]),
        ([2**62, 1], "int64", [2**62, 1]),
        ([2**62 + 1, 0.5], "string", [str(2**62 + 1), "0.5"]),
        ([2**64, 1], "string", [str(2**64), "1"]),
        ([[1], None], "string", ["[1]", None]),
    ],
    ids=str,
)
def test_a_parquet_column_has_the_narrowest_type_that_holds_it(
    tmp_path: Path, values: list[object], kind: str, found: list[object]
) -> None:
    table = as_table(tmp_path, [{"a": value} for value in values])
    assert str(table.schema.field("a").type) == kind
    assert table.column("a").to_pylist() == found


def test_parquet_is_written_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    monkeypatch.setattr(tables, "GROUP_ROWS", 4)
    whole = converted(tmp_path, [{"a": number} for number in range(10)], "parquet")
    file = parquet.ParquetFile(io.BytesIO(whole))
    groups = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    assert groups == [4, 4, 2]


def test_a_row_group_ends_at_a_number_of_bytes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    monkeypatch.setattr(tables, "GROUP_BYTES", 1000)
    whole = converted(tmp_path, [{"a": "x" * 600}] * 4, "parquet")
    assert parquet.ParquetFile(io.BytesIO(whole)).num_row_groups == 2


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    line = json.dumps({"key": "0", "text": "x" * 2000}).encode() + b"\n"
    with path.open("wb") as file:
        file.writelines([line] * 5000)  # 10 MB
    tracemalloc.start()
    try:
        with (tmp_path / "out.csv").open("wb") as file:
            tables.convert(path, file.fileno(), "csv")
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out.csv").stat().st_size > 10_000_000


def test_without_pyarrow_parquet_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"pip install"):
        open_journal(tmp_path / "out.parquet", manifest(INPUTS))
    assert list(tmp_path.iterdir()) == []


def test_a_finished_output_has_all_rows_and_leaves_its_manifest_only(output: Path) -> None:
    assert work(open_journal(output, manifest(INPUTS)), INPUTS) == 9
    found = read(output)
    assert [one["key"] for one in found] == [row.key for row in rows(INPUTS)]
    wanted = [str(record(row)["text"]) for row in rows(INPUTS)]
    assert [one["text"] for one in found] == [
        text.encode("utf-8", "backslashreplace").decode() for text in wanted
    ]
    names = {path.name for path in output.parent.iterdir()}
    assert names == {output.name, f".{output.name}.manifest.json"}


def test_until_it_is_finished_there_are_hidden_rows_only(output: Path) -> None:
    with open_journal(output, manifest(INPUTS)) as journal:
        row = rows(INPUTS)[0]
        journal.skip(row)
        journal.append(row, record(row))
    assert not output.exists()
    assert output.with_name(f".{output.name}.journal.jsonl").exists()
    journal = open_journal(output, manifest(INPUTS))
    assert journal.recovered == 1
    assert work(journal, INPUTS) == 8


def test_a_complete_output_is_left_as_it_is(output: Path) -> None:
    work(open_journal(output, manifest(INPUTS)), INPUTS)
    before = output.read_bytes(), output.stat().st_mtime_ns
    journal = open_journal(output, manifest(INPUTS))
    assert (journal.complete, journal.recovered, journal.failed) == (True, 9, 0)
    assert work(journal, INPUTS) == 0
    assert (output.read_bytes(), output.stat().st_mtime_ns) == before


def test_a_complete_output_of_a_changed_input_is_refused(output: Path) -> None:
    work(open_journal(output, manifest(INPUTS)), INPUTS)
    before = output.read_bytes()
    for opening in (open_journal, open_retry):
        with pytest.raises(BadInput, match="the input"):
            opening(output, manifest(INPUTS[1:]))
    with pytest.raises(CannotCreate, match="this format only"):
        open_changed(output, manifest(INPUTS[1:]))
    assert output.read_bytes() == before


def test_of_standard_input_a_complete_output_cannot_be_compared(output: Path) -> None:
    stdin = (Fingerprint("standard input", None, None),)
    work(open_journal(output, manifest(INPUTS, inputs=stdin)), INPUTS)
    with pytest.raises(CannotCreate, match=r"standard input.*--force"):
        open_journal(output, manifest(INPUTS, inputs=stdin))


def test_failed_rows_are_kept_for_a_retry_and_go_with_it(output: Path) -> None:
    hidden = output.with_name(f".{output.name}.journal.jsonl")
    work(open_journal(output, manifest(INPUTS)), INPUTS, failing=True)
    assert read(output)[3]["error"] == "bad, and worse"
    assert hidden.exists()
    journal = open_journal(output, manifest(INPUTS))
    assert (journal.complete, journal.failed) == (True, 1)
    journal.close()
    output.chmod(0o640)
    assert work(open_retry(output, manifest(INPUTS)), INPUTS) == 1
    assert not read(output)[3]["error"]
    assert output.stat().st_mode & 0o777 == 0o640
    names = {path.name for path in output.parent.iterdir()}
    assert names == {output.name, f".{output.name}.manifest.json"}


def test_a_strangers_file_is_refused(output: Path) -> None:
    output.write_text("a stranger's")
    with pytest.raises(CannotCreate, match="did not make it"):
        open_journal(output, manifest(INPUTS))
    assert output.read_text() == "a stranger's"


def test_force_overwrites_it_when_there_is_a_row(output: Path) -> None:
    output.write_text("a stranger's")
    with open_journal(output, manifest(INPUTS), force=True):
        pass
    assert output.read_text() == "a stranger's"
    assert work(open_journal(output, manifest(INPUTS), force=True), INPUTS) == 9
    assert len(read(output)) == 9


def test_an_empty_input_gives_an_output_without_rows(output: Path) -> None:
    work(open_journal(output, manifest([])), [])
    assert read(output) == []


def test_hidden_rows_of_other_settings_are_refused(output: Path) -> None:
    with open_journal(output, manifest(INPUTS)) as journal:
        row = rows(INPUTS)[0]
        journal.skip(row)
        journal.append(row, record(row))
    with pytest.raises(BadInput, match="the model was tiny and is other"):
        open_journal(output, manifest(INPUTS, model="other"))
