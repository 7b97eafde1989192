"""What another program's model is recognised by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.gguf_files import GgufFile

from gptcli.checkpoints.resolve import looks_like_path
from gptcli.checkpoints.sources import find_source, recognise, refusal
from gptcli.errors import BadModel, MissingInput

GOOD = GgufFile().bytes()


def put(folder: Path, *names: str) -> list[Path]:
    files = [folder / name for name in names]
    for file in files:
        file.write_bytes(GOOD)
    return files


def test_a_gguf_file_is_known_by_its_name_and_by_its_first_bytes(tmp_path: Path) -> None:
    for file in put(tmp_path, "model.Q8_0.gguf", "sha256-0123"):
        found = find_source(file)
        assert (found.reader, found.files) == ("gguf_file", (file,))
        error = refusal(file)
        assert error is not None
        assert f"gptcli models convert {file} -o " in error.hint
    (tmp_path / "other").write_bytes(b"....")
    assert recognise(tmp_path / "other") is None


def test_a_folder_with_one_gguf_model_means_that_one(tmp_path: Path) -> None:
    [file] = put(tmp_path, "model.gguf")
    assert find_source(tmp_path).files == (file,)


def test_a_part_means_the_whole_model(tmp_path: Path) -> None:
    parts = put(tmp_path, *(f"m-0000{place}-of-00003.gguf" for place in (1, 2, 3)))
    for path in (tmp_path, parts[1]):
        assert find_source(path).files == tuple(parts)
    parts[2].unlink()
    with pytest.raises(MissingInput, match="m-00003-of-00003"):
        find_source(tmp_path)


def test_of_several_gguf_models_one_must_be_named(tmp_path: Path) -> None:
    put(tmp_path, "a.Q4_0.gguf", "a.Q8_0.gguf")
    with pytest.raises(BadModel, match=r"2 GGUF models: a\.Q4_0\.gguf, a\.Q8_0\.gguf") as caught:
        find_source(tmp_path)
    assert f"gptcli models convert {tmp_path}/a.Q4_0.gguf" in caught.value.hint


def test_mlx_is_known_by_its_file_its_settings_and_its_names(tiny: Path, tmp_path: Path) -> None:
    for file in tiny.iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    assert recognise(tmp_path) is None
    config = json.loads((tmp_path / "config.json").read_text())
    told = config | {"quantization": {"bits": 4, "group_size": 64}}
    (tmp_path / "config.json").write_text(json.dumps(told))
    found = find_source(tmp_path)
    assert (found.reader, found.files[0].name) == ("mlx", "config.json")
    assert {"model.safetensors", "tokenizer.json"} <= {file.name for file in found.files}
    (tmp_path / "config.json").write_text(json.dumps(config))
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data.replace(b"transformer.h.", b"XXXXXXmodel.h."))
    assert recognise(tmp_path) is None
    (tmp_path / "model.safetensors").unlink()
    put(tmp_path, "weights.npz")
    assert find_source(tmp_path).files[1].name == "weights.npz"


def test_a_file_of_weights_in_this_folder_is_no_model_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "model.gguf", "gpt2-medium")
    assert looks_like_path("model.gguf")
    assert not looks_like_path("gpt2-medium")
    assert not looks_like_path("other.gguf")
