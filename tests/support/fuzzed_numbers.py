"""GGUF files and MLX's arrays that are nearly good."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gptcli.checkpoints.config_json import CONFIG, gpt2_config
from gptcli.checkpoints.formats.locked.readers import gguf_file, mlx
from gptcli.checkpoints.formats.locked.source import Job, Refused, check_complete
from gptcli.errors import BadModel
from support.fuzzed_readers import Reader
from support.fuzzing import TEXTS, json_files
from support.gguf_files import METADATA, changed

NUMBERS = st.one_of(
    st.sampled_from([0, 1, 7, 8, 31, 32, 33, 255, 2**16, 2**31 - 1, 2**32 - 1]),
    st.integers(-(2**31), 2**32 - 1),
)
SETTINGS = st.one_of(
    NUMBERS,
    st.booleans(),
    st.floats(width=32),
    TEXTS,
    st.lists(TEXTS, max_size=9),
    st.lists(NUMBERS.filter(lambda number: number >= 0), max_size=9),
)


@dataclass(frozen=True)
class Damage:
    """What is done to the bytes of a good file: some changed, and sometimes the end cut off."""

    changed: tuple[tuple[int, int], ...]
    kept: float

    def of(self, data: bytes) -> bytes:
        found = bytearray(data)
        for place, byte in self.changed:
            found[place % len(found)] = byte
        return bytes(found[: int(self.kept * len(found))])


DAMAGES = st.builds(
    Damage,
    st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 255)), max_size=3).map(tuple),
    st.one_of(st.just(1.0), st.just(1.0), st.just(1.0), st.floats(0, 1)),
)
SIZES = st.lists(st.one_of(st.integers(0, 128), st.integers(0, 2**64 - 1)), max_size=6).map(tuple)
GGUF_CASES = st.tuples(
    st.dictionaries(st.sampled_from(sorted(METADATA)), st.one_of(st.none(), SETTINGS), max_size=2),
    st.one_of(st.none(), st.none(), st.tuples(st.integers(0, 27), SIZES, st.integers(0, 45))),
    DAMAGES,
)


@cache
def _arrays() -> bytes:
    """An .npz of a GPT-2 of one layer and width 4."""
    shapes: dict[str, tuple[int, ...]] = {"wte": (16, 4), "wpe": (8, 4), "ln_f": (4,)}
    for name, shape in {
        "ln_1": (4,),
        "attn.c_attn": (12, 4),
        "attn.c_proj": (4, 4),
        "ln_2": (4,),
        "mlp.c_fc": (16, 4),
        "mlp.c_proj": (4, 16),
    }.items():
        shapes[f"h.0.{name}"] = shape
    arrays = {}
    for name, shape in shapes.items():
        arrays[f"model.{name}.weight"] = np.ones(shape, "<f4")
        if name not in ("wte", "wpe"):
            arrays[f"model.{name}.bias"] = np.ones(shape[:1], "<f4")
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


@st.composite
def npz_files(draw: st.DrawFn) -> bytes:
    """An .npz with some bytes changed, among its headers more often than among its numbers."""
    data = _arrays()
    if draw(st.booleans()):
        old = draw(st.sampled_from([b"<f4", b"(4,)", b"(12, 4)", b"PK\3\4", b"PK\1\2", b"False"]))
        new = draw(st.sampled_from([b"|O8", b"<i8", b"(9,)", b"(-1, 4)", b"True ", b"PK\1\1", b""]))
        data = data.replace(old, new, draw(st.integers(1, 3)))
    return draw(DAMAGES).of(data)


MLX_CONFIG: dict[str, Any] = {
    "model_type": "gpt2",
    "n_embd": 4,
    "n_head": 2,
    "n_layer": 1,
    "n_positions": 8,
    "vocab_size": 16,
    "quantization": {"bits": 4, "group_size": 32, "mode": "affine"},
}


def _read(reader: ModuleType, *files: Path) -> None:
    """A reader's answer with each tensor read, or an error as `models convert` shows it."""
    try:
        source = reader.read(Job(folder=files[0].parent, files=files))
        assert source.config is not None
        check_complete(gpt2_config(source.config, {}, Path(CONFIG))[0], source.tensors)
        for tensor in source.tensors:
            values = tensor.read()
            assert values.shape == tensor.shape, tensor.origin
        json.dumps([source.config, source.left_out, source.texts, source.notices])
    except Refused as error:
        raise BadModel("unsafe model file", str(error), "Choose another model") from None


def read_gguf(folder: Path, case: tuple[dict[str, Any], Any, Damage]) -> None:
    """A GGUF file with some keys, a tensor or bytes changed."""
    metadata, told, damage = case
    file = changed(metadata)
    if told is not None:
        place, sizes, kind = told
        name = sorted(file.tensors)[place]
        file.tensors[name] = replace(file.tensors[name], sizes=sizes, kind=kind)
    (folder / "model.gguf").write_bytes(damage.of(file.bytes()))
    _read(gguf_file, folder / "model.gguf")


def read_mlx(folder: Path, case: tuple[bytes, bytes]) -> None:
    """MLX's config.json and weights.npz."""
    for name, data in zip(("config.json", "weights.npz"), case, strict=True):
        (folder / name).write_bytes(data)
    _read(mlx, folder / "config.json", folder / "weights.npz")


READERS = [
    Reader("GGUF files", GGUF_CASES, read_gguf),
    Reader("MLX models", st.tuples(json_files(st.just(MLX_CONFIG)), npz_files()), read_mlx),
]
