"""Writing a file for good: whole or not at all, through no stranger's link, and flushed."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gptcli.checkpoints import int8_store
from gptcli.cli.output.sink import opened
from gptcli.config import editing
from gptcli.errors import CannotCreate, WriteFailed
from gptcli.options import Output
from gptcli.system import durable

PART = re.compile(r"\.a\.txt\.[0-9a-f]{16}\.part")


def only(folder: Path, *names: str) -> None:
    """Nothing else is in the folder."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, number: int = errno.ENOSPC) -> None:
    """A call of the system fails."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, refused)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the system that changes a disk, in order; flushes tell of what."""
    found: list[str] = []

    def watched(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def instead(*args: object, **named: object) -> object:
            folder = name == "fsync" and os.path.isdir(f"/proc/self/fd/{args[0]}")  # noqa: PTH112
            found.append(f"{name} folder" if folder else name)
            return call(*args, **named)

        return instead

    for name in ("write", "fsync", "replace", "link", "unlink"):
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    return found


def write_a(folder: Path) -> None:
    """By the writer itself."""
    durable.save(folder / "a.txt", b"new")


def rewrite_a(folder: Path) -> None:
    """As a file of the user's."""
    durable.rewrite(folder / "a.txt", b"new")


def answer_a(folder: Path) -> None:
    """As a command's output."""
    with opened(Output(output=str(folder / "a.txt"), force=True)) as out:
        out.write("new")


WAYS = pytest.mark.parametrize("way", [write_a, rewrite_a, answer_a])


@WAYS
def test_a_file_is_flushed_then_renamed_then_its_folder_flushed(
    tmp_path: Path, calls: list[str], way: Callable[[Path], None]
) -> None:
    (tmp_path / "a.txt").write_text("old")
    way(tmp_path)
    assert calls == ["write", "fsync", "replace", "fsync folder"]
    assert (tmp_path / "a.txt").read_text() == "new"
    only(tmp_path, "a.txt")


def test_a_file_that_may_not_replace_another_is_linked(tmp_path: Path, calls: list[str]) -> None:
    with durable.new_file(tmp_path / "a.txt") as file:
        file.write(b"new")
        file.put_new()
    assert calls == ["write", "fsync", "link", "unlink", "fsync folder"]
    only(tmp_path, "a.txt")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells what is flushed")
def test_a_models_weights_are_flushed_before_they_count(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_store, "folder", lambda: tmp_path)
    int8_store.keep("a", "owner/model", {"w": int8_store.StoredTensor("I8", (4,), b"abcd")})
    assert [call for call in calls if call != "write"] == ["fsync", "replace", "fsync folder"]


@WAYS
@pytest.mark.parametrize("refused", ["write", "fsync", "replace"])
def test_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path], None], refused: str
) -> None:
    (tmp_path / "a.txt").write_text("old")
    refuse(monkeypatch, refused)
    with pytest.raises((OSError, WriteFailed)):
        way(tmp_path)
    assert (tmp_path / "a.txt").read_text() == "old"
    only(tmp_path, "a.txt")


def test_a_file_that_is_not_put_is_removed(tmp_path: Path) -> None:
    with durable.new_file(tmp_path / "a.txt") as file:
        file.write(b"half")
    only(tmp_path)


@WAYS
def test_a_planted_link_is_not_followed(tmp_path: Path, way: Callable[[Path], None]) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    planted = [f".a.txt.{os.getpid()}.part", "a.txt.part", ".a.txt.part"]
    for name in planted:
        (tmp_path / name).symlink_to(mine)
    way(tmp_path)
    assert mine.read_text() == "mine"
    assert (tmp_path / "a.txt").read_text() == "new"
    only(tmp_path, "a.txt", "mine", *planted)


def test_even_a_name_that_was_guessed_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    monkeypatch.setattr(os, "urandom", bytes)
    (tmp_path / f".a.txt.{'00' * 8}.part").symlink_to(mine)
    with pytest.raises(FileExistsError):
        durable.save(tmp_path / "a.txt", b"new")
    with pytest.raises(CannotCreate):
        answer_a(tmp_path)
    assert mine.read_text() == "mine"
    assert not (tmp_path / "a.txt").exists()


def test_a_file_of_a_fixed_name_is_made_anew_where_a_link_stands(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "a.txt.part").symlink_to(mine)
    durable.save_as(tmp_path / "a.txt.part", tmp_path / "a.txt", b"new")
    assert (mine.read_text(), (tmp_path / "a.txt").read_text()) == ("mine", "new")
    assert not (tmp_path / "a.txt").is_symlink()
    only(tmp_path, "a.txt", "mine")


def test_a_new_files_name_cannot_be_guessed(tmp_path: Path) -> None:
    with durable.new_file(tmp_path / "a.txt") as one, durable.new_file(tmp_path / "a.txt") as other:
        assert one.path != other.path
        assert PART.fullmatch(one.path.name)
        assert PART.fullmatch(other.path.name)


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "🦊" * 63])
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path, name: str) -> None:
    durable.save(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new"


def test_a_private_file_is_never_open_to_others(tmp_path: Path) -> None:
    with durable.new_file(tmp_path / "a.txt", 0o600) as file:
        assert file.path.stat().st_mode & 0o777 == 0o600
        file.put()
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o600


def test_a_users_file_keeps_its_link_and_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "a.txt").symlink_to("real")
    durable.rewrite(tmp_path / "a.txt", b"new", new=0o600)
    assert (tmp_path / "a.txt").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


def test_a_folder_that_cannot_be_read_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def closed(path: str | Path, flags: int, *mode: int) -> int:
        if flags & os.O_DIRECTORY:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", closed)
    durable.save(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_flush_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse(monkeypatch, "fsync", number)
    answer_a(tmp_path)
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_a_file_system_without_hard_links_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "link", errno.EPERM)
    with opened(Output(output=str(tmp_path / "a.txt"))) as out:
        out.write("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    only(tmp_path, "a.txt")


def test_a_setting_is_flushed_as_well(tmp_path: Path, calls: list[str]) -> None:
    editing.put(tmp_path / "config.toml", ["top_k"], 5)
    assert calls == ["write", "fsync", "replace", "fsync folder"]
    assert (tmp_path / "config.toml").stat().st_mode & 0o777 == 0o600
    only(tmp_path, "config.toml")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder such as /tmp, where others may lay something."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def strangers(link: Path, target: Path) -> None:
    """Lay a link as another user."""
    link.symlink_to(target)
    os.lchown(link, 12345, 12345)


NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes links of others")


@NEEDS_ROOT
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("way", [rewrite_a, answer_a])
def test_in_a_shared_folder_a_strangers_link_is_not_followed(
    shared: Path, tmp_path: Path, way: Callable[[Path], None], there: bool
) -> None:
    os.chown(shared, 54321, 54321)
    mine = tmp_path / "mine"
    if there:
        mine.write_text("mine")
    strangers(shared / "a.txt", mine)
    with pytest.raises((PermissionError, CannotCreate), match="a link of another user"):
        way(shared)
    assert not there or mine.read_text() == "mine"
    assert mine.exists() == there
    only(shared, "a.txt")


@NEEDS_ROOT
def test_a_link_to_a_strangers_link_is_not_followed_either(shared: Path, tmp_path: Path) -> None:
    os.chown(shared, 54321, 54321)
    strangers(shared / "other", tmp_path / "mine")
    (tmp_path / "a.txt").symlink_to(shared / "other")
    with pytest.raises(CannotCreate, match="a link of another user"):
        answer_a(tmp_path)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("way", [rewrite_a, answer_a])
def test_links_of_ones_own_are_followed_there(
    shared: Path, tmp_path: Path, way: Callable[[Path], None]
) -> None:
    (tmp_path / "mine").write_text("mine")
    (shared / "a.txt").symlink_to(tmp_path / "mine")
    way(shared)
    assert (tmp_path / "mine").read_text() == "new"
    assert (shared / "a.txt").is_symlink()


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "b.txt")
    (tmp_path / "b.txt").symlink_to(tmp_path / "a.txt")
    with pytest.raises((OSError, CannotCreate)):
        answer_a(tmp_path)
