"""Where a prompt comes from, and which bytes are refused."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from gptcli.errors import BadInput, GptcliError, MissingInput, UsageError
from gptcli.inputs import prompt as files
from gptcli.inputs.prompt import MAX_PROMPT_BYTES, read_prompt
from gptcli.options import Input


class Keyboard(io.BytesIO):
    """A standard input that is a terminal; reading it would hang."""

    def isatty(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        raise AssertionError("the terminal was read")


def test_no_stdin_leaves_it_alone() -> None:
    stdin = io.BytesIO(b"the next line\n")
    found = read_prompt("Once", Input(no_stdin=True), stdin)
    assert (found.text, found.notices, stdin.read()) == ("Once", (), b"the next line\n")


@pytest.mark.parametrize(("argument", "file"), [("-", None), (None, "-"), (None, None)])
def test_no_stdin_does_not_go_with_what_needs_it(argument: str | None, file: str | None) -> None:
    with pytest.raises(UsageError, match="--no-stdin"):
        read_prompt(argument, Input(no_stdin=True, file=file), io.BytesIO(b"x"))


@pytest.mark.parametrize(
    ("stdin", "said"),
    [(b"a\n", "1 line of standard input"), (b"a\nb", "2 lines of standard input"), (b"", "")],
)
def test_what_is_read_beside_the_argument_is_told(stdin: bytes, said: str) -> None:
    notices = read_prompt("Once", Input(), io.BytesIO(stdin)).notices
    assert [said in notice and "--no-stdin" in notice for notice in notices] == [True] * bool(said)


def test_a_pipe_that_is_the_prompt_is_not_told() -> None:
    assert read_prompt(None, Input(), io.BytesIO(b"a\nb")).notices == ()


def test_a_pipe_that_stays_open_after_some_text_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "SILENCE_SECONDS", 0.1)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb", 0) as other:
        other.write(b"some")
        with pytest.raises(UsageError, match=r"stays open.*--no-stdin"):
            read_prompt("Once", Input(), stdin)


def text_of(argument: str | None, stdin: bytes | None = None, **options: object) -> str:
    stream = None if stdin is None else io.BytesIO(stdin)
    return read_prompt(argument, Input(**options), stream).text


@pytest.mark.parametrize(
    ("argument", "stdin", "text"),
    [
        ("Once", None, "Once"),
        (None, b"Once\n", "Once"),
        ("-", b"Once", "Once"),
        ("upon", b"Once\n", "Once\nupon"),
        ("upon", b"", "upon"),
        (None, b"Once\r\n", "Once"),
        (None, b"Once\n\n", "Once\n"),
        (None, b"a\r\nb", "a\r\nb"),
        ("Once\n", None, "Once\n"),
        (None, b"\xef\xbb\xbfOnce", "Once"),
        (None, b"   ", "   "),
        (None, b"a\x00b", "a\x00b"),
        (None, "é日👩\u200d🚀".encode(), "é日👩\u200d🚀"),
    ],
)
def test_prompt_from_argument_and_stdin(argument: str | None, stdin: bytes, text: str) -> None:
    assert text_of(argument, stdin) == text


def test_file_is_the_prompt(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"Once\n")
    assert text_of(None, b"ignored", file=str(tmp_path / "p.txt")) == "Once"


def test_file_comes_before_the_argument(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"Once\n")
    assert text_of("upon", file=str(tmp_path / "p.txt")) == "Once\nupon"


def test_file_dash_is_stdin() -> None:
    assert text_of("upon", b"Once", file="-") == "Once\nupon"


def test_terminal_is_not_read_beside_an_argument() -> None:
    assert read_prompt("Once", Input(), Keyboard()).text == "Once"


@pytest.mark.parametrize("stdin", [Keyboard(), None])
def test_no_prompt_says_how_to_give_one(stdin: BinaryIO | None) -> None:
    with pytest.raises(UsageError, match=r"no prompt.*gptcli generate"):
        read_prompt(None, Input(), stdin)


@pytest.mark.parametrize(("argument", "stdin"), [(None, b""), (None, b"\n"), ("", None)])
def test_empty_prompt_is_refused(argument: str | None, stdin: bytes | None) -> None:
    with pytest.raises(UsageError, match=r"empty prompt.*--allow-empty"):
        text_of(argument, stdin)


def test_only_a_byte_order_mark_is_empty() -> None:
    with pytest.raises(UsageError, match="empty prompt"):
        text_of(None, b"\xef\xbb\xbf")


@pytest.mark.parametrize(("argument", "stdin"), [(None, b""), ("", None), (None, None)])
def test_empty_prompt_can_be_allowed(argument: str | None, stdin: bytes | None) -> None:
    assert text_of(argument, stdin, allow_empty=True) == ""


@pytest.mark.parametrize(
    ("data", "place"),
    [(b"a\xff\xfe", 1), (b"\xef\xbb\xbfab\xff", 5), (b"\xed\xa0\x80", 0), (b"ab\xc3", 2)],
)
def test_bad_bytes_are_named_by_place(data: bytes, place: int) -> None:
    with pytest.raises(BadInput, match=f"invalid UTF-8 at byte {place}\\..*--errors replace"):
        text_of(None, data)


def test_bad_bytes_in_the_argument_are_named_by_place() -> None:
    with pytest.raises(BadInput, match="argument: invalid UTF-8 at byte 1"):
        text_of(os.fsdecode(b"a\xff"))


def test_bad_bytes_can_be_replaced() -> None:
    assert text_of(None, b"a\xff\xfe", errors="replace") == "a\ufffd\ufffd"


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(BadInput, match="surrogate"):
        text_of("\ud800")


def test_huge_input_is_refused_by_size() -> None:
    started = time.monotonic()
    with pytest.raises(BadInput, match="more than 4 MiB"):
        text_of(None, b"a" * (10 << 20))
    assert time.monotonic() - started < 1


def test_input_of_exactly_the_limit_is_taken() -> None:
    assert len(text_of(None, b"a" * MAX_PROMPT_BYTES)) == MAX_PROMPT_BYTES


def test_trailing_space_is_noticed() -> None:
    assert "ends in a space" in read_prompt("Once ", Input(), None).notices[0]


@pytest.mark.parametrize("name", ["nowhere.txt", ".", "x" * 300])
def test_unreadable_file_is_missing_input(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingInput):
        text_of(None, file=str(tmp_path / name))


def test_nul_in_a_file_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="NUL"):
        text_of(None, file="a\0b")


def test_stdin_cannot_be_asked_for_twice() -> None:
    with pytest.raises(UsageError, match="twice"):
        text_of("-", b"Once", file="-")


def test_closed_stdin_that_is_asked_for_is_missing() -> None:
    with pytest.raises(MissingInput, match="closed"):
        text_of("-")


def test_silent_pipe_beside_an_argument_is_left_alone(
    pipe: tuple[BinaryIO, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE_SECONDS", 0.05)
    prompt = read_prompt("Once", Input(), pipe[0])
    assert prompt.text == "Once"
    assert "stayed open and empty" in prompt.notices[0]


def test_pipe_with_data_beside_an_argument_is_read() -> None:
    read, write = os.pipe()
    os.write(write, b"Once\n")
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        assert read_prompt("upon", Input(), stream).text == "Once\nupon"


def test_dev_null_beside_an_argument_is_empty_at_once() -> None:
    started = time.monotonic()
    with open(os.devnull, "rb") as stream:  # noqa: PTH123 - a device, not a path of ours
        assert read_prompt("Once", Input(), stream).notices == ()
    assert time.monotonic() - started < 0.5


@pytest.mark.parametrize("data", [bytes([byte]) for byte in range(0x80, 0x100)])
def test_every_lone_high_byte_is_bad_input(data: bytes) -> None:
    with pytest.raises(GptcliError) as caught:
        text_of(None, data)
    assert caught.value.exit_code == 65


@pytest.mark.parametrize("argument", ["story.txt", "./story", "texts/story.text"])
def test_an_argument_that_is_the_path_of_a_file_is_refused(
    argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert text_of(argument) == argument
    Path(argument).parent.mkdir(exist_ok=True)
    Path(argument).write_text("Once")
    with pytest.raises(UsageError, match="Add -f: -f"):
        text_of(argument)
