"""`gptcli models verify`: every changed bit is found, and nothing else is complained of."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.cached_models import COMMIT, OTHER, checksum, files_of, put

from gptcli.checkpoints import resolve
from gptcli.checkpoints.resolve import BUNDLE, on_disk
from gptcli.models.verification import BUNDLE_SUMS, Check, verify
from gptcli.system import checksums
from gptcli.system.checksums import file_digest

Cli = Callable[..., tuple[int, str, str]]
FLIPS, CLEAN = 200, 30


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def files(tiny: Path) -> dict[str, bytes]:
    """A tiny model's files by name."""
    return files_of(tiny)


def wrong(name: str = "someone/model") -> list[Check]:
    """The files that are not right."""
    return [check for check in verify(on_disk(name)) if check.verdict != "right"]


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def test_every_flipped_bit_is_found_and_no_clean_run_complains(
    cache: Path, files: dict[str, bytes]
) -> None:
    snapshot = put(cache, "someone/model", files | {"vocab.json": b"{}", "sub/x.txt": b"x"})
    chance = random.Random(0)
    names = [path for path in snapshot.rglob("*") if path.is_symlink()]
    for _ in range(CLEAN):
        assert wrong() == []
    for _ in range(FLIPS):
        path = chance.choice(names)
        bit = chance.randrange(8 * path.stat().st_size)
        flip(path, bit)
        (found,) = wrong()
        assert (found.name, found.verdict) == (path.relative_to(snapshot).as_posix(), "wrong")
        flip(path, bit)
    assert wrong() == []


@pytest.mark.parametrize("size", [0, 1, checksums.CHUNK_BYTES, checksums.CHUNK_BYTES + 1])
def test_the_sha1_is_that_of_git(tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(random.Random(size).randbytes(size))
    try:
        told = subprocess.run(
            ["git", "hash-object", "--no-filters", str(file)], capture_output=True, check=True
        )
    except FileNotFoundError:
        pytest.skip("there is no git")
    assert file_digest(file, "git-sha1") == (told.stdout.decode().strip(), size)


def test_a_damaged_file_is_named_with_both_checksums(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    snapshot = put(cache, "someone/model", files)
    flip(snapshot / "model.safetensors", 12345)
    expected = checksum("model.safetensors", files["model.safetensors"])
    actual = hashlib.sha256((snapshot / "model.safetensors").read_bytes()).hexdigest()
    code, out, err = main_in("models", "verify", "someone/model")
    assert code == 65
    for text in (out, err):
        assert "model.safetensors" in text
        assert f"expected sha256 {expected}, found {actual}" in text
    assert "gptcli models rm someone/model, then gptcli models pull someone/model" in err


def test_a_model_that_is_right_is_one_line(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    put(cache, "someone/model", files)
    expected = f"someone/model {COMMIT[:7]}: {len(files)} files are right, 1 MB\n"
    assert main_in("models", "verify", "someone/model") == (0, expected, "")


def test_json_has_every_file(cache: Path, files: dict[str, bytes], main_in: Cli) -> None:
    snapshot = put(cache, "someone/model", files)
    (snapshot / "config.json").resolve().write_bytes(b"")
    code, out, err = main_in("models", "verify", "someone/model", "--json")
    assert code == 65
    (model,) = json.loads(out)
    assert (model["right"], model["wrong"], model["unknown"]) == (len(files) - 1, 1, 0)
    bad = next(file for file in model["files"] if file["verdict"] == "wrong")
    assert (bad["name"], bad["algorithm"], bad["why"]) == ("config.json", "git-sha1", "it is empty")
    assert json.loads(err.splitlines()[-1])["error"]["exit"] == 65


def test_an_empty_file_that_is_meant_to_be_empty_is_right(
    cache: Path, files: dict[str, bytes]
) -> None:
    put(cache, "someone/model", files | {"empty.txt": b""})
    assert wrong() == []


@pytest.mark.parametrize("way", ["no blob", "no link", "loop", "folder"])
def test_a_file_that_is_gone_is_found(cache: Path, files: dict[str, bytes], way: str) -> None:
    snapshot = put(cache, "someone/model", files)
    link = snapshot / "model.safetensors"
    if way == "no blob":
        link.resolve().unlink()
    else:
        link.unlink()
    if way == "loop":
        link.symlink_to("model.safetensors")
    elif way == "folder":
        link.symlink_to("..")
    (found,) = wrong()
    assert (found.name, found.verdict) == ("model.safetensors", "missing")


def test_a_link_to_another_file_is_found_by_the_listing(
    cache: Path, files: dict[str, bytes]
) -> None:
    snapshot = put(cache, "someone/model", files, listed=True)
    assert wrong() == []
    other = (snapshot / "tokenizer_config.json").readlink()
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(other)
    (found,) = wrong()
    assert (found.name, found.verdict) == ("config.json", "wrong")
    assert "another file" in found.why


def test_a_link_out_of_the_model_is_wrong(
    cache: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    snapshot = put(cache, "someone/model", files)
    outside = tmp_path / checksum("config.json", files["config.json"])
    outside.write_bytes(files["config.json"])
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(outside)
    (found,) = wrong()
    assert "leads out" in found.why


def test_a_blob_in_the_store_that_models_share_is_verified(
    cache: Path, files: dict[str, bytes]
) -> None:
    snapshot = put(cache, "someone/model", files)
    blob = snapshot.parent.parent / "blobs" / (snapshot / "model.safetensors").readlink().name
    store = cache / "blobs" / "ab" / ("ab" * 32)
    store.parent.mkdir(parents=True)
    blob.rename(store)
    blob.symlink_to(os.path.relpath(store, blob.parent))
    assert wrong() == []
    flip(store, 99)
    (found,) = wrong()
    assert found.name == "model.safetensors"


def test_a_cache_without_links_is_verified_by_its_listing(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    snapshot = put(cache, "someone/model", files, links=False, listed=True)
    assert main_in("models", "verify", "someone/model")[0] == 0
    flip(snapshot / "config.json", 3)
    assert main_in("models", "verify", "someone/model")[0] == 65


@pytest.mark.parametrize("listing", ["", "[]", '{"format_version": 9, "files": {}}', "[" * 9999])
def test_without_links_and_listing_nothing_can_be_said(
    cache: Path, files: dict[str, bytes], main_in: Cli, listing: str
) -> None:
    snapshot = put(cache, "someone/model", files, links=False)
    (snapshot.parent.parent / "trees").mkdir()
    (snapshot.parent.parent / "trees" / f"{COMMIT}.json").write_text(listing)
    code, out, err = main_in("models", "verify", "someone/model")
    assert code == 69
    assert out.count("unknown: no checksum is known") == len(files)
    assert "cannot be verified" in err


def test_a_plain_folder_cannot_be_verified(tiny: Path, main_in: Cli) -> None:
    code, _, err = main_in("models", "verify", str(tiny))
    assert code == 69
    assert "no checksum is known" in err


def test_a_folder_that_hf_download_filled_is_verified(
    files: dict[str, bytes], tmp_path: Path, main_in: Cli
) -> None:
    folder = tmp_path / "model"
    place = folder / ".cache" / "huggingface" / "download"
    place.mkdir(parents=True)
    (place / "odd.metadata").write_bytes(b"\xff")
    for name, data in files.items():
        (folder / name).write_bytes(data)
        (place / f"{name}.metadata").write_text(f"{COMMIT}\n{checksum(name, data)}\n1.5\n")
    assert main_in("models", "verify", str(folder))[0] == 0
    flip(folder / "model.safetensors", 8000)
    assert main_in("models", "verify", str(folder))[0] == 65


def test_a_file_too_many_is_not_passed_over(
    cache: Path, files: dict[str, bytes], main_in: Cli
) -> None:
    snapshot = put(cache, "someone/model", files)
    (snapshot / ".DS_Store").write_text("of the system")
    assert main_in("models", "verify", "someone/model")[0] == 0
    (snapshot / "added_tokens.json").write_text("{}")
    code, _, err = main_in("models", "verify", "someone/model")
    assert code == 69
    assert "added_tokens.json" in err


def test_all_models_are_verified(cache: Path, files: dict[str, bytes], main_in: Cli) -> None:
    put(cache, "someone/model", files)
    put(cache, "someone/model", files | {"README.md": b"x"}, OTHER, ref="v2")
    code, out, _ = main_in("models", "verify", "--all")
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [
        f"someone/model {COMMIT[:7]}",
        f"someone/model {OTHER[:7]}",
        "tiny-tales",
    ]
    snapshot = put(cache, "someone/bad", files)
    flip(snapshot / "config.json", 1)
    put(cache, "someone/odd", files, links=False)
    code, out, err = main_in("models", "verify", "--all")
    assert code == 65
    assert "someone/bad: config.json" in err
    assert "someone/odd" in out


def test_of_what_is_no_language_model_only_the_files_are_verified(
    cache: Path, main_in: Cli
) -> None:
    put(cache, "a/b", {"config.json": b'{"model_type": "bert", "architectures": ["BertModel"]}'})
    assert main_in("models", "verify", "--all")[0] == 0


@pytest.mark.parametrize("args", [[], ["--all", "gpt2"], ["--all", "--revision", "main"]])
def test_one_model_or_all(main_in: Cli, args: list[str]) -> None:
    assert main_in("models", "verify", *args)[0] == 2


# --- the bundled model


def test_the_bundled_model_is_as_its_checksums_say(main_in: Cli) -> None:
    code, out, _ = main_in("models", "verify", "tiny-tales")
    count = len(list(BUNDLE.iterdir()))
    assert (code, out) == (0, f"tiny-tales: {count} files are right, 7 MB\n")


def test_the_kept_checksums_are_of_the_files_that_are_there() -> None:
    lines = {
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in BUNDLE.iterdir()
    }
    assert set(BUNDLE_SUMS.read_text().splitlines()) == lines


@pytest.mark.parametrize("way", ["changed", "gone"])
def test_damage_of_the_bundled_model_is_found(
    main_in: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    copy = Path(shutil.copytree(BUNDLE, tmp_path / "tiny-tales"))
    if way == "changed":
        flip(copy / "merges.txt", 777)
    else:
        (copy / "merges.txt").unlink()
    monkeypatch.setattr(resolve, "BUNDLE", copy)
    code, _, err = main_in("models", "verify", "tiny-tales")
    assert code == 65
    assert "merges.txt" in err
    assert "Install gptcli again" in err
