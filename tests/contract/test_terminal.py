"""On a terminal: model text never acts, the prompt is faint, nothing is left behind."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pyte
import pytest
from support.commands import FAKE, REAL, TALES, Terminal

ATTACKS = [
    "\x1b[2J\x1b[H",
    "\x1b]0;owned\x07",
    "\x1b]52;c;aGk=\x07",
    "\x1b]52;c;aGk=\x1b\\",
    "\x1b]8;;http://x\x1b\\link",
    "\x1b]4;1;red",
    "\x1bP+q544e\x1b\\",
    "\x1b_x\x1b\\",
    "\x1b^x\x1b\\",
    "\x1bXx\x1b\\",
    "\x1b[?2004h",
    "\x1b[21t",
    "\x1b[6n",
    "\x9b31m",
    "\x9d0;owned\x9c",
    "\x90x\x9c",
    "\x1bc",
    "\x1b7\x1b8",
    "\r\x0b\x0c\x08",
    "\x0e\x0f\x7f\x00",
    "\u202eabc\u202c",
]
OURS = re.compile(rb"\r?\x1b\[\??\d+[hlKAm]")  # the spinner's and the faint prompt's


def shown_on(terminal: Terminal, columns: int = 80) -> pyte.Screen:
    screen = pyte.Screen(columns, 24)
    pyte.ByteStream(screen).feed(terminal.output)
    return screen


@pytest.mark.parametrize("at", [1, 2, 3])
def test_attacks_are_shown_and_do_nothing(at: int) -> None:
    chunks = [piece for text in ATTACKS for piece in (text[:at], text[at:])]
    terminal = Terminal(FAKE, "generate", "Once", FAKE_CHUNKS=chunks)
    assert terminal.finish() == 0
    left = OURS.sub(b"", terminal.output).replace(b"\r\n", b"\n")
    assert (
        re.findall(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80\xae", left.strip(b"\r"))
        == []
    )
    assert shown_on(terminal).title == ""
    assert b"^[]52;c;aGk=^G" in terminal.output


@pytest.mark.parametrize(
    "text", ["[/foo]", "[link=http://x]y[/link]", ":smile:", "[bold]", "a\\[b]"]
)
def test_markup_is_text(text: str) -> None:
    terminal = Terminal(FAKE, "generate", "Once ", FAKE_CHUNKS=[text])
    assert terminal.finish() == 0
    assert text.encode() in terminal.output


def test_prompt_file_of_escapes_is_shown_by_the_real_command(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("A \x1b]52;c;aGk=\x07 \u202e [/foo] tale")
    terminal = Terminal(
        REAL, "generate", "-f", str(tmp_path / "p.txt"), *TALES, "--max-new-tokens", "3"
    )
    assert terminal.finish() == 0
    assert rb"A ^[]52;c;aGk=^G \u202e [/foo] tale" in terminal.output
    assert b"\x1b]52" not in terminal.output


def test_prompt_is_faint() -> None:
    terminal = Terminal(FAKE, "generate", "Once")
    terminal.finish()
    assert b"\x1b[2mOnce\x1b[0m there was" in terminal.output


@pytest.mark.parametrize("variables", [{"NO_COLOR": 1}, {"TERM": "dumb"}])
def test_plain_terminals_get_no_styles(variables: dict[str, object]) -> None:
    terminal = Terminal(FAKE, "generate", "Once", **variables)
    terminal.finish()
    assert b"Once there was\r\n" in terminal.output
    assert b"\x1b[2mOnce" not in terminal.output


def test_dumb_terminal_gets_no_escape_at_all() -> None:
    terminal = Terminal(FAKE, "generate", "Once", "-v", TERM="dumb", FAKE_LOADING=0.3)
    terminal.finish()
    assert b"\x1b" not in terminal.output


def test_spinner_is_shown_and_erased() -> None:
    terminal = Terminal(FAKE, "generate", "Once", FAKE_LOADING=0.5)
    assert terminal.finish() == 0
    assert b"loading the model" in terminal.output
    screen = shown_on(terminal)
    assert screen.display[0].strip() == "Once there was"
    assert not screen.cursor.hidden


def test_quiet_shows_no_spinner() -> None:
    terminal = Terminal(FAKE, "generate", "Once", "-q", FAKE_LOADING=0.3)
    terminal.finish()
    assert b"loading" not in terminal.output


def test_sequences_have_headers() -> None:
    terminal = Terminal(FAKE, "generate", "Once", "-n", "2")
    terminal.finish()
    assert b"[1 of 2]" in terminal.output
    assert b"[2 of 2]" in terminal.output


def test_json_is_sanitised_too() -> None:
    terminal = Terminal(FAKE, "generate", "Once", "--json", FAKE_CHUNKS=["\x9b31m"])
    terminal.finish()
    assert b"\xc2\x9b" not in terminal.output


@pytest.mark.parametrize("columns", ["1", "2", "10", "39", "500", "0", "-3", "wide", ""])
def test_any_width_loses_no_character(columns: str) -> None:
    terminal = Terminal(FAKE, "generate", "Once", "-v", COLUMNS=columns, FAKE_LOADING=0.2)
    assert terminal.finish() == 0
    assert b"there was" in terminal.output


@pytest.mark.parametrize("columns", ["1", "10", "0", "wide"])
def test_help_at_any_width(columns: str) -> None:
    terminal = Terminal(FAKE, "generate", "--help", COLUMNS=columns)
    assert terminal.finish() == 0


def test_no_prompt_on_a_terminal_says_how_to_give_one() -> None:
    terminal = Terminal(FAKE, "generate")
    assert terminal.finish() == 2
    assert b"no prompt" in terminal.output


def test_a_note_takes_the_place_of_the_progress_line(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one\n" * 200)
    args = ("batch", str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.jsonl"))
    terminal = Terminal(FAKE, *args, FAKE_PAUSE=0.1)
    terminal.read_until(b"of 200 rows")
    terminal.send(b"\x03")  # no controlling terminal here: it is shown, as every terminal does
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.finish() == -signal.SIGINT
    screen = pyte.Screen(100, 20)
    pyte.ByteStream(screen).feed(terminal.output)
    shown = [line.rstrip() for line in screen.display if line.strip()]
    assert shown == ["gptcli: note: stopped; the same command goes on where it was"]
