"""Digests that are kept: read once, read again after any change, never taken for another's."""

from __future__ import annotations

import hashlib
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gptcli.checkpoints.integrity import digests
from gptcli.checkpoints.integrity.digests import digest
from gptcli.errors import BadModel, MissingInput

SETTLED = digests.TICK / digests.SECOND + 0.02  # seconds


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of our own, and a system where all is on one disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mounts = tmp_path / "mounts"
    mounts.write_text("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
    monkeypatch.setattr(digests, "MOUNTS", mounts)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that has not changed for a while."""
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1000)
    time.sleep(SETTLED)
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    found: list[str] = []
    real = digests._read

    def reading(path: Path):
        found.append(path.name)
        return real(path)

    monkeypatch.setattr(digests, "_read", reading)
    return found


def true(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_read_once(file: Path, reads: list[str]) -> None:
    assert [digest(file) for _ in range(3)] == [true(file)] * 3
    assert reads == ["file"]


def write_and_set_the_time_back(path: Path) -> None:
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def write_in_place(path: Path) -> None:
    times = path.stat()
    with path.open("rb+") as file:
        file.seek(100)
        file.write(b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def put_another_in_its_place(path: Path) -> None:
    times = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[::-1])
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    "change", [write_and_set_the_time_back, write_in_place, put_another_in_its_place, lengthen]
)
def test_any_change_is_noticed(file: Path, change: Callable[[Path], None]) -> None:
    before = digest(file)
    change(file)
    assert digest(file) == true(file) != before


def test_another_name_of_a_file_needs_no_reading(file: Path, reads: list[str]) -> None:
    digest(file)
    link = file.with_name("link")
    link.symlink_to(file)
    assert digest(link) == true(file)
    assert reads == ["file"]


def test_a_file_that_has_just_changed_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "new"
    for number in range(50):  # one in some changes leaves the time of the one before
        path.write_bytes(b"%04d" % number)
        assert digest(path) == true(path)
    assert not digests.store().exists()


@pytest.mark.parametrize(
    ("ctime", "age", "settled"),
    [
        (10 * digests.SECOND + 1, 0.05, False),
        (10 * digests.SECOND + 1, 0.2, True),
        (10 * digests.SECOND, 2.0, False),  # whole seconds: a clock as coarse as that
        (10 * digests.SECOND, 3.0, True),
        (10 * digests.SECOND + 1, -5.0, False),  # of the future
    ],
)
def test_when_a_stamp_is_to_be_trusted(ctime: int, age: float, settled: bool) -> None:
    stamp = digests._Stamp(1, 2, 3, 4, ctime)
    assert stamp.settled(ctime + int(age * digests.SECOND)) is settled


@pytest.mark.parametrize(
    "kind", ["nfs4", "fuse.sshfs", "cifs", "9p", "vfat", "tmpfs", "unheard-of"]
)
def test_a_file_system_without_such_times_is_read_each_time(
    file: Path, reads: list[str], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    escaped = str(tmp_path).replace("/", "\\057")
    mounts.write_text(
        "1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        f"2 1 0:9 / {escaped} rw,relatime - {kind} host:/there rw\n"
        f"3 1 0:9 / {tmp_path}/fil rw - ext4 /dev/sdb rw\n"
    )
    monkeypatch.setattr(digests, "MOUNTS", mounts)
    assert [digest(file) for _ in range(2)] == [true(file)] * 2
    assert reads == ["file", "file"]
    mounts.unlink()  # as where the system does not say
    digest(file)
    assert len(reads) == 3


def test_no_damage_of_the_store_gives_a_wrong_digest(file: Path) -> None:
    digest(file)
    whole = digests.store().read_bytes()
    damaged = [whole[:length] for length in range(len(whole))]
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        damaged.append(bytes(changed))
    for data in (*damaged, whole + whole[:70], b"\xff" * 500, b"\n" * 500):
        digests.store().write_bytes(data)
        assert set(digests._kept().values()) <= {true(file)}
    assert digest(file) == true(file)


@pytest.mark.parametrize("obstacle", ["folder", "pipe", "too large", "link", "no folder"])
def test_a_store_that_cannot_be_used_is_no_error(file: Path, obstacle: str) -> None:
    store = digests.store()
    if obstacle == "no folder":
        store.parent.parent.mkdir(exist_ok=True)
        store.parent.write_bytes(b"")
    else:
        store.parent.mkdir(parents=True)
    match obstacle:
        case "folder":
            store.mkdir()
        case "pipe":
            os.mkfifo(store)
        case "too large":
            store.write_bytes(b"x" * (digests.MAX_STORE_BYTES + 1))
        case "link":
            store.symlink_to(file)
    assert [digest(file) for _ in range(2)] == [true(file)] * 2
    assert file.stat().st_size == 3000  # nothing was written through the link


def test_the_store_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MAX_ENTRIES", 4)
    paths = [tmp_path / str(number) for number in range(6)]
    for path in paths:
        path.write_text(path.name)
    time.sleep(SETTLED)
    for path in paths:
        digest(path)
    assert list(digests._kept().values()) == [true(path) for path in paths[2:]]


def test_the_largest_store_is_within_its_bound() -> None:
    number = 2**64 - 1
    line = f"{0:08x} {digests._Stamp(*[number] * 5).text()}{'0' * 64}\n"
    assert digests.MAX_ENTRIES * len(line) <= digests.MAX_STORE_BYTES


def test_processes_that_write_at_once_leave_a_whole_store(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from gptcli.checkpoints.integrity.digests import digest\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()): digest(path)"
    )
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(20):
        (folder / str(number)).write_text(str(number))
    time.sleep(SETTLED)
    running = [subprocess.Popen([sys.executable, "-c", code, str(folder)]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    known = {true(path) for path in folder.iterdir()}
    kept = digests._kept()
    assert kept
    assert set(kept.values()) <= known
    assert len(kept) == digests.store().read_bytes().count(b"\n")
    assert [path.name for path in digests.store().parent.iterdir()] == ["digests"]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="No such file"):
        digest(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadModel, match="not a regular file"):
        digest(tmp_path / "pipe")


def test_writing_through_a_mapping_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "MOUNTS", Path("/proc/self/mountinfo"))
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))
    with path.open("rb+") as file, mmap.mmap(file.fileno(), 0) as pages:
        pages[0] = 1  # the page is dirty: without a flush, a second write leaves no trace
        time.sleep(SETTLED)
        before = digest(path)
        pages[1] = 1
        assert digest(path) == true(path) != before
