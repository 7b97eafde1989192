"""Presets and archives of Keras that are no GPT-2."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.foreign_files import (
    KERAS,
    keras_variables,
    random_tensors,
    write_h5,
)

TENSORS = random_tensors()


VARIABLES = keras_variables(TENSORS)


TASK = {"class_name": "GPT2CausalLM", "config": {"backbone": KERAS, "name": "x"}}


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


TEXTS: dict[str, tuple[str, bytes, str]] = {
    "a vocabulary that is none": ("vocabulary.json", b"[", "vocabulary.json: it is not JSON"),
    "a deep vocabulary": ("vocabulary.json", b"[" * 100_000, "vocabulary.json: it is not JSON"),
    "a list": ("vocabulary.json", b"[1]", "vocabulary.json: it is not a JSON object"),
    "merges that are no text": ("merges.txt", b"\xff", "merges.txt: invalid UTF-8 at byte 0"),
    "a large configuration": ("config.json", b" " * (2**20 + 1), "larger than 1048576 bytes"),
    "settings that are none": ("tokenizer.json", b"{", "tokenizer.json: it is not JSON"),
}


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


def preset(folder: Path, arrays: dict[str, np.ndarray], prefix: str = "layers/") -> list[Path]:
    """config.json and weights."""
    (folder / "config.json").write_text(json.dumps(KERAS))
    return [write_h5(folder / "model.weights.h5", arrays, prefix), folder / "config.json"]
