"""Names, the cache, and which model is meant where none is named."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_hub import COMMIT, FakeHub, begin_empty, point_at

from gptcli.checkpoints.names import ALIASES, FAMILY, GPT2, did_you_mean
from gptcli.checkpoints.resolve import BUNDLE, find_cached, is_complete, is_offline, resolve
from gptcli.errors import MissingInput, Unavailable, UsageError
from gptcli.options import Load

REPO = "someone/model"
FILES = {
    "config.json": b'{"model_type": "gpt2"}',
    "tokenizer.json": b"{}",
    "model.safetensors": bytes(range(256)) * 40,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and a Hub that cannot be there."""
    folder = tmp_path / "cache"
    begin_empty(folder, monkeypatch)
    point_at(f"http://127.0.0.1:{closed_port()}", monkeypatch)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub(REPO, dict(FILES)) as server:
        point_at(server.url, monkeypatch)
        yield server


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def put_in_cache(
    cache: Path, known_as: str, commit: str = COMMIT, without: str = "", ref: str = "main"
) -> Path:
    """A model in the layout of huggingface_hub: refs, and snapshots that link to blobs."""
    storage = cache / f"models--{known_as.replace('/', '--')}"
    snapshot = storage / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (storage / "blobs").mkdir()
    for name, data in FILES.items():
        if name != without:
            (storage / "blobs" / name).write_bytes(data)
            (snapshot / name).symlink_to(Path("../../blobs") / name)
    (storage / "refs" / ref).parent.mkdir(parents=True)
    (storage / "refs" / ref).write_text(commit)
    return snapshot


# --- names and paths


@pytest.mark.parametrize(("alias", "repo_id"), ALIASES.items())
def test_alias_names_its_hub_model(cache: Path, alias: str, repo_id: str) -> None:
    snapshot = put_in_cache(cache, repo_id)
    found = resolve(Load(model=alias))
    assert (found.name, found.folder, found.source) == (repo_id, snapshot, "cache")


def test_tiny_tales_is_the_bundled_model() -> None:
    found = resolve(Load(model="tiny-tales"))
    assert (found.name, found.folder, found.source) == ("tiny-tales", BUNDLE, "bundled")
    assert found.revision is None
    assert is_complete(BUNDLE)


@pytest.mark.parametrize("name", ["folder", "./folder", "sub/deep/folder"])
def test_existing_folder_is_used_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(parents=True)
    found = resolve(Load(model=name))
    assert (found.name, found.folder, found.source) == (name, Path(name), "path")


def test_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    assert resolve(Load(model="~/mine")).folder == tmp_path / "mine"


@pytest.mark.parametrize(
    "path", ["./none", "../none", "/none", "a/b/c", "~nobody-has-this-name/x", "/" + "x" * 5000]
)
def test_path_that_does_not_exist_is_missing_input(path: str) -> None:
    with pytest.raises(MissingInput):
        resolve(Load(model=path))


def test_file_in_place_of_a_folder_is_missing_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingInput, match="not a folder"):
        resolve(Load(model="./file"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "-rf",
        "a\0b",
        "a--b",
        "a..b",
        "a/..",
        "a/",
        "owner/-x",
        "x" * 97,
        "C:\\model",
        "a\\b",
        "a b",
        "a\nb",
        "gpt2\n",
        "gpt2/../x",
        "\N{ONE DOT LEADER}\N{ONE DOT LEADER}/x",
        "\u202egpt2",
        "gpt\N{SUPERSCRIPT TWO}",
        "\ud800",
        "http://127.0.0.1/gpt2",
        "hf://gpt2",
    ],
)
def test_name_that_the_hub_cannot_have_is_a_usage_error(name: str, cache: Path) -> None:
    expected = MissingInput if name == "gpt2/../x" else UsageError
    with pytest.raises(expected):
        resolve(Load(model=name))
    assert not cache.exists()


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("gpt2-small", "gpt2"),
        ("gpt-2-355m", "gpt2-medium"),
        ("gpt-2", "gpt2"),
        ("openai/gpt2_large", "gpt2-large"),
        ("gpt2-meduim", "gpt2-medium"),
        ("gtp2", "gpt2"),
        ("XL", "xl"),
        ("tinytales", "tiny-tales"),
        ("gpt2-tiny-tales", "tiny-tales"),
    ],
)
def test_near_name_is_suggested(wrong: str, meant: str) -> None:
    assert did_you_mean(wrong) == f"Did you mean -m {meant}?"


@pytest.mark.parametrize("name", ["bert-base-uncased", "t5-small", "", "/"])
def test_no_name_is_suggested_for_a_far_one(name: str) -> None:
    assert did_you_mean(name) == ""


@pytest.mark.parametrize("name", [*FAMILY, *ALIASES, *ALIASES.values()])
def test_a_known_name_is_not_suggested_for_itself(name: str) -> None:
    assert did_you_mean(name) == ""


def test_unknown_near_name_is_hinted_at_offline() -> None:
    with pytest.raises(Unavailable) as caught:
        resolve(Load(model="gpt2-small", offline=True))
    assert "Did you mean -m gpt2?" in caught.value.hint


@pytest.mark.parametrize("revision", ["", "../../x", "a//b", "-x", "/x", "a b", "x" * 300])
def test_revision_that_git_cannot_have_is_a_usage_error(revision: str) -> None:
    with pytest.raises(UsageError, match="--revision"):
        resolve(Load(model=GPT2, revision=revision))


@pytest.mark.parametrize("model", ["tiny-tales", "."])
def test_revision_of_a_folder_is_a_usage_error(model: str) -> None:
    with pytest.raises(UsageError, match="--revision"):
        resolve(Load(model=model, revision="main"))


def test_folder_named_like_an_alias_is_mentioned(cache: Path, tmp_path: Path) -> None:
    put_in_cache(cache, GPT2)
    (tmp_path / "gpt2").mkdir()
    assert "./gpt2" in resolve(Load(model="gpt2")).notices[0]


# --- the cache


def test_cached_model_is_found_with_its_commit(cache: Path) -> None:
    put_in_cache(cache, REPO)
    found = find_cached(REPO)
    assert found is not None
    assert found.revision == COMMIT


def test_model_cached_under_its_old_id_is_found(cache: Path) -> None:
    snapshot = put_in_cache(cache, "gpt2")
    assert resolve(Load(model="gpt2", offline=True)).folder == snapshot


def test_commit_is_found_without_a_branch(cache: Path) -> None:
    put_in_cache(cache, REPO, ref="other")
    assert find_cached(REPO) is None
    assert find_cached(REPO, COMMIT) is not None


def test_branch_with_slashes_is_found(cache: Path) -> None:
    put_in_cache(cache, REPO, ref="refs/pr/1")
    assert find_cached(REPO, "refs/pr/1") is not None


@pytest.mark.parametrize("lacking", FILES)
def test_snapshot_that_lacks_a_file_does_not_count(cache: Path, lacking: str) -> None:
    put_in_cache(cache, REPO, without=lacking)
    assert find_cached(REPO) is None


def test_link_to_a_blob_that_is_gone_does_not_count(cache: Path) -> None:
    snapshot = put_in_cache(cache, REPO)
    (snapshot / "model.safetensors").resolve().unlink()
    assert find_cached(REPO) is None


def test_sharded_snapshot_counts_once_every_shard_is_there(cache: Path) -> None:
    snapshot = put_in_cache(cache, REPO, without="model.safetensors")
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    (snapshot / shards[0]).write_bytes(b"")
    assert find_cached(REPO) is None
    (snapshot / shards[1]).write_bytes(b"")
    assert find_cached(REPO) is not None


@pytest.mark.parametrize("ref", ["../../../x", "", "main", "\u202e", "0" * 39])
def test_branch_that_names_no_commit_does_not_count(cache: Path, ref: str) -> None:
    snapshot = put_in_cache(cache, REPO)
    (snapshot.parents[1] / "refs" / "main").write_text(ref, encoding="utf-8")
    assert find_cached(REPO) is None


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_environment_can_say_offline(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_offline(Load())
    monkeypatch.setenv(switch, "1")
    assert is_offline(Load())


def test_offline_error_says_what_to_run_when_online() -> None:
    with pytest.raises(Unavailable) as caught:
        resolve(Load(model="gpt2", revision="v1", offline=True))
    assert "gptcli generate -m gpt2 --revision v1" in caught.value.hint


def test_cache_of_the_environment_is_searched_without_slow_imports(cache: Path) -> None:
    put_in_cache(cache, GPT2)
    code = (
        "import sys; from gptcli.checkpoints.resolve import resolve;"
        "from gptcli.options import Load;"
        "print(resolve(Load(model='gpt2')).folder);"
        "slow = ('huggingface_hub.file_download', 'torch', 'tokenizers', 'httpx2', 'numpy');"
        "print([name for name in slow if name in sys.modules])"
    )
    root = str(BUNDLE.parents[2])
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "PYTHONPATH": root}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    folder, slow = ran.stdout.splitlines()
    assert folder.startswith(str(cache))
    assert slow == "[]"


# --- no model named


def test_default_is_gpt2_where_it_is_cached(cache: Path) -> None:
    put_in_cache(cache, GPT2)
    found = resolve(Load())
    assert (found.name, found.notices) == (GPT2, ())


@pytest.mark.parametrize("offline", [True, False])
def test_default_falls_back_to_the_bundled_model_and_says_so(offline: bool) -> None:
    found = resolve(Load(offline=offline))
    assert found.source == "bundled"
    (notice,) = found.notices
    assert "tiny-tales" in notice
    assert "gptcli generate -m gpt2" in notice


def test_default_is_downloaded_where_the_hub_is_reachable(fake: FakeHub) -> None:
    fake.repo_id = GPT2
    found = resolve(Load())
    assert (found.name, found.source) == (GPT2, "hub")


def test_named_model_never_falls_back() -> None:
    with pytest.raises(Unavailable):
        resolve(Load(model="gpt2"))


def test_named_revision_never_falls_back() -> None:
    with pytest.raises(Unavailable):
        resolve(Load(revision="v1"))
