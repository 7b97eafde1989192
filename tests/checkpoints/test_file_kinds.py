"""Whole files of another kind are named, with a way that works."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gptcli.checkpoints.hub.offer import choose_files
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.sources import find_source
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import BadModel

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
PAGE = b"\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A model, to be damaged."""
    for file in tiny.iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    return tmp_path


@pytest.mark.parametrize(("data", "what"), [(POINTER, "git-lfs pointer"), (PAGE, "web page")])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "generation_config.json"])
def test_a_file_that_stands_for_another_is_named(
    folder: Path, name: str, data: bytes, what: str
) -> None:
    (folder / name).write_bytes(data)
    with pytest.raises(BadModel, match=f"{what}: {name} is a {what}") as caught:
        inspect(folder)
    assert ("lfs pull" if data is POINTER else "hf download") in caught.value.hint


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_pointer_in_place_of_the_tokenizer_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(POINTER)
    with pytest.raises(BadModel, match=f"{name} is a git-lfs pointer"):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_pointer_in_place_of_an_old_tokenizer_is_named(
    folder: Path, tales: Path, name: str
) -> None:
    (folder / "tokenizer.json").unlink()
    for part in ("vocab.json", "merges.txt"):
        shutil.copyfile(tales / part, folder / part)
    (folder / name).write_bytes(POINTER)
    with pytest.raises(BadModel, match=f"{name} is a git-lfs pointer"):
        load_tokenizer(folder)


def test_a_pointer_in_place_of_a_pickle_is_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "pytorch_model.bin").write_bytes(POINTER)
    for step in (inspect, find_source):
        with pytest.raises(BadModel, match=r"pytorch_model\.bin is a git-lfs pointer"):
            step(folder)


def test_a_pointer_that_nobody_needs_does_no_harm(folder: Path) -> None:
    for name in ("pytorch_model.bin", "tf_model.h5", "vocab.json", "merges.txt"):
        (folder / name).write_bytes(POINTER)
    assert inspect(folder).gpt2 is not None
    assert load_tokenizer(folder).encode("The")


FOREIGN = {
    "gguf": (["gpt2.Q4_K_M.gguf"], "GGUF"),
    "onnx": (["decoder_model.onnx"], "ONNX"),
    "onnx in a folder": (["onnx/model.onnx"], "ONNX"),
    "openvino": (["openvino_model.xml", "openvino_model.bin"], "OpenVINO"),
    "tensorflow": (["tf_model.h5"], "TensorFlow model"),
    "flax": (["flax_model.msgpack"], "Flax"),
    "openai": (["model.ckpt.index", "model.ckpt.data-00000-of-00001"], "TensorFlow 1"),
    "mlx": (["weights.npz"], "MLX"),
    "adapter": (["adapter_config.json", "adapter_model.safetensors"], "adapter"),
    "rust": (["rust_model.ot"], "rust-bert"),
    "ctranslate2": (["model.bin", "vocabulary.json"], "CTranslate2"),
    "keras hub": (["model.weights.h5", "metadata.json", "task.json"], "Keras Hub"),
    "llamafile": (["gpt2.llamafile"], "llamafile"),
    "mlc": (["mlc-chat-config.json", "params_shard_0.bin"], "MLC"),
    "tensorrt": (["rank0.engine"], "TensorRT"),
    "deepspeed": (["zero_to_fp32.py", "latest"], "DeepSpeed"),
    "distributed": (["__0_0.distcp", ".metadata"], "distributed checkpoint"),
}
CONVERTED = {"gguf", "tensorflow", "flax", "openai", "mlx", "keras hub"}


@pytest.mark.parametrize("config", [True, False])
@pytest.mark.parametrize(("names", "what"), FOREIGN.values(), ids=list(FOREIGN))
def test_a_model_of_another_program_is_named(
    folder: Path, names: list[str], what: str, config: bool
) -> None:
    (folder / "model.safetensors").unlink()
    if not config:
        (folder / "config.json").unlink()
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"...")
    with pytest.raises(BadModel, match=rf"foreign model: .*{what}") as caught:
        inspect(folder)
    assert caught.value.hint
    assert "Download or save the model again" not in caught.value.hint


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_can_be_converted_says_how(folder: Path, kind: str) -> None:
    (folder / "model.safetensors").unlink()
    names, _ = FOREIGN[kind]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"...")
    with pytest.raises(BadModel) as caught:
        inspect(folder)
    command = f"gptcli models convert {folder}"
    assert (command in caught.value.hint) == (kind in CONVERTED)
    if kind == "adapter":  # the one kind that is used as it is
        assert choose_files(names, "someone/model") == names
        names = names[:1]
    with pytest.raises(BadModel) as caught:
        choose_files(names, "someone/model")
    assert ("gptcli models convert FOLDER -o" in caught.value.hint) == (kind in CONVERTED)


def test_files_of_other_programs_beside_a_model_do_no_harm(folder: Path) -> None:
    for names, _ in FOREIGN.values():
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"...")
    assert inspect(folder).gpt2 is not None


def test_a_configuration_of_ctranslate2_is_not_called_corrupt(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.bin")
    (folder / "vocabulary.json").write_text("[]")
    (folder / "config.json").write_text('{"bos_token": "<s>", "layer_norm_epsilon": null}')
    with pytest.raises(BadModel, match="CTranslate2"):
        inspect(folder)


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("quantization", {"bits": 4, "group_size": 64}, "MLX"),
        ("quantization_config", {"quant_method": "gptq", "bits": 4}, "GPTQ"),
        ("quantization_config", {"quant_method": "awq"}, "AWQ"),
    ],
)
def test_quantized_weights_are_named(folder: Path, key: str, value: object, what: str) -> None:
    config = json.loads((folder / "config.json").read_text()) | {key: value}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadModel, match=what):
        inspect(folder)


def test_mlx_tells_its_quantisation_under_two_keys(folder: Path) -> None:
    told = {"bits": 4, "group_size": 64, "mode": "affine"}
    config = json.loads((folder / "config.json").read_text())
    config |= {"quantization": told, "quantization_config": told}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadModel, match="MLX") as caught:
        inspect(folder)
    assert "gptcli models convert" in caught.value.hint


def test_weights_with_names_of_another_program_are_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = file.read_bytes()
    for new, what in ((b"model.h.", "an MLX model"), (b"blocks.0.h.", "no tensor of transformers")):
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        renamed = {
            name.replace("transformer.", new.decode()): entry for name, entry in header.items()
        }
        text = json.dumps(renamed).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
        with pytest.raises(BadModel, match=what):
            inspect(folder)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["README.md", "gpt2.Q8_0.gguf"], "GGUF"),
        (["config.json", "onnx/decoder_model.onnx", "tokenizer.json"], "ONNX"),
        (["config.json", "tf_model.h5", "vocab.json", "merges.txt"], "TensorFlow"),
    ],
)
def test_a_repository_of_another_program_is_named(names: list[str], what: str) -> None:
    with pytest.raises(BadModel, match=rf"someone/model: the repository holds .*{what}"):
        choose_files(names, "someone/model")


def test_settings_of_miditok_are_named(folder: Path) -> None:
    settings = {"config": {"beat_res": {}}, "tokenization": "REMI", "miditok_version": "3.0.4"}
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    with pytest.raises(BadModel, match="MidiTok"):
        load_tokenizer(folder)
