"""Ctrl-C and SIGTERM: the command saves, says how to go on, and ends by the signal."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from support.training_runs import SHAPE, asked, ended, files_of, forked, ran

from gptcli.cli.main import main

pytestmark = pytest.mark.usefixtures("quick_flushes")


def command(story: Path, folder: Path, *more: str) -> list[str]:
    """The command line of the run that `asked` describes."""
    shape = [word for name, size in SHAPE.items() for word in (f"--{name}", str(size))]
    return [
        *("train", str(story), "--scratch", "tiny", *shape, "--batch-tokens", "64"),
        *("--documents", "blank", "--valid-share", "0.2", "--precision", "float32"),
        *("-o", str(folder), *more),
    ]


def started(words: list[str], said: Path) -> int:
    """A command in a forked process, with what it says in a file; gives its process id."""

    def run() -> None:
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 2)
        sys.argv = ["gptcli", *words]
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        main()

    return forked(run)


def wait_for(file: Path, text: bytes) -> None:
    deadline = time.monotonic() + 60
    while not file.exists() or text not in file.read_bytes():
        assert time.monotonic() < deadline, file.read_bytes()
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_command_that_is_said_goes_on(
    tmp_path: Path, story: Path, number: int
) -> None:
    ran(asked(story, tmp_path / "whole", steps=4, eval_every=2))  # torch is imported here
    said, log = tmp_path / "said", tmp_path / "run" / "log.jsonl"
    words = command(story, tmp_path / "run", "--steps", "100000", "--force")
    child = started(words, said)
    wait_for(log, b'"step": 12,')
    os.kill(child, number)
    assert ended(child) == -number
    lines = said.read_text().splitlines()
    assert "saving; a second signal ends it at once" in lines[-2]
    stopped = lines[-1].removeprefix("gptcli: note: ")
    last = max((tmp_path / "run" / "checkpoints").iterdir())
    step = int(last.name.removeprefix("step-"))
    assert stopped == (
        f"stopped after step {step}, which is saved; go on with: gptcli {' '.join(words[:-1])}"
    )
    child = started(words[:-1], said)
    wait_for(said, f"going on after step {step};".encode())
    wait_for(log, f'"step": {step + 1},'.encode())
    os.kill(child, signal.SIGKILL)
    ended(child)


def test_a_second_signal_ends_it_at_once_and_harms_nothing(tmp_path: Path, story: Path) -> None:
    ran(asked(story, tmp_path / "whole", steps=40))
    said, folder = tmp_path / "said", tmp_path / "run"
    words = command(story, folder, "--steps", "40", "--eval-every", "3")
    child = started(words, said)
    wait_for(folder / "log.jsonl", b'"step": 4,')
    os.kill(child, signal.SIGINT)
    os.kill(child, signal.SIGTERM)
    assert ended(child) in (-signal.SIGINT, -signal.SIGTERM)
    ran(asked(story, folder, steps=40))
    weights = "model.safetensors"
    assert dict(files_of(folder))[weights] == dict(files_of(tmp_path / "whole"))[weights]


def test_a_run_that_diverged_is_an_error_with_a_way_out(
    tmp_path: Path, story: Path, main_in: object
) -> None:
    words = command(story, tmp_path / "run", "--steps", "60", "--lr", "100", "--clip", "0")
    for _ in range(2):
        code, out, err = main_in(*words, "-q")  # type: ignore[operator]
        assert (code, out) == (65, "")
        assert "training diverged at step" in err
        assert "Lower --learning-rate (it is 100) and start over with --force" in err


def test_the_command_prints_the_folder_and_then_that_it_had_ended(
    tmp_path: Path, story: Path, main_in: object
) -> None:
    words = command(story, tmp_path / "run", "--steps", "4")
    code, out, err = main_in(*words)  # type: ignore[operator]
    assert (code, out) == (0, f"{tmp_path / 'run'}\n"), err
    assert "all steps are done (step 4); the model is that of step" in err
    code, out, err = main_in(*words)  # type: ignore[operator]
    assert (code, out) == (0, f"{tmp_path / 'run'}\n")
    assert "it had ended before" in err
    code, _, err = main_in(*command(story, tmp_path / "run", "--steps", "5"))  # type: ignore[operator]
    assert code == 65
    assert "--steps was 4 and is 5" in err
