"""Names that can be foreseen, in a shared folder: whatever lies there, nobody's file is changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import TALES

Cli = Callable[..., tuple[int, str, str]]
Plant = Callable[[Path, Path], None]
SHORT = (*TALES, "--max-new-tokens", "2")
OUTPUTS = {
    "text": ("generate", "Once", *SHORT, "-o", "{}"),
    "score": ("score", "Once upon", *TALES, "--json", "-o", "{}"),
    "inspect": ("inspect", "text", "Once upon", *TALES, "-o", "{}.html"),
    "summary": ("batch", "{in}", "-o", "-", "--summary", "{}.json", *SHORT),
    "record": ("generate", "Once", *SHORT, "--record", "{}"),
    "batch": ("batch", "{in}", "-o", "{}.jsonl", *SHORT),
    "table": ("batch", "{in}", "-o", "{}.csv", *SHORT),
    "setting": ("config", "set", "top_k", "5", "--config", "{}.toml"),
    "lines": ("summarize", "-f", "{in}", "--lines", "-o", "{}.csv", *SHORT),
}
ENDINGS = ("part", "tmp", "lock", "manifest.json", "manifest.json.part", "rows.jsonl", "new")


def link(path: Path, mine: Path) -> None:
    path.symlink_to(mine)


def hard_link(path: Path, mine: Path) -> None:
    os.link(mine, path)


def pipe(path: Path, mine: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, mine: Path) -> None:
    path.mkdir()


def nowhere(path: Path, mine: Path) -> None:
    path.symlink_to(mine.with_name("made"))


@pytest.mark.parametrize("plant", [link, hard_link, pipe, folder, nowhere])
@pytest.mark.parametrize("name", OUTPUTS)
def test_no_writer_writes_to_what_was_planted(
    tmp_path: Path, main_in: Cli, name: str, plant: Plant
) -> None:
    mine, shared = tmp_path / "mine", tmp_path / "shared"
    shared.mkdir()
    (tmp_path / "in.txt").write_text("One\nTwo\n")
    args = [part.format(shared / "out", **{"in": tmp_path / "in.txt"}) for part in OUTPUTS[name]]
    output = next(Path(part) for part in args if part.startswith(str(shared)))
    mine.write_text("mine")
    for ending in ENDINGS:
        for spelling in (f".{output.name}.{ending}", f"{output.name}.{ending}"):
            plant(shared / spelling, mine)
    plant(shared / f".{output.name}.{os.getpid()}.part", mine)
    code, _, err = main_in(*args)
    assert code in (0, 65, 73, 75), err
    assert err.count("\n") < 6
    assert mine.read_text() == "mine"
    assert not mine.with_name("made").exists()
    assert (code == 0) == output.exists() or name in ("batch", "table"), err


@pytest.mark.parametrize("plant", [link, hard_link, pipe, folder, nowhere])
def test_a_planted_lock_is_refused(tmp_path: Path, main_in: Cli, plant: Plant) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "in.txt").write_text("One\n")
    plant(tmp_path / ".out.jsonl.lock", tmp_path / "mine")
    args = ("batch", str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.jsonl"), *SHORT)
    code, _, err = main_in(*args)
    assert (code, err.count("\n")) == (73, 1), err
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("plant", [link, hard_link, nowhere])
def test_a_download_writes_through_no_link(tmp_path: Path, plant: Plant) -> None:
    from gptcli.checkpoints.hub.transfer import _begin

    mine, part = tmp_path / "mine", tmp_path / "abc.incomplete"
    mine.write_text("mine")
    plant(part, mine)
    _begin(part)
    assert (mine.read_text(), part.read_bytes(), part.is_symlink()) == ("mine", b"", False)
    assert not mine.with_name("made").exists()
