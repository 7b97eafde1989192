"""Where the rows of a batch come from: files, folders, patterns and pipes, in their order."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.batch_rows import errors, of, read, texts

from gptcli.batch.input.fingerprints import Fingerprint
from gptcli.batch.input.row import digest
from gptcli.batch.input.sources import fingerprint, rows
from gptcli.batch.options import BatchInput
from gptcli.errors import BadInput, ExitCode, GptcliError, MissingInput, UsageError

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.txt", b"one\ntwo\n", ["one", "two"]),
        ("a.prompts", b"one\r\ntwo", ["one", "two"]),
        ("a.TXT", b'{"prompt": "x"}\n', ['{"prompt": "x"}']),
        ("a.jsonl", b'{"prompt": "one"}\n{"text": "two"}\n"three"\n', ["one", "two", "three"]),
        ("a.ndjson", b'{"prompt": "one"}\n', ["one"]),
        ("a.csv", b"prompt\none\n", ["one"]),
        ("a.tsv", b"id\ttext\n1\ta, b\n", ["a, b"]),
        ("a", b"one\n", ["one"]),
        ("a", b'{"prompt": "one"}\n', ["one"]),
        ("a", BOM + b'\n {"prompt": "one"}\n', ["one"]),
        ("a", b"PAR1 is a word\n", ["PAR1 is a word"]),
        ("a", b"P", ["P"]),
        ("a", b"", []),
    ],
)
def test_the_format_goes_by_name_and_first_bytes(
    tmp_path: Path, name: str, data: bytes, expected: list[str]
) -> None:
    (tmp_path / name).write_bytes(data)
    assert texts(read(tmp_path / name)) == expected


def test_the_format_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"prompt\tid\none\t1\n")
    assert texts(read(tmp_path / "a.log", input_format="tsv")) == ["one"]


def test_several_inputs_are_one_batch_in_their_order(here: Path) -> None:
    Path("b.txt").write_bytes(b"one\ntwo")
    Path("a.jsonl").write_bytes(b'{"prompt": "three", "id": "x"}')
    found = read("b.txt", "a.jsonl", "b.txt")
    assert texts(found) == ["one", "two", "three", "one", "two"]
    assert [row.number for row in found] == [0, 1, 2, 3, 4]
    assert [row.id for row in found] == ["row:0", "row:1", "x", "row:3", "row:4"]


def test_standard_input_can_stand_among_files(here: Path) -> None:
    Path("a.txt").write_bytes(b"one")
    found = rows(["a.txt", "-"], BatchInput(), BytesIO(b"two\n"))
    assert [row.text for row in found if row] == ["one", "two"]


def test_without_inputs_standard_input_is_read() -> None:
    assert [row.text for row in rows([], BatchInput(), BytesIO(b"one\n")) if row] == ["one"]


def test_a_folder_gives_a_row_for_each_text_file_in_it(here: Path) -> None:
    for name in ("b.md", "a.txt", "sub/c.TXT", "x.jsonl", ".hidden.txt", ".git/d.txt"):
        Path("texts", name).parent.mkdir(parents=True, exist_ok=True)
        Path("texts", name).write_bytes(f"in {name}\nand more\n".encode())
    found = read("texts")
    assert [row.id for row in found] == ["a.txt", "b.md", "sub/c.TXT"]
    assert found[0].text == "in a.txt\nand more"
    assert found[0].digest == digest(b"in a.txt\nand more\n")


def test_files_of_two_folders_keep_their_folders_in_the_id(here: Path) -> None:
    for name in ("one/a.txt", "two/a.txt"):
        Path(name).parent.mkdir()
        Path(name).write_bytes(b"x")
    assert [(row.id, row.error) for row in read("one", "two")] == [
        ("one/a.txt", None),
        ("two/a.txt", None),
    ]


def test_an_empty_file_in_a_folder_is_a_bad_row(here: Path) -> None:
    Path("a.txt").write_bytes(b"")
    Path("b.txt").write_bytes(b"fine")
    found = read(".")
    assert texts(found) == [None, "fine"]
    assert "a.txt: the prompt is empty" in errors(found)[0]


def test_a_pattern_is_what_the_shell_makes_of_it(here: Path) -> None:
    for name in ("b.txt", "a.txt", "c.csv", ".d.txt"):
        Path(name).write_bytes(f"{name} 1\n{name} 2\n".encode())
    assert texts(read("*.txt")) == ["a.txt 1", "a.txt 2", "b.txt 1", "b.txt 2"]


def test_a_pattern_of_whole_files_names_rows_by_their_files(here: Path) -> None:
    Path("sub").mkdir()
    Path("sub/b.txt").write_bytes(b"one\ntwo\n")
    found = read("**/*.txt", input_format="files")
    assert [(row.id, row.text) for row in found] == [("sub/b.txt", "one\ntwo")]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(here: Path) -> None:
    Path("a[1].txt").write_bytes(b"one\n")
    Path("a1.txt").write_bytes(b"other\n")
    assert texts(read("a[1].txt")) == ["one"]


def test_a_name_that_is_no_utf8_is_shown_as_text(here: Path) -> None:
    try:
        Path(os.fsdecode(b"\xff.txt")).write_bytes(b"one")
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    assert read(".")[0].id == "\ufffd.txt"


@pytest.mark.parametrize(
    ("inputs", "options", "kind", "message"),
    [
        (["none.txt"], {}, MissingInput, "none.txt: no such file"),
        (["full.txt", "none.jsonl"], {}, MissingInput, "none.jsonl"),
        (["full.txt/none"], {}, MissingInput, "not a directory"),
        (["*.nothing"], {}, MissingInput, "no file matches"),
        (["empty"], {}, MissingInput, "no file in it ends in .txt or .md"),
        (["a.pdf"], {}, UsageError, "files that end in .pdf"),
        (["a.json"], {}, UsageError, "jq -c"),
        ([""], {}, UsageError, "the name is empty"),
        (["a\0b"], {}, UsageError, "NUL character"),
        (["-", "-"], {}, UsageError, "asked for twice"),
        (["-"], {}, MissingInput, "standard input: it is closed"),
        (["-"], {"input_format": "parquet"}, UsageError, "Name the file"),
        (["."], {"input_format": "csv"}, UsageError, "does not go with csv"),
        (["."], {"null": True}, UsageError, "does not go with --null"),
        (["a.csv"], {"column": "text"}, UsageError, "no column 'text'"),
        (["a.csv"], {"column": "3"}, UsageError, "Name one: a, b"),
        (["a.csv"], {"column": "0"}, UsageError, "no column '0'"),
        (["a.csv"], {}, UsageError, "no column prompt or text"),
        (["a.csv"], {"column": "a", "id_column": "key"}, UsageError, "--id-column"),
        (["twice.csv"], {}, UsageError, "2 columns 'prompt'"),
        (["empty.csv"], {}, BadInput, "there is no header"),
        (["bad.csv"], {}, BadInput, "bad.csv line 1: invalid UTF-8"),
        (["full.txt.gz"], {}, BadInput, "not packed by gzip"),
    ],
)
def test_what_cannot_be_read_is_known_before_the_first_row(
    here: Path,
    inputs: list[str],
    options: dict[str, object],
    kind: type[GptcliError],
    message: str,
) -> None:
    Path("empty").mkdir()
    for name, data in (
        ("full.txt", b"one\n"),
        ("full.txt.gz", b"one\n"),
        ("a.pdf", b"x"),
        ("a.json", b"[]"),
        ("a.csv", b"a,b\n1,2\n"),
        ("twice.csv", b"prompt,prompt\n1,2\n"),
        ("empty.csv", b""),
        ("bad.csv", b"pro\xffmpt\n"),
    ):
        Path(name).write_bytes(data)
    with pytest.raises(kind) as caught:
        rows(inputs, BatchInput(**options), None)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_missing(here: Path) -> None:
    Path("a.txt").write_bytes(b"x")
    Path("a.txt").chmod(0)
    with pytest.raises(MissingInput, match="permission denied"):
        rows(["a.txt"], BatchInput(), None)


@pytest.mark.parametrize(
    "options",
    [
        {"null": True, "input_format": "csv"},
        {"column": ""},
        {"id_column": ""},
        {"input_format": "xml"},
        {"errors": "ignore"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        BatchInput(**options)  # type: ignore[arg-type]


def test_a_terminal_is_not_waited_for() -> None:
    class Terminal(BytesIO):
        def isatty(self) -> bool:
            return True

    with pytest.raises(UsageError) as caught:
        rows([], BatchInput(), Terminal())
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_row_of_a_slow_pipe_comes_as_soon_as_it_is_whole(pipe: tuple[BinaryIO, int]) -> None:
    stream, writing = pipe
    found = rows(["-"], BatchInput(), stream)
    assert next(found) is None
    os.write(writing, b"one\ntw")
    first = next(row for row in found if row)
    assert (first.text, next(found)) == ("one", None)
    os.write(writing, b"o\n")
    assert next(row for row in found if row).text == "two"
    os.close(writing)
    assert [row for row in found if row] == []


@pytest.mark.parametrize(
    ("options", "sent", "expected"),
    [
        ({}, b"a\n", "a"),
        ({"null": True}, b"a\nb\0", "a\nb"),
        ({}, b'{"prompt": "a"}\n', "a"),
        ({"input_format": "csv"}, b'prompt\n"a\nb"\n', "a\nb"),
    ],
)
def test_no_format_keeps_a_whole_record_of_a_pipe_waiting(
    pipe: tuple[BinaryIO, int], options: dict[str, object], sent: bytes, expected: str
) -> None:
    stream, writing = pipe
    found = rows(["-"], BatchInput(**options), stream)  # type: ignore[arg-type]
    for byte in sent:
        assert next(found) is None
        os.write(writing, bytes([byte]))
    for _ in range(len(sent)):
        row = next(found)
        if row is not None:
            break
    assert row is not None
    assert row.text == expected


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = Thread(target=path.write_bytes, args=(b'{"prompt": "one"}\n',), daemon=True)
    assert fingerprint([str(path)], BatchInput()) == (Fingerprint(str(path), None, None),)
    found = rows([str(path)], BatchInput(), None)
    writer.start()
    assert [row.text for row in found if row] == ["one"]
    writer.join(5)


def test_a_file_that_vanishes_meanwhile_is_an_error(here: Path) -> None:
    Path("a.txt").write_bytes(b"x")
    found = rows(["a.txt"], BatchInput(), None)
    Path("a.txt").unlink()
    with pytest.raises(MissingInput):
        list(found)


def test_records_can_end_in_nul() -> None:
    found = of(b"one\ntwo\0\r\nthree\r\0 \0{four", null=True)
    assert texts(found) == ["one\ntwo", "\r\nthree\r", None, "{four"]
    assert "standard input record 3: the prompt is empty" in errors(found)[0]


def test_the_digest_is_that_of_the_line_without_its_end() -> None:
    assert [row.digest for row in of(BOM + b"one\r\nt\xffo\n")] == [
        digest(b"one"),
        digest(b"t\xffo"),
    ]


def test_an_edited_row_has_another_key() -> None:
    before, after = of(b"one\ntwo\n")[1], of(b"one\ntwo \n")[1]
    assert before.key != after.key
    assert before.key.startswith("1:")


def test_empty_prompts_are_taken_on_demand() -> None:
    assert texts(of(b"\none\n", allow_empty=True)) == ["", "one"]


def test_bad_bytes_are_replaced_on_demand() -> None:
    assert texts(of(b"a\xff\n", errors="replace")) == ["a\ufffd"]


def test_the_second_row_with_an_id_names_the_first(here: Path) -> None:
    Path("a.jsonl").write_bytes(b'{"id": 7, "prompt": "a"}\n\n{"id": "x", "prompt": "b"}\n')
    Path("b.csv").write_bytes(b"id,prompt\nx,c\n7,d\nnew,e\n")
    found = read("a.jsonl", "b.csv")
    assert texts(found) == ["a", "b", None, None, "e"]
    assert "b.csv line 2: the id 'x' is that of a.jsonl line 3" in errors(found)[0]
    assert "b.csv line 3: the id '7' is that of a.jsonl line 1" in errors(found)[1]
    assert [row.id for row in found] == ["7", "x", "x", "7", "new"]


def test_rows_without_an_id_have_their_number() -> None:
    assert [row.id for row in of(b"a\nb\nc\n")] == ["0", "1", "2"]
    assert [row.id for row in of(b"prompt,x\na,1\nb,2\n", input_format="csv")] == ["0", "1"]


def test_standard_input_is_a_table_where_an_option_of_tables_is_given() -> None:
    data = b"id;prompt\n7;Once\n"
    assert texts(of(data)) == ["id;prompt", "7;Once"]
    for options in ({"column": "prompt"}, {"delimiter": ";"}, {"id_column": "id"}):
        assert [(row.id, row.text) for row in of(data, **options)] == [("7", "Once")]
    assert [row.id for row in of(b'{"q": "Once", "id": 7}\n', column="q")] == ["7"]


def test_rows_without_an_id_are_told_apart_from_those_that_have_one() -> None:
    found = of(
        b'{"prompt": "a", "id": null}\n{"prompt": "b", "id": ""}\n{"prompt": "c"}\n"d"\n'
        b'{"prompt": "e", "id": 1}\n{"prompt": "f", "id": "row:6"}\n{"prompt": "g"}\n[]\n'
    )
    assert [row.id for row in found] == [
        *("row:0", "row:1", "row:2", "row:3", "1", "row:6", "row:row:6", "row:7"),
    ]
    found = of(b"id,prompt\n1,a\n,b\nbroken\n", input_format="csv")
    assert [row.id for row in found] == ["1", "row:1", "broken"]


def test_a_row_that_cannot_be_read_never_has_the_id_of_another() -> None:
    found = of(b'{"prompt": "a", "id": 1}\n{"prompt": \n{"id": 7, "prompt": "c\xff"}\n{"id": 2}\n')
    assert [row.id for row in found] == ["1", "row:1", "7", "2"]
    assert [bool(row.error) for row in found] == [False, True, True, True]
    found = of(b"id,prompt\n3,a\n1,b\xff\n0,c\n\xff,d\n", input_format="csv")
    assert [row.id for row in found] == ["3", "1", "0", "row:3"]


def test_a_bad_row_keeps_its_id() -> None:
    row = of(b'{"id": "x", "prompt": 5}\n')[0]
    assert (row.id, row.text, row.overrides) == ("x", "", {})


def test_fingerprints_are_those_of_the_bytes_on_disk(here: Path) -> None:
    Path("a.txt").write_bytes(b"one\r\n")
    Path("big.txt").write_bytes(b"x" * (3 << 20))
    expected = [
        Fingerprint("a.txt", 5, hashlib.sha256(b"one\r\n").hexdigest()),
        Fingerprint("-", None, None),
        Fingerprint("big.txt", 3 << 20, hashlib.sha256(b"x" * (3 << 20)).hexdigest()),
    ]
    assert list(fingerprint(["a.txt", "-", "big.txt"], BatchInput())) == expected


def test_a_folder_has_a_fingerprint_for_each_file(here: Path) -> None:
    Path("in").mkdir()
    Path("in/b.txt").write_bytes(b"b")
    Path("in/a.txt").write_bytes(b"a")
    assert [item.name for item in fingerprint(["in"], BatchInput())] == ["in/a.txt", "in/b.txt"]


def test_a_missing_file_has_no_fingerprint() -> None:
    with pytest.raises(MissingInput):
        fingerprint(["none.txt"], BatchInput())


def _peak(path: Path) -> int:
    """The most memory that reading the file took, in bytes."""
    tracemalloc.start()
    try:
        for _ in rows([str(path)], BatchInput(), None):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "line", "few", "many"),
    [
        ("a.txt", b"Once upon a time\n", 20_000, 200_000),
        ("a.jsonl", b'{"prompt": "Once upon a time"}\n', 6_000, 18_000),
        ("a.csv", b'"Once upon\n' + b"a time " * 12 + b'"\n', 3_000, 9_000),
    ],
)
def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, name: str, line: bytes, few: int, many: int
) -> None:
    path = tmp_path / name
    head = b"prompt\n" if name.endswith("csv") else b""
    peaks = []
    for count in (100, few, many):  # the first also imports and caches
        path.write_bytes(head + line * count)
        peaks.append(_peak(path))
    assert peaks[2] < 3 << 20
    assert peaks[2] < peaks[1] * 1.2


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]))))
def test_every_line_is_a_row(lines: list[str]) -> None:
    data = "".join(line + "\n" for line in lines).encode()
    found = of(data, input_format="lines", allow_empty=True)
    expected = [line.removeprefix("\ufeff") if at == 0 else line for at, line in enumerate(lines)]
    assert texts(found) == expected
