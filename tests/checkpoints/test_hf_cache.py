"""Where the cache is, which names are near to a wrong one, and what is found of a model offline."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.cached_models import COMMIT, OTHER, put
from support.commands import environment

from gptcli.checkpoints import hf_cache
from gptcli.checkpoints.names import did_you_mean, nearest
from gptcli.checkpoints.resolve import missing, on_disk
from gptcli.errors import MissingInput, Unavailable, UsageError

BOTH = """
import json, sys
from gptcli.checkpoints.hf_cache import cache_folder
ours = str(cache_folder())
assert "huggingface_hub" not in sys.modules
from huggingface_hub import constants
print(json.dumps([ours, constants.HF_HUB_CACHE]))
"""
VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"XDG_CACHE_HOME": "/x"},
        {"HF_HOME": "~/hf", "XDG_CACHE_HOME": "/x"},
        {"HF_HOME": "$HOME/hf"},
        {"HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "/hf"},
        {"HF_HUB_CACHE": "~/$USER_OF_TEST/c", "HUGGINGFACE_HUB_CACHE": "/old"},
        {"HF_HUB_CACHE": "relative"},
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(settings: dict[str, str]) -> None:
    inherited = environment(USER_OF_TEST="someone", **settings)
    for name in set(VARIABLES) - settings.keys():
        inherited.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", BOTH], env=inherited, capture_output=True, check=True
    )
    ours, theirs = json.loads(done.stdout)
    assert ours == theirs


def test_models_of_the_cache_are_named_by_their_folders(cache: Path) -> None:
    assert list(hf_cache.model_ids()) == []
    for name in ("models--a--b", "models--gpt2", "datasets--a--b", "tmp"):
        (cache / name).mkdir(parents=True)
    assert sorted(hf_cache.model_ids()) == ["a/b", "gpt2"]


# --- names


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("someone/modle", "someone/model"),
        ("modle", "someone/model"),
        ("Someone/Model", "someone/model"),
        ("microsoft/DialoGPT-meduim", "microsoft/DialoGPT-medium"),
        ("dialogpt-smal", "microsoft/DialoGPT-small"),
        ("Cerebras-GPT-1.3b", "cerebras/Cerebras-GPT-1.3B"),
        ("gpt2-meduim", "gpt2-medium"),
    ],
)
def test_a_near_name_of_the_cache_or_the_family_is_suggested(
    cache: Path, wrong: str, meant: str
) -> None:
    (cache / "models--someone--model").mkdir(parents=True)
    assert nearest(wrong) == meant


@pytest.mark.parametrize("name", ["someone/model-160m", "someone/model", "gpt2", "t5-small", ""])
def test_nothing_is_suggested_for_another_size_or_a_name_that_is_right(
    cache: Path, name: str
) -> None:
    for folder in ("models--someone--model-70m", "models--someone--model"):
        (cache / folder).mkdir(parents=True)
    assert nearest(name) is None


def test_a_folder_with_a_hostile_name_is_never_suggested(cache: Path) -> None:
    (cache / "models--someone--mod\x1b[31mel").mkdir(parents=True)
    assert did_you_mean("someone/model") == ""


def test_offline_a_near_model_of_the_cache_is_hinted_at(cache: Path, main_in) -> None:
    (cache / "models--someone--model").mkdir(parents=True)
    code, _, err = main_in("generate", "Once", "-m", "someone/modle", "--offline")
    assert code == 69
    assert "Did you mean -m someone/model? Or run once while online" in err


# --- on disk


@pytest.mark.parametrize("revision", [None, "main", COMMIT, COMMIT[:7]])
def test_a_revision_of_the_cache_is_found(cache: Path, revision: str | None) -> None:
    snapshot = put(cache, "someone/model", {"config.json": b"{}"})
    put(cache, "someone/model", {"config.json": b"{} "}, OTHER, ref=None)
    found = on_disk("someone/model", revision)
    assert (found.folder, found.revision, found.source) == (snapshot, COMMIT, "cache")


@pytest.mark.parametrize("revision", ["nope", "f" * 40, "012", "8" * 7])
def test_a_revision_that_is_not_in_the_cache_is_unavailable(cache: Path, revision: str) -> None:
    put(cache, "someone/model", {"config.json": b"{}"})
    with pytest.raises(Unavailable, match="no such revision"):
        on_disk("someone/model", revision)


def test_the_beginning_of_two_commits_is_no_revision(cache: Path) -> None:
    for commit in (COMMIT, COMMIT[:-1] + "f"):
        put(cache, "someone/model", {"config.json": b"{}"}, commit)
    with pytest.raises(Unavailable):
        on_disk("someone/model", COMMIT[:7])


def test_a_complete_snapshot_under_the_old_id_comes_before_an_incomplete_one(
    cache: Path, tales: Path
) -> None:
    whole = {file.name: file.read_bytes() for file in tales.iterdir()}
    put(cache, "openai-community/gpt2", {"config.json": b"{}"})
    snapshot = put(cache, "gpt2", whole)
    assert on_disk("gpt2").folder == snapshot


def test_a_model_that_is_not_here_is_not_looked_for_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("gptcli.checkpoints.hub.download", refuse)
    with pytest.raises(Unavailable, match="not in the cache"):
        on_disk("someone/model")


@pytest.mark.parametrize(
    ("name", "error"), [("./none", MissingInput), ("a b", UsageError), ("a--b", UsageError)]
)
def test_what_is_no_name_is_refused(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        on_disk(name)


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    assert missing(tmp_path) == ("config.json", "tokenizer.json", "model.safetensors")
    for name in ("config.json", "vocab.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "model.safetensors").symlink_to("nowhere")
    assert missing(tmp_path) == ("tokenizer.json", "model.safetensors")
    (tmp_path / "merges.txt").write_text("")
    assert missing(tmp_path) == ("model.safetensors",)
