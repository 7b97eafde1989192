"""`gptcli models rm`: what goes, what is asked, and that nothing outside the cache ever does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cached_models import COMMIT, OTHER, own_cache, put
from support.commands import REAL, Terminal

from gptcli.checkpoints import int8_store
from gptcli.checkpoints.int8_store import StoredTensor
from gptcli.errors import WriteFailed
from gptcli.models import removal

Cli = Callable[..., tuple[int, str, str]]
FILES = {"config.json": b"{}", "model.safetensors": b"x" * 3_000_000}
NEWER = FILES | {"config.json": b'{"new": 1}'}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = own_cache(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    return folder


def tree(folder: Path) -> set[str]:
    """Everything in a folder, links not followed."""
    return {
        str(Path(root, name).relative_to(folder))
        for root, folders, names in os.walk(folder)
        for name in (*folders, *names)
    }


def test_a_model_goes_as_a_whole(cache: Path, main_in: Cli) -> None:
    put(cache, "someone/other", FILES)
    rest = tree(cache)
    put(cache, "someone/model", FILES)
    put(cache, "someone/model", NEWER, OTHER, ref="v2")
    (cache / "models--someone--model" / "blobs" / "x.incomplete").write_bytes(b"x")
    code, out, err = main_in("models", "rm", "someone/model", "-y")
    assert (code, out) == (0, "")
    assert "removed someone/model, 3 MB" in err
    assert tree(cache) == rest


def test_one_revision_goes_and_the_other_stays_whole(cache: Path, main_in: Cli) -> None:
    put(cache, "someone/model", FILES)
    rest = tree(cache)
    put(cache, "someone/model", NEWER, OTHER, ref="v2")
    code, _, err = main_in("models", "rm", "someone/model", "--revision", OTHER[:7], "-y")
    assert code == 0
    assert f"someone/model at {OTHER[:7]}" in err
    assert {name for name in tree(cache) if name not in rest} == set()
    assert tree(cache) == rest


def test_the_last_revision_takes_the_folder_along(cache: Path, main_in: Cli) -> None:
    put(cache, "someone/model", FILES)
    assert main_in("models", "rm", "someone/model", "--revision", "main", "-y")[0] == 0
    assert tree(cache) == set()


def test_a_model_with_the_same_commits_stays(cache: Path, main_in: Cli) -> None:
    for copy in range(8):  # huggingface_hub would take whichever comes first
        put(cache, f"copy/{copy}", FILES)
        put(cache, f"copy/{copy}", NEWER, OTHER, ref="v2")
    before = tree(cache)
    put(cache, "someone/model", FILES)
    put(cache, "someone/model", NEWER, OTHER, ref="v2")
    assert main_in("models", "rm", "someone/model", "--revision", "v2", "-y")[0] == 0
    assert main_in("models", "rm", "someone/model", "-y")[0] == 0
    assert tree(cache) == before


def test_an_alias_goes_under_both_of_its_ids(cache: Path, main_in: Cli) -> None:
    for repo_id in ("gpt2", "openai-community/gpt2"):
        put(cache, repo_id, FILES)
    assert main_in("models", "rm", "124M", "-y")[0] == 0
    assert tree(cache) == set()


def test_a_dry_run_prints_what_would_go(cache: Path, main_in: Cli) -> None:
    put(cache, "someone/model", FILES)
    before = tree(cache)
    folder = cache / "models--someone--model"
    assert main_in("models", "rm", "someone/model", "--dry-run") == (0, f"{folder}\n", "")
    out = main_in("models", "rm", "someone/model", "--dry-run", "--json")[1]
    (plan,) = json.loads(out)
    assert (plan["model"], plan["paths"]) == ("someone/model", [str(folder)])
    assert plan["bytes"] >= 3_000_002
    assert tree(cache) == before


def test_without_a_terminal_it_must_be_told_yes(cache: Path, main_in: Cli) -> None:
    put(cache, "someone/model", FILES)
    before = tree(cache)
    code, _, err = main_in("models", "rm", "someone/model")
    assert code == 2
    assert "Add -y" in err
    assert tree(cache) == before


@pytest.mark.parametrize(("typed", "gone"), [(b"y\n", True), (b"n\n", False), (b"\n", False)])
def test_on_a_terminal_it_asks(cache: Path, typed: bytes, gone: bool) -> None:
    put(cache, "someone/model", FILES)
    terminal = Terminal(REAL, "models", "rm", "someone/model")
    terminal.read_until(b"Remove someone/model, 3 MB?")
    terminal.send(typed)
    assert terminal.finish() == 0
    assert (tree(cache) == set()) is gone


def test_int8_weights_that_stay_are_told_of(cache: Path, main_in: Cli) -> None:
    put(cache, "openai-community/gpt2", FILES)
    made = int8_store.keep(
        "0" * 40, "openai-community/gpt2", {"a": StoredTensor("I8", (3,), b"abc")}
    )
    err = main_in("models", "rm", "gpt2", "-y")[2]
    assert "gptcli cache clear openai-community/gpt2" in err
    assert made.exists()


@pytest.mark.parametrize(
    "kind", ["broken link", "dangling ref", "empty", "file", "no snapshots", "foreign snapshot"]
)
def test_what_huggingface_hub_cannot_read_goes_as_a_whole(
    cache: Path, main_in: Cli, kind: str
) -> None:
    folder = cache / "models--someone--model"
    if kind in ("broken link", "dangling ref", "foreign snapshot"):
        snapshot = put(cache, "someone/model", FILES)
        if kind == "broken link":
            (snapshot / "model.safetensors").resolve().unlink()
        elif kind == "dangling ref":
            (folder / "refs" / "old").write_text("f" * 40)
        else:
            (folder / "snapshots" / "file").write_text("")
    elif kind == "file":
        cache.mkdir()
        folder.write_text("x")
    else:
        (folder / "blobs").mkdir(parents=True)
        if kind == "empty":
            (folder / "snapshots").mkdir()
    assert main_in("models", "rm", "someone/model", "-y")[0] == 0
    assert tree(cache) == set()


def test_a_revision_beside_a_broken_one_is_refused(cache: Path, main_in: Cli) -> None:
    snapshot = put(cache, "someone/model", FILES)
    put(cache, "someone/model", NEWER, OTHER, ref="v2")
    (snapshot / "config.json").resolve().unlink()
    code, _, err = main_in("models", "rm", "someone/model", "--revision", "v2", "-y")
    assert code == 65
    assert "gptcli models rm someone/model" in err


# --- what must not go


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder outside the cache."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "file").write_text("not to be lost")
    return folder


@pytest.mark.parametrize("way", ["file", "snapshot", "blobs"])
def test_a_link_out_of_the_cache_is_not_followed(
    cache: Path, precious: Path, main_in: Cli, way: str
) -> None:
    put(cache, "someone/model", FILES)
    folder = cache / "models--someone--model"
    if way == "file":
        snapshot = put(cache, "someone/model", NEWER, OTHER, ref="v2")
        (snapshot / "extra").symlink_to(precious / "file")
    elif way == "snapshot":
        (folder / "snapshots").rename(precious / "snapshots")
        (folder / "snapshots").symlink_to(precious / "snapshots")
        put(cache, "someone/model", NEWER, OTHER, ref="v2")
    else:
        put(cache, "someone/model", NEWER, OTHER, ref="v2")
        (folder / "blobs").rename(precious / "blobs")
        (folder / "blobs").symlink_to(precious / "blobs")
    before = tree(precious)
    code, _, err = main_in("models", "rm", "someone/model", "--revision", "v2", "-y")
    assert code == 65
    assert "leads out of its folder" in err
    assert main_in("models", "rm", "someone/model", "-y")[0] == 0
    assert tree(precious) == before
    assert tree(cache) == set()


def test_a_model_that_is_a_link_is_left_alone(cache: Path, precious: Path, main_in: Cli) -> None:
    cache.mkdir()
    (cache / "models--someone--model").symlink_to(precious)
    code, _, err = main_in("models", "rm", "someone/model", "-y")
    assert code == 65
    assert "is a link" in err
    assert tree(precious) == {"file"}


@pytest.mark.parametrize(
    "name",
    [
        *("..", ".", "/", "~", "../precious", "a/../../precious", "/etc", "./model", "a/b/c"),
        *("..--..", "a--b", "-rf", "a\\b", "C:\\x", "a b", "a\nb", "\u202ex", "x" * 97, "", "*"),
        *("tiny-tales", "../hub/models--someone--model", "someone/..", "\ud800", "hf://a/b"),
    ],
)
def test_what_is_no_model_of_the_cache_is_a_usage_error(
    cache: Path, precious: Path, main_in: Cli, name: str
) -> None:
    put(cache, "someone/model", FILES)
    before = tree(cache)
    code, _, err = main_in("models", "rm", "-y", "--", name)
    assert code == 2, err
    assert "\u202e" not in err
    assert tree(cache) == before
    assert tree(precious) == {"file"}


def test_a_folder_of_the_same_name_is_not_what_is_meant(cache: Path, main_in, tmp_path) -> None:
    (tmp_path / "someone" / "model").mkdir(parents=True)
    put(cache, "someone/model", FILES)
    for more in (["--revision", "main"], []):
        assert main_in("models", "rm", "someone/model", "-y", *more)[0] == (69 if not more else 0)
    assert (tmp_path / "someone" / "model").is_dir()


def test_a_model_that_is_not_there_is_unavailable(cache: Path, main_in: Cli) -> None:
    code, _, err = main_in("models", "rm", "someone/model", "-y")
    assert code == 69
    assert "not in the cache" in err


def test_what_could_not_be_removed_is_an_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, "someone/model", FILES)
    (plan,) = removal.plans("someone/model")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(WriteFailed, match="could not be removed"):
        removal.remove(plan)


def test_removal_cannot_be_agreed_to_in_the_configuration(
    cache: Path, main_in: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, "someone/model", FILES)
    monkeypatch.setenv("GPTCLI_YES", "1")
    assert main_in("models", "rm", "someone/model")[0] == 2
    (tmp_path / "config.toml").write_text("[models]\nyes = true\n")
    code, _, err = main_in(
        "models", "rm", "someone/model", "--config", str(tmp_path / "config.toml")
    )
    assert code == 65
    assert "can only be a flag" in err
    assert (cache / "models--someone--model").exists()


def test_a_whole_commit_names_one_revision(cache: Path) -> None:
    put(cache, "someone/model", FILES)
    put(cache, "someone/model", NEWER, OTHER, ref="v2")
    plan = removal.plans("someone/model", COMMIT)
    assert [(one.model, one.revision) for one in plan] == [("someone/model", COMMIT)]
