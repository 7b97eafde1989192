"""Phrase lists: files of the user's and our own, and what is wrong with one."""

from __future__ import annotations

import hashlib
import os
import string
from pathlib import Path

import pytest

from gptcli.errors import BadInput, GptcliError, MissingInput, UsageError
from gptcli.moderation import lists
from gptcli.moderation.lists import read_list, read_lists

OURS = "303725a845b8637a3e744978e32a4f049dbfbe7d23905b057732b890f68a33e5"


def made(folder: Path, text: str | bytes, name: str = "own.txt") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_a_list_has_comments_languages_and_exact_phrases(tmp_path: Path) -> None:
    text = "\ufeff# mine\nfoo  bar\r\n\n[de]\n=Größe\n[*]\nbad\n"
    found = read_list(made(tmp_path, text))
    assert found.name == "own.txt"
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert [(one.entry, one.letters, one.language, one.exact) for one in found.phrases] == [
        (2, "foo bar", None, False),
        (5, "grosse", "de", True),
        (7, "bad", None, False),
    ]


def test_only_phrases_of_a_language_can_be_taken(tmp_path: Path) -> None:
    path = made(tmp_path, "[de]\nschlecht\n[fr]\nmauvais\n[*]\nbad\n")
    [found] = read_lists([path], ["de"])
    assert [one.text for one in found.phrases] == ["schlecht", "bad"]
    with pytest.raises(UsageError, match="no list has phrases for it"):
        read_lists([made(tmp_path, "[de]\nschlecht\n", "de.txt")], ["it"])


def test_a_list_of_the_users_has_a_name_and_wins_over_ours(tmp_path: Path) -> None:
    folder = lists.user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        made(folder, "bad\n", "mine.txt")
        assert [one.text for one in read_list("mine").phrases] == ["bad"]
        assert lists.names() == ["basic", "mine"]
        made(folder, "harmless\n", "basic.txt")
        assert [one.text for one in read_list("basic").phrases] == ["harmless"]
    finally:
        for path in folder.iterdir():
            path.unlink()


def test_two_files_of_one_name_are_two_lists(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    paths = [made(folder, f"bad {folder.name}\n") for folder in folders]
    other = made(tmp_path, "worse\n", "other.txt")
    found = read_lists([*paths, other, paths[0]])
    assert [one.name for one in found] == [*paths, "other.txt"]
    assert [one.phrases[0].list for one in found] == [*paths, "other.txt"]


def test_a_list_from_the_shells_pipe_can_be_read_again() -> None:
    source, end = os.pipe()
    os.write(end, b"bad\n")
    os.close(end)
    try:
        assert read_list(f"/dev/fd/{source}") == read_list(f"/dev/fd/{source}")
    finally:
        os.close(source)
        lists._piped.clear()


def test_our_list_cannot_be_read_by_accident() -> None:
    found = read_list("basic")
    assert found.sha256 == OURS  # a change of the list is one of every record
    assert len(found.phrases) > 80
    [path] = lists.OURS.iterdir()
    assert set(path.read_text()) <= {*string.ascii_letters, *string.digits, *"+/=\n"}
    stored = b"".join(path.read_bytes() for path in lists.OURS.iterdir()).decode().casefold()
    assert not [one.text for one in found.phrases if one.text in stored and len(one.text) > 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bad\n!\n", "filter own.txt: line 2: it has fewer than 2 letters"),
        ("bad\n[German]!\n", "filter own.txt: line 2: it is no language in brackets"),
        (b"bad\nb\xe4d\n", "filter own.txt: line 2: it is not UTF-8"),
        ("bad\nb\x07d\n", "filter own.txt: line 2: it has a control character"),
        (f"bad\n{'x' * 300}\n", "filter own.txt: line 2: it has more than 200 letters"),
        (f"bad\n{'x' * 3000}\n", "filter own.txt: line 2: it has more than 1000 characters"),
        ("# nothing\n", "filter own.txt: there is no phrase in it"),
        ("bad word".encode("utf-16"), "filter own.txt: its text is UTF-16, not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "filter own.txt: "),
    ],
)
def test_a_bad_list_is_refused_by_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_list(made(tmp_path, text))
    assert str(refused.value).startswith(message)


def test_a_list_that_is_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "MAX_PHRASES", 3)
    with pytest.raises(BadInput, match="more than 3 lines"):
        read_list(made(tmp_path, "bad\n" * 5))
    monkeypatch.setattr(lists, "MAX_BYTES", 10)
    with pytest.raises(BadInput, match="more than 0 MiB"):
        read_list(made(tmp_path, "bad\n" * 5))


@pytest.mark.parametrize("name", ["nowhere", "no/where.txt", ".", "a\0b.txt", "/dev/zero"])
def test_a_list_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(GptcliError) as refused:
        read_list(name)
    assert isinstance(refused.value, MissingInput | BadInput)
