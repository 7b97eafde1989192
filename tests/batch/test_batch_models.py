"""The model of a batch: known by the contents of its files, whatever else stays the same."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]
ROWS = b"Once\nThe king\nA fox\n"


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    """A model to be changed, its tokenizer as vocab.json and merges.txt."""
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    found = json.loads((folder / "tokenizer.json").read_text())["model"]
    merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in found["merges"])
    (folder / "vocab.json").write_text(json.dumps(found["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer.json").unlink()
    return folder


@pytest.fixture
def batch(main_in: Cli, tmp_path: Path, model: Path) -> Callable[..., tuple[int, str, str]]:
    """Run the batch, begun by one row."""
    (tmp_path / "in").write_bytes(ROWS)

    def batch(*more: str, folder: Path = model) -> tuple[int, str, str]:
        args = ("-m", str(folder), "--max-new-tokens", "3", "--seed", "1", *more)
        return main_in("batch", str(tmp_path / "in"), "-o", str(tmp_path / "out.jsonl"), *args)

    return batch


@pytest.fixture
def begun(batch: Callable[..., tuple[int, str, str]], tmp_path: Path) -> Path:
    """The output with its first row, as a kill leaves it; gives the manifest."""
    assert batch()[0] == 0
    out = tmp_path / "out.jsonl"
    out.write_bytes(out.read_bytes().splitlines(keepends=True)[0])
    (manifest,) = tmp_path.glob(".out.jsonl.*manifest*")
    return manifest


def swap_merges(model: Path) -> None:
    lines = (model / "merges.txt").read_text().splitlines(keepends=True)
    lines[5], lines[6] = lines[6], lines[5]
    (model / "merges.txt").write_text("".join(lines))


def change_a_weight(model: Path) -> None:
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 + 3] ^= 1
    path.write_bytes(data)


CHANGES = {"merges.txt": swap_merges, "model.safetensors": change_a_weight}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_model_is_refused_though_its_time_is_set_back(
    batch: Callable[..., tuple[int, str, str]],
    begun: Path,
    model: Path,
    tmp_path: Path,
    name: str,
) -> None:
    times = (model / name).stat()
    CHANGES[name](model)
    os.utime(model / name, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (model / name).stat().st_size == times.st_size
    code, _, err = batch()
    assert code == 65
    assert f"the model was changed: {name} has other contents. Run it as before." in err
    assert "--force" in err
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == 1
    assert batch("--force")[0] == 0


def test_the_same_model_elsewhere_goes_on(
    batch: Callable[..., tuple[int, str, str]], begun: Path, model: Path, tmp_path: Path
) -> None:
    (model / "trainer_state.json").write_text("{}")  # decides nothing
    moved = model.rename(tmp_path / "moved")
    code, _, err = batch(folder=moved)
    assert (code, (tmp_path / "out.jsonl").read_bytes().count(b"\n")) == (0, 3), err


def test_a_batch_that_a_former_version_began_goes_on(
    batch: Callable[..., tuple[int, str, str]], begun: Path, tmp_path: Path
) -> None:
    manifest = json.loads(begun.read_text())
    assert manifest["revision"].startswith("folder-")
    del manifest["model_files"]
    begun.write_text(json.dumps(manifest))
    assert batch()[0] == 0
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == 3
    assert json.loads(begun.read_text())["model_files"]


def test_a_batch_that_a_former_version_began_with_another_model_is_refused(
    batch: Callable[..., tuple[int, str, str]], begun: Path, model: Path
) -> None:
    manifest = json.loads(begun.read_text())
    del manifest["model_files"]
    begun.write_text(json.dumps(manifest))
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    code, _, err = batch()
    assert (code, "the model's revision was" in err) == (65, True)


@pytest.mark.parametrize("files", [None, [], {"a": 1}, {"a": "x"}])
def test_a_manifest_with_strange_files_is_refused(
    batch: Callable[..., tuple[int, str, str]], begun: Path, files: object
) -> None:
    begun.write_text(json.dumps(json.loads(begun.read_text()) | {"model_files": files}))
    code, _, err = batch()
    assert (code, "of the model" in err) == (65, True)
