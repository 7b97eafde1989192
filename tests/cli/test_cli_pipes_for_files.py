"""A named pipe where a file is meant: one line, a code, and no waiting, in every command."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from support.commands import REAL, ROOT, TALES, environment

LIMIT_SECONDS = 60  # of a command, on a machine that does much else
TINY = ROOT / "gptcli" / "bundled" / "tiny-tales"
SHORT = (*TALES, "--max-new-tokens", "2")


def run(folder: Path, *args: str) -> tuple[int, str]:
    found = subprocess.run(
        [*REAL, *args],
        cwd=folder,
        env=environment(
            XDG_CONFIG_HOME=folder / "config", HF_HOME=folder / "hf", HF_HUB_OFFLINE=1, HOME=folder
        ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_SECONDS,
    )
    return found.returncode, found.stderr.decode()


@pytest.mark.parametrize(
    ("pipe", "args", "code"),
    [
        ("c.toml", ("generate", *SHORT, "--config", "c.toml", "hi"), 66),
        ("config/gptcli/config.toml", ("config", "show"), 66),
        ("in/b.txt", ("batch", *SHORT, "in", "-o", "o.jsonl"), 66),
        ("o.jsonl", ("batch", *SHORT, "in", "-o", "o.jsonl"), 73),
        (".o.jsonl.manifest.json", ("batch", *SHORT, "in", "-o", "o.jsonl"), 65),
        ("o.txt", ("generate", *SHORT, "hi", "-o", "o.txt"), 73),
        ("r.jsonl", ("generate", *SHORT, "hi", "--record", "r.jsonl"), 73),
        ("r.jsonl", ("replay", "r.jsonl"), 66),
        ("hf/hub/models--a--b/refs/main", ("generate", "--offline", "-m", "a/b", "hi"), 69),
        (".bashrc", ("--install-completion", "bash"), 73),
        ("m/tokenizer.json", ("batch", "-m", "./m", "in", "-o", "o.jsonl"), 65),
    ],
)
def test_a_named_pipe_in_place_of_a_file_is_refused(
    tmp_path: Path, pipe: str, args: tuple[str, ...], code: int
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("hi")
    if pipe.startswith("m/"):
        shutil.copytree(TINY, tmp_path / "m")
        (tmp_path / pipe).unlink()
    (tmp_path / pipe).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / pipe)
    assert_refused(tmp_path, args, code)


@pytest.mark.parametrize("make", ["folder", "link", "loop"])
def test_a_manifest_that_is_a_folder_or_a_link_is_refused(tmp_path: Path, make: str) -> None:
    (tmp_path / "a.txt").write_text("hi")
    manifest = tmp_path / ".o.jsonl.manifest.json"
    if make == "folder":
        manifest.mkdir()
    else:
        manifest.symlink_to(manifest.name if make == "loop" else "a.txt")
    assert_refused(tmp_path, ("batch", *SHORT, "a.txt", "-o", "o.jsonl"), 65)


def assert_refused(folder: Path, args: tuple[str, ...], code: int) -> None:
    found, said = run(folder, *args)
    assert (found, said.count("\n"), said[:14]) == (code, 1, "gptcli: error:"), said
    assert "internal error" not in said


def test_process_substitution_works_where_a_file_is_read_or_written_once(tmp_path: Path) -> None:
    script = f"""gptcli() {{ {shlex.join(REAL)} "$@" {shlex.join((*SHORT, "--seed", "1"))}; }}
    gptcli generate --config <(echo 'echo = false') -f <(printf hi) -o /dev/stdout
    gptcli batch <(printf hi) -q -o >(cat)"""
    found = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment(XDG_CONFIG_HOME=tmp_path / "config"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=2 * LIMIT_SECONDS,
    )
    assert found.returncode == 0, found.stderr
    text, row = found.stdout.decode().split("\n")[:2]
    assert json.loads(row)["text"] == text


def test_a_value_that_is_not_utf8_is_not_put_into_the_configuration(tmp_path: Path) -> None:
    name = os.fsdecode(b"m\xff")
    assert_refused(tmp_path, ("config", "set", "model", name), 2)
    assert not (tmp_path / "config" / "gptcli" / "config.toml").exists()
