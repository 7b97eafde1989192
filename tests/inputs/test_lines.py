"""Inputs given one a line: from files, pipes and arguments, good and bad."""

from __future__ import annotations

import os
import tracemalloc
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptcli.errors import BadInput, GptcliError, MissingInput, UsageError
from gptcli.inputs.lines import LONGEST, InputLine, read_lines
from gptcli.options import Input

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
    assert len(read(b"".join(part + b"\n" for part in parts))) == len(parts)


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
    lines = read(b"x" * LONGEST + end + b"next" + end)
    assert texts(lines) == ["x" * LONGEST, "next"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_over_the_limit_is_an_error(end: bytes) -> None:
    first, *rest = read(b"x" * (LONGEST + 1) + end + b"next" * bool(end))
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
