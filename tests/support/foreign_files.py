"""Files of other programs, written here: TensorFlow's and Keras' HDF5, Flax' MessagePack."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors.numpy import load

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.config_json import CONFIG as CONFIG_JSON
from gptcli.checkpoints.config_json import gpt2_config
from gptcli.checkpoints.formats.locked import writing
from gptcli.checkpoints.formats.locked.source import Source, check_complete
from gptcli.checkpoints.preflight import inspect
from gptcli.engines.gpt2.reference import ReferenceNetwork
from support.locked_readers import convert

Tensors = dict[str, np.ndarray]
SIZES = {"n_layer": 2, "n_embd": 8, "n_head": 2, "n_positions": 6, "vocab_size": 12, "n_inner": 10}
CONFIG = GPT2Config(**SIZES)  # type: ignore[arg-type]
JSON: dict[str, Any] = {"model_type": "gpt2", **SIZES}
KERAS = {
    "class_name": "GPT2Backbone",
    "config": {
        "vocabulary_size": 12,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 8,
        "intermediate_dim": 10,
        "max_sequence_length": 6,
    },
}


def random_tensors(config: GPT2Config = CONFIG, dtype: str = "<f4") -> Tensors:
    """The tensors of a GPT-2 by torch's names."""
    random = np.random.default_rng(5)
    return {name: random.normal(0, 1, shape).astype(dtype) for name, shape in config.tensors()}


# TensorFlow


def tf_name(name: str) -> str:
    """transformers' name of a tensor in TensorFlow, below the model's own."""
    *parts, kind = name.split(".")
    if parts[0] in ("wte", "wpe"):
        kind = "embeddings"
    elif parts[-1].startswith("ln_"):
        kind = {"weight": "gamma", "bias": "beta"}[kind]
    if parts[0] == "h":
        parts[:2] = [f"h_._{parts[1]}"]
    return "/".join([*parts, f"{kind}:0"])


def tf_shaped(name: str, values: np.ndarray) -> np.ndarray:
    """The values as TensorFlow has them: biases of matrices with a dimension of 1 before."""
    return values[None] if name.endswith(("c_attn.bias", "c_proj.bias", "c_fc.bias")) else values


def write_tf(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    prefix: str = "transformer/tfgpt2lm_head_model/transformer/",
    rename: Callable[[str], str] = lambda name: name,
    libver: Any = "earliest",
    **plan: Any,
) -> Path:
    """tf_model.h5; plan: how h5py is to store each array."""
    with h5py.File(path, "w", libver=libver) as file:
        file.attrs["layer_names"] = ["transformer"]
        file.create_group("top_level_model_weights")
        for name, values in tensors.items():
            place = prefix + rename(tf_name(name))
            file.create_dataset(place, data=tf_shaped(name, values), **plan)
    return path


# Keras


def keras_parts(name: str, values: np.ndarray, config: GPT2Config) -> dict[str, np.ndarray]:
    """A tensor as Keras Hub's variables: by path, below `layers`."""
    *parts, kind = name.split(".")
    number = {"weight": 0, "bias": 1}[kind]
    heads = (config.n_head, config.n_embd // config.n_head)
    if parts[0] != "h":
        names = {"wte": "reversible_embedding", "wpe": "position_embedding"}
        return {f"{names.get(parts[0], 'layer_normalization')}/vars/{number}": values}
    layer = "transformer_decoder" + (f"_{parts[1]}" if parts[1] != "0" else "")
    attention = f"{layer}/_self_attention_layer"
    match ".".join(parts[2:]):
        case "attn.c_attn":
            thirds = np.split(values, 3, axis=-1)
            return {
                f"{attention}/{part}_dense/vars/{number}": third.reshape(third.shape[:-1] + heads)
                for part, third in zip(("query", "key", "value"), thirds, strict=True)
            }
        case "attn.c_proj":
            shaped = values.reshape(*heads, -1) if kind == "weight" else values
            return {f"{attention}/output_dense/vars/{number}": shaped}
        case part:
            names = {
                "ln_1": "_self_attention_layer_norm",
                "ln_2": "_feedforward_layer_norm",
                "mlp.c_fc": "_feedforward_intermediate_dense",
                "mlp.c_proj": "_feedforward_output_dense",
            }
            return {f"{layer}/{names[part]}/vars/{number}": values}


def keras_variables(tensors: Mapping[str, np.ndarray], config: GPT2Config = CONFIG) -> Tensors:
    """All variables of Keras Hub's GPT-2 by path, below `layers`."""
    return {
        path: part
        for name, values in tensors.items()
        for path, part in keras_parts(name, values, config).items()
    }


def write_h5(path: Path, arrays: Mapping[str, np.ndarray], prefix: str = "layers/") -> Path:
    """Arrays in HDF5, by path."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            if values.dtype == np.dtype("V2"):  # as Keras marks bfloat16
                file.create_dataset(prefix + name, data=values).attrs["dtype"] = "bfloat16"
            else:
                file[prefix + name] = values
    return path


def write_preset(folder: Path, tensors: Mapping[str, np.ndarray]) -> list[Path]:
    """A preset of Keras Hub: its files."""
    assets = folder / "assets" / "tokenizer"
    assets.mkdir(parents=True)
    vocabulary = {"a": 0, "b": 1, "ab": 2, "\u0120": 3, "<|endoftext|>": 4}
    texts = {
        folder / "config.json": json.dumps(KERAS),
        folder / "tokenizer.json": json.dumps(
            {"class_name": "GPT2Tokenizer", "config": {"unsplittable_tokens": ["<|endoftext|>"]}}
        ),
        assets / "vocabulary.json": json.dumps(vocabulary),
        assets / "merges.txt": "a b\n",
    }
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
    weights = write_h5(folder / "model.weights.h5", keras_variables(tensors))
    return [weights, *texts]


# Flax


def packed(value: Any) -> bytes:
    """A value in MessagePack; arrays and numbers of numpy as Flax writes them."""
    if isinstance(value, dict):
        head = b"\x80" if len(value) < 1 else b"\xde" + struct.pack(">H", len(value))
        return head + b"".join(packed(key) + packed(item) for key, item in value.items())
    if isinstance(value, str):
        return bytes([0xD9, len(value.encode())]) + value.encode()
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return bytes([value]) if 0 <= value < 128 else b"\xd3" + struct.pack(">q", value)
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, tuple):
        return bytes([0x90 + len(value)]) + b"".join(map(packed, value))
    return array(value.shape, str(value.dtype), value.tobytes())


def array(shape: Any, dtype: str, data: bytes, kind: int = 1) -> bytes:
    """An array of Flax."""
    return extension(packed((tuple(shape), dtype, data)), kind)


def extension(data: bytes, kind: int = 1) -> bytes:
    """An extension of MessagePack."""
    return b"\xc9" + struct.pack(">IB", len(data), kind) + data


def flax_tree(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The tensors as Flax nests them."""
    tree: dict[str, Any] = {}
    for name, values in tensors.items():
        *parts, kind = name.split(".")
        if parts[0] in ("wte", "wpe"):
            kind = "embedding"
        elif parts[-1].startswith("ln_"):
            kind = {"weight": "scale", "bias": "bias"}[kind]
        elif kind == "weight":
            kind, values = "kernel", np.ascontiguousarray(values.T)
        path = parts if parts[0] == "lm_head" else ["transformer", *parts]
        inner = tree
        for part in path:
            inner = inner.setdefault(part, {})
        inner[kind] = values
    return tree


def write_flax(path: Path, tensors: Mapping[str, np.ndarray]) -> Path:
    """flax_model.msgpack."""
    path.write_bytes(packed(flax_tree(tensors)))
    return path


# What readers make of them


def made_of(source: Source) -> Tensors:
    """The tensors that the writer writes."""
    file = io.BytesIO()
    writing.write(file, source.tensors)
    found: Tensors = load(file.getvalue())
    return found


def checked(source: Source, wanted: Mapping[str, np.ndarray], config: dict[str, Any]) -> bool:
    """Whether a source has all tensors of its configuration, and these numbers.

    Raises Refused and BadModel.
    """
    check_complete(gpt2_config(source.config or config, {}, Path(CONFIG_JSON))[0], source.tensors)
    found = made_of(source)
    return found.keys() == wanted.keys() and all(
        values.dtype == found[name].dtype and np.array_equal(values, found[name])
        for name, values in wanted.items()
    )


def scores(source: Source, folder: Path, ids: np.ndarray) -> np.ndarray:
    """What a GPT-2 of a source computes after each token; folder: where config.json lies."""
    config = source.config or json.loads((folder / CONFIG_JSON).read_text(encoding="utf-8"))
    found = inspect(convert(replace(source, config=config), folder / "ours"))
    assert found.gpt2 is not None
    network = ReferenceNetwork(found.gpt2, found)
    return np.asarray(network.logits(network.final(ids.tolist())))
