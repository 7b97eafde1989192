"""A process of our own starts again, once, where that gets it large pages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gptcli import hugepages

PROGRAM = """
from pathlib import Path
from gptcli import hugepages
hugepages.SWITCH = Path({switch!r})
hugepages.ask()
environment = Path("/proc/self/environ").read_bytes().split(bytes(1))
print([entry for entry in environment if entry.startswith(b"GLIBC_TUNABLES")])
"""
LIBC = "glibc 2.36"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[object, ...]]:
    """What would be executed, on a system that gives large pages to those who ask."""
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(os, "execve", lambda *args: calls.append(args))
    monkeypatch.setattr(os, "confstr", lambda name: LIBC)
    monkeypatch.setattr(hugepages, "SWITCH", tmp_path / "enabled")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    hugepages.SWITCH.write_text("always [madvise] never\n")
    return calls


def test_the_same_command_is_started_again(started: list[tuple[object, ...]]) -> None:
    hugepages.ask()
    [(program, command, environment)] = started
    assert program == sys.executable
    assert command == [sys.executable, *sys.orig_argv[1:]]
    assert environment == os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0"), ("GPTCLI_HUGEPAGES", "0")],
)
def test_nothing_is_started_where_it_was_decided_before(
    started: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    hugepages.ask()
    assert started == []


@pytest.mark.parametrize("setting", ["[always] madvise never", "always madvise [never]", ""])
def test_nothing_is_started_where_asking_changes_nothing(
    started: list[tuple[object, ...]], setting: str
) -> None:
    hugepages.SWITCH.write_text(setting)
    hugepages.ask()
    hugepages.SWITCH.unlink()
    hugepages.ask()
    assert started == []


@pytest.mark.parametrize("libc", ["glibc 2.31", "musl 1.2", "", None])
def test_nothing_is_started_without_a_recent_glibc(
    started: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch, libc: str | None
) -> None:
    monkeypatch.setattr(os, "confstr", lambda name: libc)
    hugepages.ask()
    assert started == []


def test_a_start_that_fails_is_left(
    started: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "execve", refused)
    hugepages.ask()
    assert started == []


@pytest.mark.skipif(not hugepages._can_be_told(), reason="needs glibc 2.35")
def test_a_real_process_starts_again_and_only_once(tmp_path: Path) -> None:
    switch = tmp_path / "enabled"
    switch.write_text("always [madvise] never")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(switch=str(switch))],
        env=os.environ | {"GLIBC_TUNABLES": "a=1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[b'GLIBC_TUNABLES=a=1:glibc.malloc.hugetlb=1']\n"
