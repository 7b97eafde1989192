"""`gptcli docs`: the list of guides, a guide on a pipe, in a pager, and without one."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path

import pytest
from support.commands import REAL, Terminal

from gptcli.cli.commands import docs
from gptcli.cli.output import pager, render

GUIDES = sorted(docs.FOLDER.glob("*.md"))
GOING_ON = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
print("reading", flush=True)
signal.sigwait([signal.SIGINT])
print("going on")
"""
SHOUTING = "import sys; sys.stdout.write(sys.stdin.read().upper())"


def test_every_guide_is_listed_with_what_it_is_about(main_in) -> None:
    code, out, err = main_in("docs")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == [guide.stem for guide in GUIDES]
    assert "chat         gptcli chat talks with a model, at a terminal or through a pipe\n" in out


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_pipe_gets_the_bytes_of_a_guide(main_in, guide: Path) -> None:
    assert main_in("docs", guide.stem) == (0, guide.read_text(encoding="utf-8"), "")


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("scorin", "Did you mean gptcli docs scoring?"),
        ("Chat", "Did you mean gptcli docs chat?"),
        ("classify", "See gptcli classify --help. gptcli docs lists the guides."),
        ("nonsense", "gptcli docs lists the guides."),
        ("../README", "gptcli docs lists the guides."),
        ("", "gptcli docs lists the guides."),
    ],
)
def test_an_unknown_topic_is_wrong_usage(main_in, topic: str, hint: str) -> None:
    code, out, err = main_in("docs", topic)
    assert (code, out) == (2, "")
    assert err == f"gptcli: error: {topic}: there is no such guide. {hint}\n"


def test_a_broken_configuration_is_no_matter(main_in, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "gptcli").mkdir()
    (tmp_path / "gptcli" / "config.toml").write_text("top_q = 1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main_in("docs", "config")[0] == 0


def test_an_installation_without_guides_says_so(main_in, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(docs, "FOLDER", tmp_path / "docs")
    code, _, err = main_in("docs")
    assert code == 66
    assert "this installation has no guides" in err


def test_a_terminal_gets_a_guide_through_the_pager() -> None:
    shouting = shlex.join([sys.executable, "-c", SHOUTING])
    terminal = Terminal(REAL, "docs", "chat", PAGER=shouting)
    assert terminal.finish() == 0
    assert "GPTCLI CHAT" in terminal.output.decode()
    assert "TALKS WITH A MODEL" in terminal.output.decode()
    assert "|---|" not in terminal.output.decode()


def test_a_pager_that_is_left_early_is_no_failure() -> None:
    terminal = Terminal(REAL, "docs", "performance", PAGER="true")
    assert terminal.finish() == 0
    assert terminal.output == b""


def test_ctrl_c_is_the_pagers() -> None:
    terminal = Terminal(REAL, "docs", "chat", PAGER=shlex.join([sys.executable, "-c", GOING_ON]))
    terminal.read_until(b"reading")
    os.killpg(terminal.process.pid, signal.SIGINT)  # as a terminal does: to both
    assert terminal.finish() == 0
    assert b"going on" in terminal.output


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("cat", b""),
        ("", b""),
        ("/nowhere/pager", b"gptcli: note: PAGER: /nowhere/pager: no such file or directory"),
        ("'", b"gptcli: note: PAGER: no closing quotation"),
    ],
)
def test_without_a_pager_a_guide_is_printed(named: str, said: bytes) -> None:
    terminal = Terminal(REAL, "docs", "completion", PAGER=named)
    assert terminal.finish() == 0
    assert b"completes commands, options and values" in terminal.output
    assert said in terminal.output
    assert (b"gptcli: note" in terminal.output) == bool(said)


def test_a_dumb_terminal_gets_markdown() -> None:
    terminal = Terminal(REAL, "docs", "completion", TERM="dumb", PAGER="false")
    assert terminal.finish() == 0
    assert terminal.output.decode().replace("\r\n", "\n") == (
        docs.FOLDER / "completion.md"
    ).read_text(encoding="utf-8")


def test_less_is_told_what_git_tells_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    program = "import os, sys; open(sys.argv[1], 'w').write(os.environ['LESS'] + sys.stdin.read())"
    monkeypatch.setenv("PAGER", shlex.join([sys.executable, "-c", program, str(seen)]))
    monkeypatch.delenv("LESS", raising=False)
    assert pager.page("text\n")
    assert seen.read_text() == "FRXtext\n"


def test_no_control_character_of_a_guide_reaches_the_terminal() -> None:
    assert "\x1b]0;" not in render.markdown("# A\n\nb \x1b]0;title\x07\n")
    assert "^[]0;title^G" in render.markdown("# A\n\nb \x1b]0;title\x07\n")
