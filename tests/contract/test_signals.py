"""Signals at any moment: death by the signal itself, soon, without a word, text kept."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import FAKE, REAL, TALES, Terminal, environment, start

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
LONG = ["word "] * 400


def die(process: subprocess.Popen[bytes], number: int) -> tuple[bytes, bytes]:
    """Send a signal; asserts that the process dies of it within two seconds."""
    process.send_signal(number)
    sent = time.monotonic()
    out, err = process.communicate(timeout=10)
    assert time.monotonic() - sent < 2
    assert process.returncode == -number
    return out, err


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@BOTH
@pytest.mark.parametrize("moment", [0.3, 0.8, 1.5])
def test_while_starting(number: int, moment: float) -> None:
    # Long enough for the slowest moment on the fastest machine: many texts as long as they can be.
    process = start(REAL, "generate", "Once", *TALES, "--max-new-tokens", "100000", "-n", "100")
    time.sleep(moment)
    assert die(process, number)[1] == b""


@BOTH
def test_while_loading(number: int) -> None:
    process = start(FAKE, "generate", "Once", FAKE_LOADING=20)
    time.sleep(0.6)
    assert die(process, number) == (b"", b"")


@BOTH
def test_while_streaming_to_a_pipe(number: int) -> None:
    process = start(FAKE, "generate", "Once ", "-q", FAKE_CHUNKS=LONG, FAKE_PAUSE=0.02)
    assert process.stdout is not None
    assert process.stdout.read(15) == b"Once word word "
    out, err = die(process, number)
    assert err == b""
    assert set(out.split()) <= {b"word"}


@BOTH
def test_text_so_far_is_kept_in_the_output_file(number: int, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    process = start(FAKE, "generate", "Once", "-o", str(path), FAKE_CHUNKS=LONG, FAKE_PAUSE=0.02)
    wait_for(lambda: any(part.stat().st_size > 50 for part in tmp_path.iterdir()))
    assert not path.exists()
    assert die(process, number) == (b"", b"")
    assert path.read_text().startswith("Onceword word ")
    assert path.read_text().endswith("\n")
    assert list(tmp_path.iterdir()) == [path]


def test_unfinished_json_leaves_no_file(tmp_path: Path) -> None:
    process = start(
        FAKE,
        *("generate", "Once", "--json", "-o", str(tmp_path / "a.json")),
        FAKE_CHUNKS=LONG,
        FAKE_PAUSE=0.02,
    )
    wait_for(lambda: list(tmp_path.iterdir()))
    die(process, signal.SIGTERM)
    assert list(tmp_path.iterdir()) == []


def test_ignored_interrupt_stays_ignored() -> None:
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$0" "$@"', *FAKE, "generate", "Once"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(FAKE_LOADING=1),
    )
    time.sleep(0.6)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == b"Once there was\n"
    assert process.returncode == 0


@BOTH
def test_spinner_is_erased_and_the_cursor_shown(number: int) -> None:
    terminal = Terminal(FAKE, "generate", "Once", FAKE_LOADING=20)
    terminal.read_until(b"loading")
    terminal.process.send_signal(number)
    assert terminal.finish() == -number
    assert terminal.output.endswith(b"\r\x1b[2K\x1b[?25h")


def test_interrupted_stream_ends_its_line() -> None:
    terminal = Terminal(FAKE, "generate", "Once", FAKE_CHUNKS=LONG, FAKE_PAUSE=0.02)
    terminal.read_until(b"word word")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.finish() == -signal.SIGINT
    assert terminal.output.endswith(b"\r\n")
    assert b"Traceback" not in terminal.output


def test_blocked_pipe_is_interrupted() -> None:
    process = start(FAKE, "generate", "Once", FAKE_CHUNKS=["x" * 1000] * 100)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == -signal.SIGTERM
    process.communicate()
