"""Mistyped command lines: each error names what is meant, and a command line that works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import environment

from gptcli.cli.main import main

TALE = 'description = "A tale."\nprompt = "Tell of {input}."\n'


@pytest.fixture(autouse=True)
def _task_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "config" / "gptcli" / "tasks"
    folder.mkdir(parents=True)
    (folder / "tale.toml").write_text(TALE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def told(capfd: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as leaving:
        main(args)
    assert leaving.value.code == 2
    out, err = capfd.readouterr()
    assert out == ""
    return err


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        # options before the command
        (["-m", "gpt2", "generate", "a b"], 'gptcli generate "a b" -m gpt2'),
        (["--json", "score", "x"], "gptcli score x --json"),
        (["-m", "gpt2"], 'gptcli generate "Once upon a time" -m gpt2'),
        (["-V"], "gptcli --version"),
        (["-v"], "gptcli --version"),
        (["--hepl"], "Did you mean --help?"),
        # commands of other programs, and of our groups
        (["version"], "gptcli --version"),
        (["help"], "gptcli --help"),
        (["help", "score"], "gptcli score --help"),
        (["pull", "gpt2"], "gptcli models pull gpt2"),
        (["rm", "gpt2"], "gptcli models rm gpt2"),
        (["list"], "gptcli models list"),
        (["verify", "gpt2"], "gptcli models verify gpt2"),
        (["attention", "x"], "gptcli inspect attention x"),
        (["tokenize", "x"], "gptcli inspect tokens x"),
        (["perplexity", "x y"], 'gptcli score "x y"'),
        (["ask", "Why?"], "gptcli answer 'Why?'"),
        (["tale", "a fox"], 'gptcli run tale "a fox"'),
        (["tael", "a fox"], 'gptcli run tale "a fox"'),
        (["genrate", "x"], "Did you mean 'generate'?"),
        (["summarise", "x"], "Did you mean 'summarize'?"),
        (["Once upon a time"], 'gptcli generate "Once upon a time"'),
        (["Once", "upon"], 'gptcli generate "Once upon"'),
        (["-"], "gptcli generate -"),
        # commands inside a group
        (["models", "ls"], "gptcli models list"),
        (["models", "remove", "gpt2"], "gptcli models rm gpt2"),
        (["models", "download", "gpt2"], "gptcli models pull gpt2"),
        (["models", "gpt2"], "gptcli models info gpt2"),
        (["models", "list", "gpt2"], "gptcli models info gpt2"),
        (["tasks", "list", "tale"], "gptcli tasks show tale"),
        (["tasks", "tale"], "gptcli tasks show tale"),
        (["config", "list"], "gptcli config show"),
        (["config", "top_p"], "gptcli config get top_p"),
        (["config", "top_p", "1"], "gptcli config set top_p 1"),
        (["config", "show", "top_p"], "gptcli config get top_p"),
        (["cache", "rm"], "gptcli cache clear"),
        (["inspect", "atention", "x"], "gptcli inspect attention x"),
        (["inspect", "Once", "upon"], 'gptcli inspect "Once upon"'),
        # arguments
        (["generate", "Once", "upon", "a"], 'gptcli generate "Once upon a"'),
        (["translate", "Hi", "de"], "Did you mean --to de?"),
        (["inspect", "tokens", "a", "b"], 'gptcli inspect tokens "a b"'),
        (["run", "tale", "a", "fox"], 'gptcli run tale "a fox"'),
        (["docs", "a", "b"], "Leave it out. See gptcli docs --help."),
        (["extract", "x", "--labels", "a"], "gptcli classify has it."),
        (["doctor", "x"], "See gptcli doctor --help."),
        (["replay"], "RECORD: it is missing."),
        # options
        (["generate", "--prompt", "a b"], 'gptcli generate "a b"'),
        (["generate", "-p", "a b"], 'gptcli generate "a b"'),
        (["generate", "--prompt=a b"], 'gptcli generate "a b"'),
        (["score", "--text", "a b"], 'gptcli score "a b"'),
        (["generate", "x", "--n", "2"], "Did you mean -n 2?"),
        (["generate", "x", "--num-samples", "2"], "Did you mean -n 2?"),
        (["generate", "x", "--tokens", "5"], "Did you mean --max-new-tokens 5?"),
        (["generate", "x", "--out", "f"], "Did you mean --output?"),
        (["generate", "x", "--verbos"], "Did you mean --verbose?"),
        (["generate", "x", "--input", "f.txt"], "Did you mean --file f.txt?"),
        (["generate", "x", "--gpu"], "Did you mean --device cuda?"),
        (["generate", "x", "--no-color"], "--color never"),
        (["translate", "x", "--lang", "de"], "Did you mean --to de?"),
        (["generate", "x", "--column", "y"], "gptcli batch"),
        (["generate", "x", "--labels", "a,b"], "gptcli classify has it."),
        (["generate", "x", "-t"], "See gptcli generate --help."),
        # values
        (["generate", "x", "-t", "high"], "'high' is not a number. Give from 0 to 100."),
        (["generate", "x", "--top-k", "2.5"], "'2.5' is not a whole number. Give 0 or more."),
        (["generate", "x", "--device", "gpu"], "Did you mean cuda?"),
        (["generate", "x", "--dtype", "fp16"], "Did you mean float16?"),
        (["generate", "x", "--format", "jsn"], "Did you mean json?"),
    ],
)
def test_the_hint_is_a_way_that_works(
    capfd: pytest.CaptureFixture[str], args: list[str], hint: str
) -> None:
    assert hint in told(capfd, *args)


@pytest.mark.parametrize(
    "args", [["x" * 500], ["generate", "--" + "x" * 500], ["tasks", "y" * 500]]
)
def test_a_long_word_is_not_repeated_whole(
    capfd: pytest.CaptureFixture[str], args: list[str]
) -> None:
    assert len(told(capfd, *args)) < 350


def test_a_view_that_is_mistyped_is_read_as_a_text_and_said() -> None:
    command = [sys.executable, "-m", "gptcli", "inspect", "atention", "-m", "tiny-tales"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
    assert "for the view: gptcli inspect attention TEXT" in done.stderr


def test_colours_of_a_drawing_can_be_asked_for_on_a_pipe() -> None:
    def drawn(*more: str, **variables: object) -> bool:
        command = [sys.executable, "-m", "gptcli", "inspect", "tokens", "A fox"]
        command += ["-m", "tiny-tales", *more]
        env = environment(**variables)
        return b"\x1b[" in subprocess.run(command, capture_output=True, env=env, check=True).stdout

    assert drawn("--color", "always")
    assert drawn("--colour=always", NO_COLOR=1)
    assert drawn(FORCE_COLOR=1)
    assert not drawn(FORCE_COLOR=0)
    assert not drawn("--color", "never", FORCE_COLOR=1)
    assert not drawn()


def test_help_on_a_pipe_is_plain() -> None:
    command = [sys.executable, "-m", "gptcli", "generate", "--help"]
    done = subprocess.run(command, capture_output=True, env=environment(), check=True)
    assert b"\x1b" not in done.stdout
