"""`gptcli models pull`, as a user runs it, against a Hub that runs in the test."""

from __future__ import annotations

import json
import os
import signal
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.commands import REAL, Terminal, run, start
from support.fake_hub import COMMIT, FakeHub, point_at

Cli = Callable[..., tuple[int, str, str]]
REPO = "someone/model"
WEIGHTS = "model.safetensors"
FILES = {
    "config.json": b'{"model_type": "gpt2"}',
    "tokenizer.json": b"{}",
    WEIGHTS: bytes(range(256)) * 8000,
    "pytorch_model.bin": b"never",
}
NEEDED = ["config.json", "tokenizer.json", WEIGHTS]
SIZE = sum(len(FILES[name]) for name in NEEDED)
OTHER = "f" * 40


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub, for this process and for others, and an empty cache."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with FakeHub(REPO, dict(FILES)) as hub:
        point_at(hub.url, monkeypatch)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the model is once it was pulled."""
    return tmp_path / "home" / "hub" / "models--someone--model" / "snapshots" / COMMIT


def is_right(folder: Path) -> bool:
    return all((folder / name).read_bytes() == FILES[name] for name in NEEDED)


# --- what it says


def test_the_folder_is_printed_and_what_was_fetched_is_said(
    fake: FakeHub, main_in: Cli, folder: Path
) -> None:
    code, out, err = main_in("models", "pull", REPO)
    assert (code, out) == (0, f"{folder}\n")
    assert (
        err == f"gptcli: note: fetched {REPO} at {COMMIT[:12]}: 3 files, 2.0 MB over the network\n"
    )
    assert is_right(folder)
    assert fake.fetched() == set(NEEDED)


def test_json_has_it_all(fake: FakeHub, main_in: Cli, folder: Path) -> None:
    code, out, err = main_in("models", "pull", REPO, "--json", "-q")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "name": REPO,
        "revision": COMMIT,
        "folder": str(folder),
        "files": NEEDED,
        "bytes_fetched": SIZE,
    }


def test_a_model_that_is_there_is_not_fetched_again(
    fake: FakeHub, main_in: Cli, folder: Path
) -> None:
    main_in("models", "pull", REPO)
    before = len(fake.content())
    code, out, err = main_in("models", "pull", REPO)
    assert (code, out) == (0, f"{folder}\n")
    assert err == f"gptcli: note: already here: {REPO} at {COMMIT[:12]}, 3 files\n"
    assert len(fake.content()) == before


def test_a_branch_that_moved_is_followed(fake: FakeHub, main_in: Cli, folder: Path) -> None:
    main_in("models", "pull", REPO, "-q")
    fake.commit, fake.files["tokenizer.json"] = OTHER, b'{"new": 1}'
    code, out, err = main_in("models", "pull", REPO)
    assert (code, out) == (0, f"{folder.with_name(OTHER)}\n")
    assert "10 bytes" in err
    assert is_right(folder)


def test_a_revision_can_be_named(fake: FakeHub, main_in: Cli, folder: Path) -> None:
    assert main_in("models", "pull", REPO, "--revision", "v1", "-q")[:2] == (0, f"{folder}\n")
    assert any(path.endswith("/revision/v1") for _, path, _ in fake.seen)
    assert (folder.parents[1] / "refs" / "v1").read_text() == COMMIT


def test_an_alias_is_its_model(fake: FakeHub, main_in: Cli) -> None:
    fake.repo_id = "distilbert/distilgpt2"
    code, out, _ = main_in("models", "pull", "distil", "--json")
    assert (code, json.loads(out)["name"]) == (0, "distilbert/distilgpt2")


def test_a_folder_of_the_same_name_is_mentioned(
    fake: FakeHub, main_in: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / REPO).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    code, _, err = main_in("models", "pull", REPO)
    assert code == 0
    assert f"-m {REPO} means the folder" in err


# --- what it refuses


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tiny-tales", "part of gptcli"),
        ("./model", "a folder is not on the Hub"),
        ("~/model", "a folder is not on the Hub"),
        ("/model", "a folder is not on the Hub"),
        ("a/b/c", "a folder is not on the Hub"),
        ("a b", "not a model name"),
        ("", "not a model name"),
        ("..", "a folder is not on the Hub"),
        ("x\x1b]52;c;aGk=\x07", "not a model name"),
        ("http://127.0.0.1/x", "a folder is not on the Hub"),
    ],
)
def test_what_is_not_a_model_of_the_hub_is_2(
    fake: FakeHub, main_in: Cli, name: str, says: str
) -> None:
    code, out, err = main_in("models", "pull", name)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert fake.seen == []


def test_a_bad_revision_is_2(fake: FakeHub, main_in: Cli) -> None:
    assert main_in("models", "pull", REPO, "--revision", "../x")[0] == 2


@pytest.mark.parametrize("way", ["--offline", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_is_69(
    fake: FakeHub, main_in: Cli, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    flags = [way] if way.startswith("-") else []
    if not flags:
        monkeypatch.setenv(way, "1")
    code, out, err = main_in("models", "pull", REPO, *flags)
    assert (code, out) == (69, "")
    assert "offline" in err
    assert fake.seen == []


def test_only_pickled_weights_are_65(fake: FakeHub, main_in: Cli) -> None:
    del fake.files[WEIGHTS]
    code, _, err = main_in("models", "pull", REPO)
    assert code == 65
    assert "no model.safetensors in the repository" in err


def test_a_failed_download_is_69_and_one_line(fake: FakeHub) -> None:
    fake.damaged[WEIGHTS] = 9
    done = run(REAL, "models", "pull", REPO)
    assert (done.returncode, done.stdout) == (69, b"")
    (line,) = done.stderr.decode().splitlines()
    assert "model.safetensors failed (it arrived damaged" in line


# --- processes


def test_a_bar_is_shown_on_a_terminal(fake: FakeHub, folder: Path) -> None:
    fake.pause, fake.piece = 0.02, 2**17
    terminal = Terminal(REAL, "models", "pull", REPO)
    termios.tcsetwinsize(terminal.end, (24, 80))
    assert terminal.finish() == 0
    shown = terminal.output.decode()
    assert "100%" in shown
    assert REPO in shown
    assert shown.rstrip().endswith("over the network")


def test_quiet_shows_nothing_but_the_folder_on_a_terminal(fake: FakeHub, folder: Path) -> None:
    terminal = Terminal(REAL, "models", "pull", REPO, "-q")
    assert terminal.finish() == 0
    assert terminal.output.decode() == f"{folder}\r\n"


def test_two_at_once_fetch_it_once_and_both_have_it(fake: FakeHub, folder: Path) -> None:
    fake.pause = 0.01
    both = [start(REAL, "models", "pull", REPO) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out.decode()) == (0, f"{folder}\n"), err
    assert is_right(folder)
    assert sorted(path.rpartition("/")[2] for _, path, _ in fake.content()) == sorted(NEEDED)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_while_the_hub_is_silent(
    fake: FakeHub, folder: Path, number: signal.Signals
) -> None:
    fake.hangs[WEIGHTS] = 500_000
    process = start(REAL, "models", "pull", REPO)
    # What was sent may still be on its way, and nothing of it kept.
    parts = folder.parents[1] / "blobs"
    wait_for(lambda: any(part.stat().st_size > 100_000 for part in parts.glob("*.incomplete")))
    begun = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 2
    assert (process.returncode, out, err) == (-number, b"", b"")
    fake.hangs.clear()
    assert run(REAL, "models", "pull", REPO).returncode == 0
    assert is_right(folder)
    (again,) = [range_ for _, path, range_ in fake.content()[-1:] if path.endswith(WEIGHTS)]
    assert again.startswith("bytes=")


@pytest.mark.parametrize("without", [True, False])
def test_hf_xet_makes_no_difference(fake: FakeHub, folder: Path, without: bool) -> None:
    """It would not come over this server at all."""
    changes = {"HF_HUB_DISABLE_XET": "1"} if without else {}
    assert run(REAL, "models", "pull", REPO, **changes).returncode == 0
    assert fake.fetched() == set(NEEDED)


def test_the_file_of_an_umask_can_be_read_by_others(
    fake: FakeHub, main_in: Cli, folder: Path
) -> None:
    before = os.umask(0o022)
    try:
        main_in("models", "pull", REPO)
    finally:
        os.umask(before)
    assert (folder / WEIGHTS).stat().st_mode & 0o777 == 0o644
