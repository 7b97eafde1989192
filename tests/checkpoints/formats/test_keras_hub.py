"""Keras Hub's GPT-2: the same numbers come out of folders and archives, and no file does harm."""

from __future__ import annotations

import json
import os
import subprocess
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.foreign_files import (
    JSON,
    KERAS,
    checked,
    keras_variables,
    random_tensors,
    scores,
    write_h5,
    write_preset,
)

from gptcli.checkpoints.formats.conversion import convert
from gptcli.checkpoints.formats.locked.readers import keras_hub
from gptcli.checkpoints.formats.locked.source import Job, Refused, Source
from gptcli.checkpoints.sources import ModelSource
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import BadModel

REFEREE = Path(__file__).parents[2] / "support" / "keras_hub_referee.py"
PYTHON = os.environ.get("KERAS_HUB_PYTHON")  # of a Python that CONTRIBUTING describes
TENSORS = random_tensors()
VARIABLES = keras_variables(TENSORS)
TASK = {"class_name": "GPT2CausalLM", "config": {"backbone": KERAS, "name": "x"}}


def read(*files: Path) -> Source:
    return keras_hub.read(Job(folder=files[0].parent, files=files))


def preset(folder: Path, arrays: dict[str, np.ndarray], prefix: str = "layers/") -> list[Path]:
    """config.json and weights."""
    (folder / "config.json").write_text(json.dumps(KERAS))
    return [write_h5(folder / "model.weights.h5", arrays, prefix), folder / "config.json"]


def test_every_number_comes_out_under_its_name(tmp_path: Path) -> None:
    source = read(*write_preset(tmp_path, TENSORS))
    assert checked(source, TENSORS, JSON)
    assert source.config is not None
    assert source.config["n_inner"] == 10
    assert (source.config["bos_token_id"], source.config["eos_token_id"]) == (4, 4)
    for name, text in source.texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "tokenizer.json").unlink()  # Keras' own, of another kind
    assert load_tokenizer(tmp_path).encode("ab<|endoftext|>a") == [2, 4, 0]


@pytest.mark.parametrize(
    "prefix", ["_layer_checkpoint_dependencies/", "layers/gpt2_backbone/layers/"]
)
def test_the_model_may_lie_in_another_one(prefix: str, tmp_path: Path) -> None:
    assert checked(read(*preset(tmp_path, VARIABLES, prefix)), TENSORS, JSON)


def test_older_names_of_layers_are_known(tmp_path: Path) -> None:
    changes = (
        ("reversible_embedding", "token_embedding"),
        ("_layer_norm", "_layernorm"),
        ("_self_attention_layer/", "_self_attention_layer/_"),
        ("transformer_decoder_1", "transformer_layer_1"),
    )
    arrays = {}
    for name, values in VARIABLES.items():
        for new, old in changes:
            name = name.replace(new, old)
        arrays[name] = values
    assert checked(read(*preset(tmp_path, arrays)), TENSORS, JSON)


def test_states_of_training_are_left_out_by_name(tmp_path: Path) -> None:
    files = preset(tmp_path, VARIABLES)
    with h5py.File(files[0], "a") as file:
        file["optimizer/vars/0"] = np.int32(3)
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, "u4")
    source = read(*files)
    assert checked(source, TENSORS, JSON)
    assert sorted(source.left_out.values()) == [
        "the state of a random generator",
        "the state of the optimizer",
    ]


def test_bfloat16_keeps_its_bits(tmp_path: Path) -> None:
    words = {name: (values.view("<u4") >> 16).astype("<u2") for name, values in TENSORS.items()}
    arrays = {name: values.view("V2") for name, values in keras_variables(words).items()}
    source = read(*preset(tmp_path, arrays))
    assert {tensor.dtype for tensor in source.tensors} == {"BF16"}
    assert all(np.array_equal(tensor.read(), words[tensor.name]) for tensor in source.tensors)


def test_shards_are_one_model_and_heads_of_tasks_no_part_of_it(tmp_path: Path) -> None:
    names = list(VARIABLES)
    files = preset(tmp_path, {name: VARIABLES[name] for name in names[:15]})
    more = {name: VARIABLES[name] for name in names[15:]}
    files.append(write_h5(tmp_path / "model_00001.weights.h5", more))
    files.append(write_h5(tmp_path / "task.weights.h5", {"a": np.zeros(1)}))
    assert checked(read(*files), TENSORS, JSON)


def archive(path: Path, config: Any = TASK, packing: int = zipfile.ZIP_STORED) -> Path:
    weights = write_h5(path.with_suffix(".h5"), VARIABLES, "layers/gpt2_backbone/layers/")
    with zipfile.ZipFile(path, "w", packing) as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", json.dumps(config))
        file.write(weights, "model.weights.h5")
        place = "assets/preprocessor/tokenizer"
        file.writestr(f"{place}/vocabulary.json", '{"a": 0, "<|endoftext|>": 1}', 8)
        file.writestr(f"{place}/merges.txt", "#version: 0.2\n")
    return path


def test_an_archive_is_read_as_it_is(tmp_path: Path) -> None:
    source = read(archive(tmp_path / "a.keras"))
    assert checked(source, TENSORS, JSON)
    assert json.loads(source.texts["vocab.json"]) == {"a": 0, "<|endoftext|>": 1}
    assert source.texts["merges.txt"] == "#version: 0.2\n"


def _config(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = deepcopy(KERAS)
    found["config"].update(changes)
    return found


CONFIGS: dict[str, tuple[Any, str]] = {
    "a list": ([], "not a JSON object"),
    "nothing in it": ({}, "its class is None"),
    "another model": ({**KERAS, "class_name": "LlamaBackbone"}, "its class is 'LlamaBackbone'"),
    "code": (
        {"class_name": "Lambda", "config": {"function": {"class_name": "__lambda__"}}},
        "its class is 'Lambda'",
    ),
    "a class of no text": ({**KERAS, "class_name": ["GPT2Backbone"]}, "not GPT2Backbone"),
    "no numbers": ({**KERAS, "config": None}, "not GPT2Backbone"),
    "a task without a model": ({"class_name": "GPT2CausalLM", "config": {}}, "its class is None"),
    "a task of another model": (
        {"class_name": "GPT2CausalLM", "config": {"backbone": {"class_name": "X"}}},
        "its class is 'X'",
    ),
    "no layers": (_config(num_layers=0), "num_layers is 0"),
    "many layers": (_config(num_layers=10**9), "num_layers is 1000000000"),
    "negative": (_config(hidden_dim=-8), "hidden_dim is -8"),
    "a float": (_config(hidden_dim=8.0), "hidden_dim is 8.0"),
    "not a number": (_config(hidden_dim=float("nan")), "hidden_dim is nan"),
    "a switch": (_config(num_heads=True), "num_heads is True"),
    "a text": (_config(num_heads="2"), "num_heads is '2'"),
    "nothing": (_config(intermediate_dim=None), "intermediate_dim is None"),
    "heads that do not divide": (_config(num_heads=3), "num_heads 3 does not divide"),
    "other heads": (_config(num_heads=4), "has the shape [8, 2, 4]"),
    "another width": (_config(hidden_dim=16), "has the shape [8, 2, 4]"),
    "another vocabulary": (_config(vocabulary_size=13), "wrong shape"),
    "another context": (_config(max_sequence_length=7), "wrong shape"),
    "another MLP": (_config(intermediate_dim=11), "wrong shape"),
    "a layer more": (_config(num_layers=3), "missing tensors: h.2"),
    "a layer less": (_config(num_layers=1), "lacks: layers/transformer_decoder_1"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_of_something_else_is_refused(case: str, tmp_path: Path) -> None:
    config, told = CONFIGS[case]
    files = preset(tmp_path, VARIABLES)
    (tmp_path / "config.json").write_text(json.dumps(config))
    _assert_refused(files, told)


def _assert_refused(files: list[Path], told: str) -> None:
    tracemalloc.start()
    begin = time.process_time()
    try:
        with pytest.raises((Refused, BadModel)) as refused:
            checked(read(*files), TENSORS, JSON)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told in str(refused.value)
    assert len(str(refused.value)) < 2000
    assert peak < 2**24
    assert time.process_time() - begin < 5


ATTENTION = "transformer_decoder/_self_attention_layer"
ONES = np.ones(8, "f4")
HEADS: dict[str, tuple[dict[str, Any], str]] = {
    "no query": ({f"{ATTENTION}/query_dense/vars/0": None}, "only in part"),
    "a query of another shape": (
        {f"{ATTENTION}/query_dense/vars/0": np.ones((8, 4, 2), "f4")},
        "has the shape [8, 4, 2], not [8, 2, 4]",
    ),
    "a flat query": (
        {f"{ATTENTION}/query_dense/vars/0": np.ones((8, 8), "f4")},
        "the shape [8, 8]",
    ),
    "an output of another shape": (
        {f"{ATTENTION}/output_dense/vars/0": np.ones((4, 2, 8), "f4")},
        "has the shape [4, 2, 8]",
    ),
    "a query of another type": (
        {f"{ATTENTION}/query_dense/vars/0": np.ones((8, 2, 4), "f2")},
        "has the shape",
    ),
    "int8": ({f"{ATTENTION}/query_dense/vars/0": np.ones((8, 2, 4), "i1")}, "holds i1, not"),
    "scales of int8": ({f"{ATTENTION}/query_dense/vars/2": ONES}, "lacks: layers/transformer_dec"),
    "another layer": ({"dense/vars/0": ONES}, "lacks: layers/dense/vars/0"),
    "two final norms": ({"layer_norm/vars/0": ONES}, "are the same variable"),
    "a final norm of two dimensions": (
        {"layer_normalization/vars/0": np.ones((2, 2), "f4")},
        "wrong",
    ),
    "no embedding": ({"reversible_embedding/vars/0": None}, "missing tensors: wte.weight"),
}


@pytest.mark.parametrize("case", HEADS)
def test_weights_of_something_else_are_refused(case: str, tmp_path: Path) -> None:
    changes, told = HEADS[case]
    arrays = {name: values for name, values in (VARIABLES | changes).items() if values is not None}
    _assert_refused(preset(tmp_path, arrays), told)


TEXTS: dict[str, tuple[str, bytes, str]] = {
    "a vocabulary that is none": ("vocabulary.json", b"[", "vocabulary.json: it is not JSON"),
    "a deep vocabulary": ("vocabulary.json", b"[" * 100_000, "vocabulary.json: it is not JSON"),
    "a list": ("vocabulary.json", b"[1]", "vocabulary.json: it is not a JSON object"),
    "merges that are no text": ("merges.txt", b"\xff", "merges.txt: invalid UTF-8 at byte 0"),
    "a large configuration": ("config.json", b" " * (2**20 + 1), "larger than 1048576 bytes"),
    "settings that are none": ("tokenizer.json", b"{", "tokenizer.json: it is not JSON"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_small_files_of_something_else_are_refused(case: str, tmp_path: Path) -> None:
    name, data, told = TEXTS[case]
    files = write_preset(tmp_path, TENSORS)
    next(file for file in files if file.name == name).write_bytes(data)
    _assert_refused(files, told)


def _deflated(path: Path) -> None:
    archive(path, packing=zipfile.ZIP_DEFLATED)


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", b" " * 2**24)


def _many(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for number in range(2000):
            file.writestr(f"{number}", b"")


def _twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(TASK))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("config.json", json.dumps(TASK))


def _lzma(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("config.json", json.dumps(TASK))


def _patched(find: bytes, at: int, new: bytes) -> Callable[[Path], None]:
    """An archive with other bytes `at` behind the last place of `find`."""

    def make(path: Path) -> None:
        data = bytearray(archive(path).read_bytes())
        place = data.rfind(find) + at
        data[place : place + len(new)] = new
        path.write_bytes(data)

    return make


def _weights_entry(at: int, new: bytes) -> Callable[[Path], None]:
    """An archive whose list says something else of the weights: 46 bytes stand before its name."""
    return _patched(b"model.weights.h5", at - 46, new)


ARCHIVES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: path.write_bytes(b""), "no zip archive"),
    "bytes": (lambda path: path.write_bytes(b"PK" * 99), "no zip archive"),
    "no files": (lambda path: zipfile.ZipFile(path, "w").close(), "its class is None"),
    "half of it": (
        lambda path: path.write_bytes(archive(path).read_bytes()[:-30]),
        "no zip archive",
    ),
    "packed weights": (_deflated, "is packed, which Keras does not do"),
    "a bomb": (_bomb, "larger than 1048576 bytes"),
    "2000 files": (_many, "lists more files than a model has"),
    "a file twice": (_twice, "a file stands in it twice"),
    "LZMA": (_lzma, "larger than 1048576 bytes, or locked"),
    "weights beyond the end": (_weights_entry(20, b"\xf0\xff\xff\xff" * 2), "beyond the end"),
    "two sizes": (_weights_entry(20, b"\x01\0\0\0"), "beyond the end"),
    "weights in the wrong place": (_weights_entry(42, b"\x01\0\0\0"), "beyond the end"),
    "locked weights": (_weights_entry(8, b"\x01\0"), "is packed"),
    "weights that are none": (_weights_entry(20, b"\x08\0\0\0" * 2), "no HDF5 file"),
    "a list beyond the end": (_patched(b"PK\5\6", 16, b"\xff\xff\xff\x7f"), "is damaged"),
    "a long list": (_patched(b"PK\5\6", 12, b"\xff\xff\xff\x7f"), "lists more files"),
    "Lambda": (
        lambda path: archive(path, {"class_name": "Lambda", "config": {}}),
        "its class is 'Lambda'",
    ),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives_of_something_else_are_refused(case: str, tmp_path: Path) -> None:
    make, told = ARCHIVES[case]
    make(tmp_path / "a.keras")
    _assert_refused([tmp_path / "a.keras"], told)


def test_the_reader_works_in_the_process_without_rights(tmp_path: Path) -> None:
    for name, files in {
        "a": tuple(write_preset(tmp_path, TENSORS)),
        "b": (archive(tmp_path / "a.keras"),),
    }.items():
        (tmp_path / name).mkdir()
        source = ModelSource(kind="x", reader="keras_hub", folder=tmp_path, files=files)
        assert convert(source, tmp_path / name).tensors == len(TENSORS)


@pytest.mark.skipif(PYTHON is None, reason="KERAS_HUB_PYTHON names no Python")
def test_scores_and_tokens_are_those_of_keras_hub(tmp_path: Path) -> None:
    subprocess.run([str(PYTHON), REFEREE, tmp_path / "them"], check=True)
    texts = json.loads((tmp_path / "them" / "texts.json").read_text())
    kinds = sorted(path for path in (tmp_path / "them").iterdir() if path.is_dir())
    assert len(kinds) == 6
    for kind in kinds:
        archives = list(kind.glob("*.keras"))
        files = archives or [path for path in sorted(kind.rglob("*")) if path.is_file()]
        source = keras_hub.read(Job(folder=kind, files=tuple(files)))
        found = scores(source, kind, np.load(kind / "ids.npy"))
        wanted = np.load(kind / "logits.npy")
        assert np.abs(wanted).max() > 0.5
        assert np.abs(found - wanted).max() < 1e-4, kind.name
        tokenizer = load_tokenizer(kind / "ours")
        for text, ids in texts.items():
            assert tokenizer.encode(text) == ids, text
