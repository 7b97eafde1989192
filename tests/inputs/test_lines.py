"""Inputs given one a line: from files, pipes and arguments, good and bad."""

from __future__ import annotations

import os
import tracemalloc
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import BinaryIO

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gptcli.errors import BadInput, GptcliError, MissingInput, UsageError
from gptcli.inputs.encoding import foreign_encoding
from gptcli.inputs.lines import InputLine, read_lines
from gptcli.inputs.pieces import MAX_LINE_BYTES, split
from gptcli.options import Input, TableInput

BOM = b"\xef\xbb\xbf"


def read(data: bytes, input: Input | None = None) -> list[InputLine]:
    """The lines of a stream that is no real file."""
    return [line for line in read_lines(None, input or Input(), BytesIO(data)) if line]


def texts(lines: list[InputLine]) -> list[str | None]:
    return [line.text for line in lines]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\ntwo\r", ["one", "two"]),
        (b"one\r\r\n two \n", ["one\r", " two "]),
        (b"a\rb\x0bc\x0cd\xc2\x85e\xe2\x80\xa8f\n", ["a\rb\x0bc\x0cd\x85e\u2028f"]),
        (BOM + b"one\n" + BOM + b"two\n", ["one", "\ufefftwo"]),
        ("é🙂\n".encode(), ["é🙂"]),
        (b"a\0b\n", ["a\0b"]),
        (b"", []),
    ],
)
def test_lines_end_at_line_feeds(data: bytes, expected: list[str]) -> None:
    assert texts(read(data)) == expected


def test_lines_are_numbered_from_one() -> None:
    assert [line.number for line in read(b"a\n\nb\n")] == [1, 2, 3]


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\n", b""))))
def test_every_line_feed_gives_one_line(parts: list[bytes]) -> None:
    data = b"".join(part + b"\n" for part in parts)
    assume(foreign_encoding(data) is None)
    assert len(read(data)) == len(parts)


@pytest.mark.parametrize("blank", [b"", b" ", b"\t\r", BOM])
def test_a_blank_line_is_an_error_and_reading_goes_on(blank: bytes) -> None:
    first, second = read(blank + b"\nnext\n")
    assert isinstance(first.error, UsageError)
    assert "line 1 is empty" in str(first.error)
    assert (first.text, second) == (None, InputLine(2, "next"))


def test_a_blank_line_is_taken_with_allow_empty() -> None:
    assert texts(read(b"\n \na\n", Input(allow_empty=True))) == ["", " ", "a"]


def test_a_bad_byte_is_named_by_line_and_place() -> None:
    first, second, third = read(b"good\nba\xffd\nnext\n")
    assert isinstance(second.error, BadInput)
    assert "line 2: invalid UTF-8 at byte 2" in str(second.error)
    assert texts([first, second, third]) == ["good", None, "next"]


def test_the_place_of_a_bad_byte_counts_the_byte_order_mark() -> None:
    assert "at byte 4" in str(read(BOM + b"a\xff\n")[0].error)


def test_bad_bytes_are_replaced_on_demand() -> None:
    assert texts(read(b"ba\xffd\n", Input(errors="replace"))) == ["ba\ufffdd"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_of_exactly_the_limit_is_taken(end: bytes) -> None:
    lines = read(b"x" * MAX_LINE_BYTES + end + b"next" + end)
    assert texts(lines) == ["x" * MAX_LINE_BYTES, "next"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_over_the_limit_is_an_error(end: bytes) -> None:
    first, *rest = read(b"x" * (MAX_LINE_BYTES + 1) + end + b"next" * bool(end))
    assert isinstance(first.error, BadInput)
    assert "line 1: longer than 1 MiB" in str(first.error)
    assert texts(rest) == ["next"] * bool(end)


def test_a_huge_line_is_not_held_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "huge"
    with file.open("wb") as out:
        out.truncate(64 << 20)  # a sparse file: one line of NUL bytes
        out.seek(0, os.SEEK_END)
        out.write(b"\nnext\n")
    tracemalloc.start()
    lines = [line for line in read_lines(None, Input(file=str(file)), None) if line]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(lines[0].error, BadInput)
    assert lines[1] == InputLine(2, "next")
    assert peak < 8 << 20


def test_a_file_is_read_as_far_as_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "many"
    file.write_bytes(b"a line\n" * 100_000)
    tracemalloc.start()
    lines = read_lines(None, Input(file=str(file)), None)
    assert [next(lines), next(lines)] == [InputLine(1, "a line"), InputLine(2, "a line")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    lines.close()  # type: ignore[attr-defined]
    assert peak < 700_000


def test_an_open_pipe_without_a_whole_line_gives_none(pipe: tuple[BinaryIO, int]) -> None:
    stream, writing = pipe
    lines = read_lines(None, Input(), stream)
    assert next(lines) is None
    os.write(writing, b"one\ntw")
    assert [next(lines), next(lines), next(lines)] == [InputLine(1, "one"), None, None]
    os.write(writing, b"o\nthree")
    assert [next(lines), next(lines)] == [InputLine(2, "two"), None]
    os.close(writing)
    assert list(lines) == [InputLine(3, "three")]


def test_what_the_streams_buffer_would_wait_for_is_not_waited_for(
    pipe: tuple[BinaryIO, int],
) -> None:
    stream, writing = pipe
    os.write(writing, b"one\ntwo\nthree\n")
    lines = read_lines(None, Input(file="-"), stream)
    assert texts([line for _ in range(3) if (line := next(lines))]) == ["one", "two", "three"]


def test_a_slow_writer_is_followed_to_its_end(pipe: tuple[BinaryIO, int]) -> None:
    stream, writing = pipe
    taken = Event()

    def write() -> None:
        for byte in "é\r\n🙂\n".encode():
            taken.wait(5)
            taken.clear()
            os.write(writing, bytes([byte]))
        os.close(writing)

    writer = Thread(target=write)
    writer.start()
    found = []
    for line in read_lines("-", Input(), stream):
        if line is None:
            taken.set()
        else:
            found.append(line)
    writer.join()
    assert texts(found) == ["é", "🙂"]


def test_a_descriptor_that_does_not_wait_is_read(pipe: tuple[BinaryIO, int]) -> None:
    stream, writing = pipe
    os.set_blocking(stream.fileno(), False)
    os.write(writing, b"one\n")
    lines = read_lines(None, Input(), stream)
    assert [next(lines), next(lines)] == [InputLine(1, "one"), None]


def test_a_file_may_be_a_pipe(pipe: tuple[BinaryIO, int]) -> None:
    stream, writing = pipe
    os.write(writing, b"one\n")
    os.close(writing)
    lines = read_lines(None, Input(file=f"/dev/fd/{stream.fileno()}"), None)
    assert list(lines) == [InputLine(1, "one")]


def test_an_argument_gives_its_lines() -> None:
    stdin = BytesIO(b"not read")
    assert list(read_lines("one\ntwo", Input(), stdin)) == [
        InputLine(1, "one"),
        InputLine(2, "two"),
    ]
    assert stdin.tell() == 0


def test_an_argument_is_read_as_the_bytes_that_the_shell_passed() -> None:
    (line,) = read_lines(os.fsdecode(b"a\xff"), Input(), None)
    assert line
    assert isinstance(line.error, BadInput)


class Terminal(BytesIO):
    """Standard input that is a terminal, with something typed."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_is_read_when_it_is_asked_for() -> None:
    assert list(read_lines("-", Input(), Terminal(b"typed\n"))) == [InputLine(1, "typed")]


@pytest.mark.parametrize(
    ("argument", "input", "stdin", "kind"),
    [
        (None, Input(), Terminal(), UsageError),
        (None, Input(), None, UsageError),
        ("-", Input(), None, MissingInput),
        (None, Input(file="-"), None, MissingInput),
        ("-", Input(file="-"), BytesIO(), UsageError),
        ("one", Input(file="some"), None, UsageError),
        (None, Input(file=""), None, UsageError),
        (None, Input(file="a\0b"), None, UsageError),
        (None, Input(file="/nowhere/at/all"), None, MissingInput),
        (None, Input(file="/"), None, MissingInput),
        ("\ud800", Input(), None, BadInput),
    ],
)
def test_without_a_source_of_lines_it_fails_before_anything_is_read(
    argument: str | None, input: Input, stdin: BinaryIO | None, kind: type[GptcliError]
) -> None:
    with pytest.raises(kind) as caught:
        read_lines(argument, input, stdin)
    assert caught.value.hint


def test_an_error_while_reading_says_which_source(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with Path(os.devnull).open("rb") as stream:
        os.dup2(folder, stream.fileno())
        os.close(folder)
        with pytest.raises(MissingInput, match="standard input: is a directory"):
            list(read_lines("-", Input(), stream))


def rows(tmp_path: Path, name: str, data: str, **table: str) -> list[InputLine]:
    (tmp_path / name).write_text(data, "utf-8")
    found = read_lines(None, Input(file=str(tmp_path / name)), None, TableInput(**table))  # type: ignore[arg-type]
    return [line for line in found if line]


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.TSV"])
def test_a_file_that_is_a_table_by_its_name_gives_its_column(tmp_path: Path, name: str) -> None:
    found = rows(tmp_path, name, "id\tcond\ttext\nx\tA\tOnce\n\ty\n7\tB\tA fox\n\tC\tA hen\n")
    assert [(line.id, line.text, line.others) for line in found] == [
        ("x", "Once", {"cond": "A"}),
        ("row:2", None, {"cond": None}),
        ("7", "A fox", {"cond": "B"}),
        ("row:4", "A hen", {"cond": "C"}),
    ]
    assert "2 fields where the header has 3" in str(found[1].error)


def test_rows_of_a_table_without_ids_are_numbered(tmp_path: Path) -> None:
    found = rows(tmp_path, "a.csv", "text,x\nOnce,1\n,2\n")
    assert [line.id for line in found] == ["1", "2"]
    assert "line 3 is empty" in str(found[1].error)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("id,prompt", True),
        ("id\ttext\tcond", True),
        ("Prompt;id", True),
        ("I say, text, not picture", False),
        ("prompt", False),
        ("a,b", False),
        ("text|", False),
    ],
)
def test_lines_that_begin_with_a_header_are_said(first: str, said: bool) -> None:
    notes: list[str] = []
    data = BytesIO(f"{first}\n1,a\n".encode())
    found = [line for line in read_lines(None, Input(), data, TableInput(), notes.append) if line]
    assert len(found) == 2
    assert ["--delimiter" in note for note in notes] == [True] * said


def test_an_option_of_tables_makes_any_input_a_table(tmp_path: Path) -> None:
    assert [line.text for line in rows(tmp_path, "a.txt", "a;b\n1;x\n", column="b")] == ["x"]
    stream = BytesIO(b"a\tb\n1\tx\n")
    found = read_lines(None, Input(), stream, TableInput(column="b", delimiter="tab"))
    assert [line.text for line in found if line] == ["x"]


def test_a_wrong_column_of_a_file_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no column 'c'\. Name one: a, b"):
        rows(tmp_path, "a.csv", "a,b\n1,2\n", column="c")


def test_an_argument_that_is_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("items.tsv").write_text("text\na\n")
    with pytest.raises(UsageError, match=r"Add -f: -f items\.tsv"):
        read_lines("items.tsv", Input(), None)
    assert [line.text for line in read_lines("others.tsv", Input(), None) if line] == ["others.tsv"]


def test_a_line_that_comes_byte_by_byte_is_the_line() -> None:
    whole = b"one\r\n" + b"x" * 5000 + b"\n\nend"
    found = split(whole[at : at + 1] for at in range(len(whole)))
    assert list(found) == [b"one", b"x" * 5000, b"", b"end"]
