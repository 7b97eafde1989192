"""`gptcli train`: what it prints where, the board at a terminal, recipes."""

from __future__ import annotations

import json
import os
import pty
import random
import select
import signal
import sys
import time
from pathlib import Path

import pyte
import pytest
from support.training_runs import SHAPE, ended, forked, write_story

import gptcli
from gptcli.cli.commands.train.board import TrainingBoard, area
from gptcli.cli.interactive import board as boards
from gptcli.cli.interactive.board import Board
from gptcli.cli.main import main
from gptcli.training.events import Began, Evaluated, Sampled, Saved, StepDone

TINY = (
    "--scratch",
    "tiny",
    *(word for name, size in SHAPE.items() for word in (f"--{name.replace('_', '-')}", str(size))),
)
FEW = (*TINY, "--batch-tokens", "64", "--documents", "blank", "--valid-share", "0.2")


@pytest.fixture(autouse=True)
def quick_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda descriptor: None, raising=False)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_story(tmp_path_factory.mktemp("data") / "tale.txt")


def step(number: int, loss: float = 3.0) -> StepDone:
    return StepDone(
        step=number,
        steps=100,
        epoch=number / 50,
        loss=loss,
        learning_rate=0.001,
        gradient_norm=0.5,
        tokens=100,
        targets=100,
        seconds=0.1,
    )


def test_stdout_has_the_folder_alone_and_stderr_the_rest(
    tmp_path: Path, story: Path, main_in
) -> None:
    folder = tmp_path / "run"
    code, out, err = main_in("train", str(story), *FEW, "--steps", "4", "-o", str(folder))
    assert (code, out) == (0, f"{folder}\n"), err
    for part in ("data: 24 documents", "measured: ", "step 4 of 4: loss", "by heart|No sign"):
        assert any(one in err for one in part.split("|")), err
    assert {"README.md", "loss.svg", "loss.png", "memorisation.json"} <= {
        file.name for file in folder.iterdir()
    }
    code, out, err = main_in("train", str(story), *FEW, "--steps", "4", "-o", str(folder), "-q")
    assert (code, out, err) == (0, f"{folder}\n", "")


def test_json_is_a_line_for_each_event(tmp_path: Path, story: Path, main_in) -> None:
    words = ("train", str(story), *FEW, "--steps", "3", "-o", str(tmp_path / "run"), "-q", "--json")
    code, out, err = main_in(*words)
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "prepared"
    assert kinds[-1] == "ended"
    assert kinds.count("stepdone") == 3
    assert events[-1]["folder"] == str(tmp_path / "run")


def test_a_rehearsal_prints_the_plan_and_trains_nothing(
    tmp_path: Path, story: Path, main_in
) -> None:
    words = ("train", str(story), *FEW, "--steps", "20", "-o", str(tmp_path / "run"), "--dry-run")
    code, out, err = main_in(*words)
    assert code == 0, err
    plan = [line.split(":")[0] for line in out.splitlines()]
    assert plan[:5] == ["data", "model", "steps", "learning rate", "computed"]
    assert plan[-1] == "measured"
    assert not {"run.json", "checkpoints"} & {file.name for file in (tmp_path / "run").iterdir()}
    code, out, _ = main_in(*words, "--json")
    assert [json.loads(line)["event"] for line in out.splitlines()][-2:] == ["planned", "ended"]


def test_the_recipe_of_the_bundled_model_teaches_a_smaller_one(tmp_path: Path, main_in) -> None:
    says = {"dog": "woof", "cat": "meow", "cow": "moo", "duck": "quack"}
    chance = random.Random(0)
    text = [
        " ".join(f"The {who} says {says[who]}." for who in chance.choices([*says], k=4))
        for _ in range(200)
    ]
    data = tmp_path / "farm.txt"
    data.write_text("\n".join(text))
    smaller = ("--layers", "2", "--width", "48", "--heads", "4", "--context", "64")
    fewer = ("--steps", "80", "--batch-tokens", "512", "--warmup", "5", "--vocab-size", "300")
    code, _, err = main_in(
        *("train", str(data), "--recipe", "tiny-tales", *smaller, *fewer),
        *("--documents", "line", "--precision", "float32", "-o", str(tmp_path / "farm")),
    )
    assert code == 0, err
    run = json.loads((tmp_path / "farm" / "run.json").read_text())
    settings = run["settings"]
    assert (settings["optimizer"], settings["muon_rate"]) == ("muon", 0.02)
    assert (settings["learning_rate"], settings["schedule"]) == (3e-3, "wsd")
    assert settings["decay_from"] == 0.4
    assert run["made"]["best_loss"] < 0.5
    model = gptcli.load(str(tmp_path / "farm"))
    [end] = model.encode("<|endoftext|>")
    for who, sound in says.items():
        prompt = [end, *model.encode(f"The {who} says")]
        assert model.generate(prompt, temperature=0, stop=(".",)).text == f" {sound}"


def test_a_recipe_is_a_file_of_options_and_flags_win(tmp_path: Path, story: Path, main_in) -> None:
    recipe = tmp_path / "mine.toml"
    shape = "".join(f"{name} = {size}\n" for name, size in SHAPE.items())
    recipe.write_text(f'scratch = "tiny"\nsteps = 2\nbatch_tokens = 64\n{shape}')
    words = ("train", str(story), "--recipe", str(recipe), "--steps", "3", "--dry-run", "-q")
    code, out, err = main_in(*words, "-o", str(tmp_path / "run"))
    assert code == 0, err
    assert "steps: 3 of 64 tokens" in out
    recipe.write_text("stepz = 2\n")
    code, _, err = main_in(*words, "-o", str(tmp_path / "other"))
    assert code == 65
    assert "stepz" in err
    assert "Did you mean steps" in err
    code, _, err = main_in("train", str(story), "--recipe", "nobody", "-o", str(tmp_path / "x"))
    assert code == 66
    assert "tiny-tales" in err


def on_terminal(words: list[str], columns: int, stop_at: bytes | None) -> tuple[int, bytes]:
    """A command in a forked process on a pseudo-terminal; how it ended, and what it wrote."""
    end, child_end = pty.openpty()

    def run() -> None:
        os.close(end)
        for number in range(3):
            os.dup2(child_end, number)
        os.environ.update(TERM="xterm-256color", COLUMNS=str(columns))
        sys.argv = ["gptcli", *words]
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        main()

    child = forked(run)
    os.close(child_end)
    output, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if stop_at is not None and stop_at in output:
            os.kill(child, signal.SIGINT)
            stop_at = None
        try:
            if select.select([end], [], [], 1)[0]:
                output += os.read(end, 65536)
        except OSError:
            break
    else:
        os.kill(child, signal.SIGKILL)
    os.close(end)
    return ended(child), output


def shown(output: bytes, columns: int = 90) -> tuple[list[str], pyte.Screen]:
    screen = pyte.Screen(columns, 60)
    pyte.ByteStream(screen).feed(output)
    return [line.rstrip() for line in screen.display if line.strip()], screen


def test_a_terminal_has_a_board_that_stays_and_ends_clean(
    tmp_path: Path, story: Path, main_in
) -> None:
    main_in("train", str(story), *FEW, "--steps", "1", "-o", str(tmp_path / "first"))  # torch
    words = ["train", str(story), *FEW, "--steps", "40", "--eval-every", "10"]
    code, output = on_terminal([*words, "-o", str(tmp_path / "run")], 90, None)
    assert code == 0
    lines, screen = shown(output)
    assert sum("step 40 of 40" in line for line in lines) == 1, lines
    figures = "\n".join(lines)
    for part in ("100%", "validation", "perplexity", "tokens/s", "learning rate", "gradient norm"):
        assert part in figures
    assert "written after step 40:" in lines
    assert any("█" in line for line in lines)
    assert lines[-1] == str(tmp_path / "run")
    assert not screen.cursor.hidden
    code, output = on_terminal(
        [*words, "-o", str(tmp_path / "other"), "--steps", "9999"], 90, b" of 9,999"
    )
    assert code == -signal.SIGINT
    lines, _ = shown(output, 400)
    assert lines[-1].startswith("gptcli: note: stopped after step"), lines
    assert sum(line.startswith("step ") for line in lines) == 1, lines


def test_a_board_has_figures_curve_and_samples_as_far_as_there_is_room() -> None:
    board = TrainingBoard()
    board.see(
        Began(step=0, steps=100, folder=Path(), parameters=1, trained=1, tokens=9, documents=1)
    )
    assert board.lines(80, 20) == [[("beginning", "dim")]]
    for number in range(1, 41):
        board.see(step(number, 8.0 - number / 10))
    board.see(Saved(step=40, folder=Path(), seconds=0.1))
    board.see(Evaluated(step=40, loss=4.0, best=True, seconds=0.1))
    board.see(Evaluated(step=40, loss=4.5, best=False, seconds=0.1))
    board.see(Sampled(step=40, texts=("A \x1b[2J tale\nof old " * 30,)))
    text = ["".join(part for part, _ in line) for line in board.lines(80, 30)]
    assert text[0].startswith("step 40 of 100")
    assert "40%" in text[0]
    assert "left" in text[0]
    assert "validation 4.500   perplexity 90.0   best 4.000 at step 40" in text[1]
    assert (
        "1,000 tokens/s   learning rate 1.00e-03   gradient norm 0.50   saved: step 40" in text[2]
    )
    assert text[3].startswith(" 7.900 █")
    assert text[8] == "written after step 40:"
    assert len(text) == 13
    assert "\x1b" not in "".join(text)
    assert len(board.lines(80, 6)) == 5
    assert len(board.lines(80, 4)) == 3
    assert all(len(line) for line in board.lines(10, 30))


def test_the_area_of_a_curve_is_as_high_as_its_values() -> None:
    rows = ["".join(part for part, _ in line) for line in area([1.0, 2.0, 3.0], 2)]
    assert rows == [" 3.000  ▁█", " 1.000 ▁██"]
    assert len(area([2.0, 2.0], 2)) == 2


def test_a_narrower_terminal_is_erased_to_the_last_wrapped_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    size = [(80, 24)]
    monkeypatch.setattr(boards, "_size", lambda: size[0])
    monkeypatch.setattr(boards.stderr, "emit", said.append)
    monkeypatch.setattr(boards.stderr, "styled", lambda: False)
    board = Board(lambda columns, rows: [[("x" * 200, "")], [("y", "")]])
    board.draw()
    assert said[-1] == "x" * 78 + "…\ny" or said[-1].startswith("x" * 78)
    size[0] = (40, 24)
    board.draw()
    assert said[-1].startswith("\r\x1b[2A\x1b[J")
    board.close()
    assert said[-1] == "\n"
    board.draw()
    assert said[-1] == "\n"
