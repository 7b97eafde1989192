"""What a model is by its content: every file that decides what it writes, as it was published."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cached_models import files_of, own_cache, put

from gptcli.checkpoints.integrity.content import MAX_FILES, changes, checked_content, content
from gptcli.errors import BadModel

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    """A model with all files that one may have, in a folder of its own."""
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    for name in ("merges.txt", "vocab.json", "special_tokens_map.json", "added_tokens.json"):
        (folder / name).write_text("{}")
    for name in ("chat_template.jinja", "chat_template.json"):
        (folder / name).write_text("{}")
    (folder / "generation_config.json").write_text("{}")
    return folder


def flip(path: Path, at: int) -> None:
    """Change a bit where it stands, and set the time of the content back."""
    times = path.stat()
    with path.open("rb+") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
        *("merges.txt", "vocab.json", "special_tokens_map.json", "added_tokens.json"),
        *("chat_template.jinja", "chat_template.json", "model.safetensors"),
    ],
)
def test_one_bit_of_any_file_makes_another_model(model: Path, name: str) -> None:
    before = content(model, "m")
    assert name in before
    flip(model / name, (model / name).stat().st_size - 1)
    after = content(model, "m")
    assert changes(before, after) == f"{name} has other contents"


@pytest.mark.parametrize("name", ["vocab.txt", "spiece.model", "encoder.json", "a.tokenizer.json"])
def test_another_vocabulary_counts_where_it_is_used(model: Path, name: str) -> None:
    (model / name).write_text("{}")
    assert name not in content(model, "m")  # beside tokenizer.json, which says everything
    (model / "tokenizer.json").unlink()
    before = content(model, "m")
    flip(model / name, 1)
    assert changes(before, content(model, "m")) == f"{name} has other contents"


def test_all_shards_count_and_nothing_else(model: Path) -> None:
    from transformers import GPT2LMHeadModel

    GPT2LMHeadModel.from_pretrained(model).save_pretrained(
        model.with_name("shards"), max_shard_size="60KB"
    )
    shards = model.with_name("shards")
    (shards / "unrelated.safetensors").write_bytes(b"x")
    (shards / "trainer_state.json").write_text("{}")
    found = content(shards, "m")
    kept = {path.name for path in shards.glob("model-*.safetensors")}
    assert len(kept) > 1
    assert kept | {"model.safetensors.index.json", "config.json"} <= found.keys()
    assert not {"unrelated.safetensors", "trainer_state.json"} & found.keys()
    last = max(kept)
    flip(shards / last, (shards / last).stat().st_size // 2)
    assert changes(found, content(shards, "m")) == f"{last} has other contents"


def test_a_copy_is_the_same_model(model: Path) -> None:
    copy = shutil.copytree(model, model.with_name("copy"))
    assert content(Path(copy), "copy") == content(model, "m")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_file_of_the_cache_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main_in: Cli, name: str
) -> None:
    cache = own_cache(tmp_path, monkeypatch)
    snapshot = put(cache, "owner/model", files_of(model))
    assert content(snapshot, "owner/model")
    blob = (snapshot / name).resolve()
    data = bytearray(blob.read_bytes())
    at = data.rindex(b'"') - 1 if name.endswith("json") else len(data) - 1
    data[at : at + 1] = b"x"
    blob.write_bytes(data)
    with pytest.raises(BadModel, match=rf"{name}: it is not what was downloaded"):
        content(snapshot, "owner/model")
    out = tmp_path / "out.jsonl"
    code, _, err = main_in(
        *("batch", "-", "-o", str(out), "-m", "owner/model", "--offline"), stdin=b"Once\n"
    )
    assert code == 65, err
    if name == "model.safetensors":  # the others are refused for what they say
        assert "not what was downloaded. See: gptcli models verify owner/model" in err
    assert not out.exists()


def test_no_int8_weights_are_kept_of_a_damaged_file_of_the_cache(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main_in: Cli
) -> None:
    cache = own_cache(tmp_path, monkeypatch)
    blob = (put(cache, "owner/model", files_of(model)) / "model.safetensors").resolve()
    whole = blob.read_bytes()
    asked = ("generate", "Once", "-m", "owner/model", "--offline", "--dtype", "int8")
    args = (*asked, "--seed", "1", "--max-new-tokens", "4")
    flip(blob, len(whole) - 1)
    code, _, err = main_in(*args)
    assert code == 65, err
    assert "not what was downloaded. See: gptcli models verify owner/model" in err
    blob.write_bytes(whole)
    code, mended, err = main_in(*args)
    assert (code, "made" in err) == (0, True), err
    assert main_in(*args)[:2] == (0, mended)


def test_what_changed_is_named_shortly() -> None:
    then = {"a": "1", "b": "2", "c": "3", "d": "4", "e" * 99: "5"}
    assert changes(then, {**then, "a": "0"}) == "a has other contents"
    assert changes({"a": "1"}, {"b": "1"}) == "a is gone, b is new"
    assert changes(then, dict.fromkeys(then, "0")) == (
        "a has other contents, b has other contents, c has other contents and 2 more"
    )
    assert len(changes({"e" * 9999: "5"}, {})) < 100


@pytest.mark.parametrize(
    "value", [None, [], "x", {"a": 1}, {"a": "x"}, {str(n): "0" * 64 for n in range(MAX_FILES + 1)}]
)
def test_content_that_others_wrote_is_checked(value: object) -> None:
    with pytest.raises(ValueError, match="of the model"):
        checked_content(value)
