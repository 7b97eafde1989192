"""MLX's models that are none, and an .npz that is none."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Arrays = dict[str, np.ndarray[Any, Any]]


WIDTH, PLACES, TOKENS = 32, 16, 24


CONFIG = {
    "model_type": "gpt2",
    "n_embd": WIDTH,
    "n_head": 4,
    "n_layer": 1,
    "n_positions": PLACES,
    "vocab_size": TOKENS,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


QUERY = "h.0.attn.c_attn"


def plain() -> Arrays:
    """The values by transformers' names; matrices of the blocks as (in, out)."""
    random = np.random.default_rng(3)
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (TOKENS, WIDTH),
        "wpe.weight": (PLACES, WIDTH),
        "ln_f.weight": (WIDTH,),
        "ln_f.bias": (WIDTH,),
    }
    for name, shape in {
        "ln_1": (WIDTH,),
        "attn.c_attn": (WIDTH, 3 * WIDTH),
        "attn.c_proj": (WIDTH, WIDTH),
        "ln_2": (WIDTH,),
        "mlp.c_fc": (WIDTH, 4 * WIDTH),
        "mlp.c_proj": (4 * WIDTH, WIDTH),
    }.items():
        shapes[f"h.0.{name}.weight"] = shape
        shapes[f"h.0.{name}.bias"] = shape[-1:]
    return {name: random.normal(0, 0.3, shape).astype("<f4") for name, shape in shapes.items()}


VALUES = plain()


def turned(values: Arrays, prefix: str = "model.") -> Arrays:
    """As MLX stores them: matrices of the blocks as (out, in)."""
    return {
        prefix + name: np.ascontiguousarray(value.T) if is_matrix(name, value) else value
        for name, value in values.items()
    }


def is_matrix(name: str, value: np.ndarray[Any, Any]) -> bool:
    return name.startswith("h.") and value.ndim == 2


def quantised(value: np.ndarray[Any, Any], bits: int, group: int) -> tuple[Arrays, Any]:
    """The parts of a matrix (out, in), packed number by number, and what they stand for."""
    rows, width = value.shape
    grouped = value.reshape(rows, width // group, group)
    low, high = grouped.min(axis=2), grouped.max(axis=2)
    scales = ((high - low) / (2**bits - 1)).astype("<f4")
    whole = np.rint((grouped - low[:, :, None]) / scales[:, :, None]).astype(int)
    packed = np.zeros((rows, width * bits // 32), "<u4")
    for row, numbers in enumerate(whole.reshape(rows, width)):
        stream = sum(int(number) << (bits * place) for place, number in enumerate(numbers))
        packed[row] = np.frombuffer(stream.to_bytes(width * bits // 8, "little"), "<u4")
    back = (whole * scales[:, :, None] + low[:, :, None]).reshape(rows, width)
    return {"weight": packed, "scales": scales, "biases": low.astype("<f4")}, back


def folder_of(
    path: Path,
    arrays: Arrays,
    config: dict[str, Any] | None = None,
    name: str = "model.safetensors",
) -> tuple[Path, ...]:
    """The files of a model: config.json and its weights."""
    (path / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    if name.endswith(".npz"):
        np.savez(path / name, **arrays)
    else:
        save_file(arrays, path / name)
    return path / "config.json", path / name


Damage = Callable[[Path], tuple[Path, ...]]


def changed(**changes: np.ndarray[Any, Any] | None) -> Damage:
    """Arrays with some changed, added, or left out (None)."""

    def make(path: Path) -> tuple[Path, ...]:
        arrays = turned(VALUES) | {
            name.replace("__", "."): value for name, value in changes.items()
        }
        return folder_of(path, {name: value for name, value in arrays.items() if value is not None})

    return make


def told(**changes: Any) -> Damage:
    return lambda path: folder_of(path, turned(VALUES), CONFIG | changes)


def packed(**parts: np.ndarray[Any, Any] | None) -> Damage:
    """A quantised matrix with parts that were changed."""

    def make(path: Path) -> tuple[Path, ...]:
        arrays = turned(VALUES)
        base = f"model.{QUERY}"
        good, _ = quantised(arrays.pop(f"{base}.weight"), 4, 32)
        arrays |= {f"{base}.{name}": v for name, v in (good | parts).items() if v is not None}
        return folder_of(path, arrays)

    return make


def npz(edit: Callable[[bytes], bytes]) -> Damage:
    """An .npz whose bytes were changed."""

    def make(path: Path) -> tuple[Path, ...]:
        files = folder_of(path, turned(VALUES), name="weights.npz")
        files[1].write_bytes(edit(files[1].read_bytes()))
        return files

    return make


def member(data: bytes, name: str = "model.ln_f.bias.npy", pack: int = 0) -> Damage:
    """An .npz of which a member holds other bytes."""

    def make(path: Path) -> tuple[Path, ...]:
        files = folder_of(path, {}, name="weights.npz")
        with zipfile.ZipFile(files[1], "w", pack) as file:
            for key, value in turned(VALUES).items():
                if f"{key}.npy" != name:
                    buffer = io.BytesIO()
                    np.save(buffer, value)
                    file.writestr(f"{key}.npy", buffer.getvalue())
            file.writestr(name, data)
        return files

    return make


def npy(header: str, data: bytes = bytes(4 * WIDTH)) -> bytes:
    text = header.encode("latin-1")
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + data


def array(descr: str = "<f4", shape: str = "(32,)") -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"


def many(count: int) -> Damage:
    def make(path: Path) -> tuple[Path, ...]:
        files = folder_of(path, {}, name="weights.npz")
        with zipfile.ZipFile(files[1], "w") as file:
            for number in range(count):
                file.writestr(f"{number}.npy", b"")
        return files

    return make


END = b"PK\5\6"


ONES = np.ones((96, 4), "<u4")


HOSTILE: dict[str, Damage] = {
    "a tensor is missing": changed(model__ln_f__bias=None),
    "a tensor that a GPT-2 lacks": changed(model__h__0__attn__c_qkv=np.ones(3, "<f4")),
    "a name that escapes": lambda path: folder_of(
        path, turned(VALUES) | {"../../x.weight": np.ones(3, "<f4")}
    ),
    "a name with and without prefix": lambda path: folder_of(
        path, turned(VALUES) | {"ln_f.bias": np.ones(WIDTH, "<f4")}
    ),
    "a wrong shape": changed(model__ln_f__bias=np.ones(33, "<f4")),
    "an empty tensor": changed(model__ln_f__bias=np.ones(0, "<f4")),
    "integers": changed(model__ln_f__bias=np.ones(WIDTH, "<i8")),
    "another architecture": told(model_type="llama"),
    "a width of -1": told(n_embd=-1),
    "a width of 2**40": told(n_embd=2**40),
    "a million layers": told(n_layer=1_000_000),
    "other quantisation": told(quantization={"mode": "mxfp4", "bits": 4, "group_size": 32}),
    "a layer of other quantisation": told(quantization={"model.wte": {"mode": "nvfp4"}}),
    "a quantisation that is a list": told(quantization={"mode": ["affine"], "bits": 4}),
    "config.json is a list": lambda path: _texts(path, "[]"),
    "config.json is no JSON": lambda path: _texts(path, "{"),
    "config.json is deep": lambda path: _texts(path, '{"a":' + "[" * 9999 + "]" * 9999 + "}"),
    "no weights": lambda path: folder_of(path, turned(VALUES))[:1],
    "no config.json": lambda path: (path / "config.json", path / "model.safetensors"),
    "no scales": packed(scales=None),
    "no biases": packed(biases=None),
    "scales of another shape": packed(scales=np.ones((96, 3), "<f4")),
    "scales for 7 groups": packed(scales=np.ones((96, 7), "<f4"), biases=np.ones((96, 7), "<f4")),
    "scales of no group": packed(scales=np.ones((96, 0), "<f4"), biases=np.ones((96, 0), "<f4")),
    "scales of fewer rows": packed(scales=np.ones((9, 1), "<f4"), biases=np.ones((9, 1), "<f4")),
    "scales that are a vector": packed(scales=np.ones(96, "<f4"), biases=np.ones(96, "<f4")),
    "scales that are integers": packed(scales=np.ones((96, 1), "<u4")),
    "words that are floats": packed(weight=np.ones((96, 4), "<f4")),
    "words of 7 bits": packed(weight=np.ones((96, 7), "<u4")),
    "words of 32 bits": packed(weight=np.ones((96, 32), "<u4")),
    "no words": packed(weight=np.ones((96, 0), "<u4")),
    "fewer rows of words": packed(weight=np.ones((95, 4), "<u4")),
    "a quantised vector": changed(
        model__ln_f__weight=ONES, model__ln_f__scales=np.ones((96, 1)), model__ln_f__biases=ONES
    ),
    "an .npz of no bytes": npz(lambda data: b""),
    "an .npz that is cut off": npz(lambda data: data[:-50]),
    "an .npz without its beginning": npz(lambda data: data[5000:]),
    "an .npz whose list is elsewhere": npz(
        lambda data: data[: data.rfind(END) + 16] + b"\xff" * 3 + data[data.rfind(END) + 19 :]
    ),
    "an .npz of 2,000 members less": npz(
        lambda data: data[: data.rfind(END) + 10] + b"\xff\xff" + data[data.rfind(END) + 12 :]
    ),
    "an .npz whose list takes 1 GB": npz(
        lambda data: data[: data.rfind(END) + 12] + b"\0\0\0\x40" + data[data.rfind(END) + 16 :]
    ),
    "an .npz of 5,000 members": many(5000),
    "a member whose bytes were changed": npz(lambda data: data.replace(b"\x93NUMPY", b"\x93NUMPX")),
    "a member that is no array": member(b"abc", name="notes.txt"),
    "a member that escapes": member(npy(array()), name="../../x.npy"),
    "a member that is a pickle": member(npy(array("|O"))),
    "a member that is code": member(npy("__import__('os').system('true')")),
    "a member with fields": member(npy("{'descr': [('a', '<f4')], 'shape': (32,), }")),
    "a member of a text": member(npy(array("<U32"))),
    "a big-endian member": member(npy(array(">f4"))),
    "a member of complex numbers": member(npy(array("<c8"))),
    "a member of 10**11 numbers": member(npy(array(shape="(100000000000,)"))),
    "a member of -1 numbers": member(npy(array(shape="(-1,)"))),
    "a member of 20 dimensions": member(npy(array(shape="(" + "1, " * 20 + ")"))),
    "a member of fewer numbers": member(npy(array(shape="(31,)"))),
    "a member without a header": member(b"\x93NUMPY\x01\0"),
    "a member whose header has 60,000 bytes": member(b"\x93NUMPY\x01\0\x60\xea" + b" " * 60_000),
    "a member whose header has 4 GB": member(b"\x93NUMPY\x02\0\xff\xff\xff\xff" + bytes(99)),
    "a member of NumPy's version 9": member(b"\x93NUMPY\x09\0\x10\0" + bytes(99)),
    "a bomb": member(bytes(50_000_000), pack=zipfile.ZIP_DEFLATED),
    "a bomb that is an array": member(
        npy(array(shape="(12500000,)"), bytes(50_000_000)), pack=zipfile.ZIP_DEFLATED
    ),
    "an unknown packing": member(npy(array()), pack=zipfile.ZIP_BZIP2),
}


def _texts(path: Path, config: str) -> tuple[Path, ...]:
    files = folder_of(path, turned(VALUES))
    files[0].write_text(config, encoding="utf-8")
    return files
