"""`gptcli generate` in the hands of those who write: loops of the shell, long texts, an editor."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import FAKE, REAL, TALES, Terminal, environment, run
from support.fake_engine import FakeEngine

Cli = Callable[..., tuple[int, str, str]]
LOOP = 'while read -r line; do "$@" "$line"; done < lines.txt'


def looped(folder: Path, *args: str) -> list[str]:
    """What a loop of the shell over three lines prints."""
    (folder / "lines.txt").write_text("one\ntwo\nthree\n")
    command = ["bash", "-c", LOOP, "-", *FAKE, *args]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, check=True)
    return done.stdout.decode().splitlines()


def test_a_loop_of_the_shell_has_all_its_lines_with_no_stdin(tmp_path: Path) -> None:
    assert looped(tmp_path, "generate", "--no-stdin") == [
        f"{word} there was" for word in ("one", "two", "three")
    ]


def test_a_task_in_a_loop_leaves_the_lines_alone(tmp_path: Path) -> None:
    assert len(looped(tmp_path, "answer", "--no-stdin")) == 3


def test_without_it_what_was_swallowed_is_told(cli_err: Callable[..., str]) -> None:
    err = cli_err("generate", "one", stdin=b"two\nthree\n")
    assert err == (
        "gptcli: note: 2 lines of standard input read beside the argument;"
        " --no-stdin leaves it alone\n"
    )
    assert cli_err("generate", "-q", "one", stdin=b"two\n") == ""
    assert "1 line of standard input" in cli_err("answer", "Who?", stdin=b"two\n")


@pytest.fixture
def cli_err(main_in: Cli) -> Callable[..., str]:
    return lambda *args, stdin: main_in(*args, engine=FakeEngine(), stdin=stdin)[2]


def test_no_stdin_can_be_set_for_good(main_in: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTCLI_NO_STDIN", "1")
    assert main_in("generate", "one", engine=FakeEngine(), stdin=b"two\n")[1:] == (
        "one there was\n",
        "",
    )


@pytest.mark.parametrize("args", [("--lines",), ("-",), ("-f", "-"), ()])
def test_no_stdin_without_another_input_is_2(main_in: Cli, args: tuple[str, ...]) -> None:
    found = main_in("summarize", "--no-stdin", *args, engine=FakeEngine(), stdin=b"two\n")
    assert found[:2] == (2, "")


# Beyond the context


def test_a_text_beyond_the_context_is_the_same_in_every_shape(tmp_path: Path) -> None:
    args = ("generate", "Once upon a time", *TALES, "--seed", "3", "--max-new-tokens", "600")
    text, document = run(REAL, *args), run(REAL, *args, "--json")
    found = json.loads(document.stdout)
    assert text.stdout.decode() == f"Once upon a time{found['text']}\n"
    assert found["usage"] == {
        "prompt_tokens": 4,
        "completion_tokens": 600,
        "total_tokens": 604,
    }
    assert text.stderr.decode().count("its beginning is no longer seen") == 1
    (tmp_path / "story.txt").write_bytes(text.stdout)
    more = ("generate", "-f", str(tmp_path / "story.txt"), *TALES, "--max-new-tokens", "5")
    assert run(REAL, *more).returncode == 65
    again = run(REAL, *more, "--continue")
    assert (again.returncode, again.stdout.startswith(text.stdout.rstrip(b"\n"))) == (0, True)


@pytest.mark.parametrize(
    "args",
    [("-n", "2"), ("--num-beams", "2"), ("--max-length", "9"), ("--logprobs", "1", "--json")],
)
def test_continue_has_settings_that_it_does_not_go_with(
    main_in: Cli, args: tuple[str, ...]
) -> None:
    code, out, err = main_in("generate", "Hi", "--continue", *args, engine=FakeEngine())
    assert (code, out) == (2, "")
    assert "--continue: does not go with" in err


# The editor


def test_a_prompt_is_written_in_the_editor(tmp_path: Path) -> None:
    (tmp_path / "begun.txt").write_text("Once\n")
    editor = "sed -i s/Once/Twice/"
    for args in (("Once",), ("-f", str(tmp_path / "begun.txt"))):
        terminal = Terminal(FAKE, "generate", "--edit", *args, EDITOR=editor, VISUAL="")
        assert terminal.finish() == 0
        assert b"Twice" in terminal.output


def test_an_editor_that_leaves_nothing_is_no_prompt() -> None:
    terminal = Terminal(FAKE, "generate", "--edit", EDITOR="true", VISUAL="")
    assert terminal.finish() == 2
    assert b"empty prompt" in terminal.output


def test_what_was_written_in_the_editor_is_kept_if_the_run_fails(tmp_path: Path) -> None:
    args = ("generate", "Once", "--edit", "-m", "nowhere/at-all", "--offline")
    terminal = Terminal(
        REAL, *args, EDITOR="sed -i s/Once/Twice/", VISUAL="", TMPDIR=tmp_path, HF_HOME=tmp_path
    )
    assert terminal.finish() == 69
    [file] = tmp_path.glob("gptcli-prompt-*.txt")
    assert file.read_text() == "Twice\n"


def test_the_editor_needs_a_terminal(main_in: Cli) -> None:
    assert main_in("generate", "--edit", engine=FakeEngine())[0] == 2


# A record of everything


def test_each_run_has_its_own_record_in_a_folder(
    main_in: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "config.toml"
    assert main_in("config", "set", "record", "~/runs/", "--config", str(config))[0] == 0
    for command in ("generate", "summarize", "generate"):
        assert main_in(command, "Hi", "--config", str(config), engine=FakeEngine())[0] == 0
    files = sorted((tmp_path / "runs").iterdir())
    assert [file.stem.rpartition("-")[2] for file in files] == [
        *("generate", "summarize", "generate"),
    ]
    assert all(len(file.read_text().splitlines()) == 2 for file in files)
    assert os.stat(tmp_path / "runs").st_mode & 0o777 == 0o700  # noqa: PTH116


def test_a_folder_of_records_that_cannot_be_made_is_73(main_in: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = main_in("generate", "Hi", "--record", f"{tmp_path}/file/", engine=FakeEngine())
    assert found[:2] == (73, "")
