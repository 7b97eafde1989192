"""Where a file is meant, a named pipe, a device or a socket never keeps the program waiting."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from gptcli.system import regular_files
from gptcli.system.regular_files import (
    NotRegular,
    check_regular,
    open_once,
    open_pipe,
    open_regular,
    open_stream,
    read_text,
)

Make = Callable[[Path], object]


def bind(path: Path) -> None:
    """A socket; its name would be too long below the folder of a test."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


def to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


OTHERS: list[tuple[Make, str]] = [
    (os.mkfifo, "named pipe"),
    (to_pipe, "named pipe"),
    (lambda path: path.symlink_to("/dev/zero"), "device"),
    (lambda path: path.symlink_to("/dev/null"), "device"),
    (bind, "socket"),
]


@pytest.mark.parametrize(("make", "kind"), OTHERS)
@pytest.mark.parametrize("opened", [open_regular, open_once, check_regular])
def test_what_is_no_regular_file_is_refused_by_its_kind(
    tmp_path: Path, make: Make, kind: str, opened: Callable[[Path], object]
) -> None:
    make(tmp_path / "it")
    with pytest.raises(NotRegular, match=f"It is a {kind}, not a regular file"):
        opened(tmp_path / "it")


def test_a_folder_and_a_link_to_itself_are_errors(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(OSError, match="symbolic links"):
        open_regular(tmp_path / "loop")


def test_a_regular_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    (tmp_path / "b").symlink_to("a")
    assert read_text(tmp_path / "b", 3) == "tex"


def test_what_the_shell_opened_may_be_a_pipe() -> None:
    reads, writes = os.pipe()
    os.write(writes, b"text")
    os.close(writes)
    with open_once(f"/dev/fd/{reads}") as file:
        assert file.read() == b"text"
    os.close(reads)


def test_an_input_may_be_a_pipe_but_no_endless_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    Thread(target=(tmp_path / "pipe").write_bytes, args=(b"text",), daemon=True).start()
    with open_stream(tmp_path / "pipe") as file:
        assert file.read() == b"text"
    with open_stream(os.devnull) as file:
        assert file.read() == b""
    with pytest.raises(NotRegular, match="device"):
        open_stream("/dev/zero")


def test_a_pipe_without_a_reader_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regular_files, "PATIENCE_SECONDS", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No process reads this named pipe"):
        open_pipe(tmp_path / "pipe")


def test_a_reader_that_comes_a_little_later_gets_all(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found: list[bytes] = []
    reader = Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()), daemon=True)
    reader.start()
    descriptor = open_pipe(tmp_path / "pipe")
    assert os.get_blocking(descriptor)
    os.write(descriptor, b"text")
    os.close(descriptor)
    reader.join(10)
    assert found == [b"text"]
