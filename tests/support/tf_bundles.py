"""Tensor bundles written as TensorFlow writes them, and in ways in which it never would."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gptcli.checkpoints.formats.locked.readers.tensorflow.crc32c import crc32c, masked

Array = np.ndarray[Any, np.dtype[Any]]
SIZES = {"n_vocab": 29, "n_ctx": 12, "n_embd": 8, "n_head": 2, "n_layer": 2}
TYPES = {"<f4": 1, "<f8": 2, "<i4": 3, "|i1": 6, "<i8": 9, "<f2": 19}
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")


@dataclass(frozen=True)
class Stored:
    """One line of the index; each part can be made wrong. `key` of None is the name."""

    name: str
    type: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    key: bytes | None = None
    slices: tuple[tuple[tuple[int, int] | None, ...], ...] = ()

    def entry(self) -> bytes:
        """The protocol buffer."""
        shape = b"".join(_bytes(2, _number(1, size)) for size in self.shape)
        data = _number(1, self.type) + _bytes(2, shape) + _number(3, self.shard)
        data += _number(4, self.offset) + _number(5, self.size)
        data += b"\x35" + (self.crc % 2**32).to_bytes(4, "little")
        return data + b"".join(_bytes(7, _slice(spans)) for spans in self.slices)


def gpt2(seed: int = 0, scope: str = "model/", dtype: str = "<f4") -> dict[str, Array]:
    """Random weights of a small GPT-2 under OpenAI's names."""
    random = np.random.default_rng(seed)
    width = SIZES["n_embd"]
    shapes: dict[str, tuple[int, ...]] = {
        "wte": (SIZES["n_vocab"], width),
        "wpe": (SIZES["n_ctx"], width),
        "ln_f/g": (width,),
        "ln_f/b": (width,),
    }
    for layer in range(SIZES["n_layer"]):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h{layer}/{norm}/{part}": (width,) for part in "gb"}
        for name, rows, columns in (
            ("attn/c_attn", width, 3 * width),
            ("attn/c_proj", width, width),
            ("mlp/c_fc", width, 4 * width),
            ("mlp/c_proj", 4 * width, width),
        ):
            shapes[f"h{layer}/{name}/w"] = (1, rows, columns)
            shapes[f"h{layer}/{name}/b"] = (columns,)
    return {
        scope + name: random.normal(name.endswith("g"), 0.3, shape).astype(dtype)
        for name, shape in shapes.items()
    }


def write(
    folder: Path,
    tensors: Mapping[str, Array],
    *,
    name: str = "model.ckpt",
    shards: int = 1,
    big: bool = False,
    types: Mapping[str, int] = {},
    change: Callable[[list[Stored]], Iterable[Stored]] = list,
    header: bytes | None = None,
    **table: Any,
) -> tuple[Path, ...]:
    """A bundle and its hparams.json; the files, the index first.

    types: TensorFlow's number of a type where NumPy lacks it. change: makes other lines of the
    index than those that are right. table: for `table_of`.
    """
    data = [bytearray() for _ in range(shards)]
    stored = []
    for place, (key, values) in enumerate(sorted(tensors.items())):
        shard = place % shards
        raw = values.astype(values.dtype.newbyteorder(">")).tobytes() if big else values.tobytes()
        checksum = masked(crc32c(np.frombuffer(raw, np.uint8)))
        kind = types.get(key) or TYPES[values.dtype.str]
        place_in = len(data[shard])
        stored.append(Stored(key, kind, values.shape, shard, place_in, len(raw), checksum))
        data[shard] += raw
    if header is None:
        header = _number(1, shards) + _number(2, int(big)) + _bytes(3, _number(1, 1))
    lines = [(line.key or line.name.encode(), line.entry()) for line in change(stored)]
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / f"{name}.index"
    index.write_bytes(table_of([(b"", header), *sorted(lines)], **table))
    files = [index]
    for shard, content in enumerate(data):
        files.append(folder / f"{name}.data-{shard:05d}-of-{shards:05d}")
        files[-1].write_bytes(content)
    (folder / "hparams.json").write_text(json.dumps(SIZES), encoding="utf-8")
    return (*files, folder / "hparams.json")


def partition(tensors: dict[str, Array], name: str, cuts: list[int]) -> Callable[..., Any]:
    """Cut a matrix along its last axis; for `write`, what puts the whole into the index."""
    whole = tensors.pop(name)
    edges = [0, *cuts, whole.shape[-1]]
    spans = [(begin, end - begin) for begin, end in pairwise(edges)]
    around: list[tuple[int, int] | None] = [None] * (whole.ndim - 1)
    keys = {}
    for place, (begin, length) in enumerate(spans):
        label = f"{name}/part_{place}"
        tensors[label] = np.ascontiguousarray(whole[..., begin : begin + length])
        keys[label] = slice_key(name, [*around, (begin, length)])

    def change(stored: list[Stored]) -> list[Stored]:
        kind = next(line.type for line in stored if line.name in keys)
        slices = tuple((*around, span) for span in spans)
        joined = Stored(name, kind, whole.shape, 0, 0, 0, 0, slices=slices)
        return [replace(line, key=keys.get(line.name, line.key)) for line in stored] + [joined]

    return change


def slice_key(name: str, spans: list[tuple[int, int] | None]) -> bytes:
    """The key of a slice, whose numbers are below 8192."""
    key = b"\0" + name.encode() + b"\0\1\1" + bytes([len(spans)])
    for span in spans:
        for number in (0, -1) if span is None else span:
            if -64 <= number < 64:
                key += bytes([0x80 ^ (number & 0xFF)])
            else:
                key += (0xC000 ^ number).to_bytes(2, "big")
    return key


def table_of(
    pairs: Iterable[tuple[bytes, bytes]],
    *,
    per_block: int = 9,
    pack: Callable[[bytes], bytes] | None = None,
    kind: int | None = None,
    handles: Callable[[list[bytes]], list[bytes]] = list,
    magic: bytes = MAGIC,
) -> bytes:
    """A sorted table. `handles` can change where the index says that blocks lie."""
    rows = list(pairs)
    data = bytearray()
    index = []
    for begin in range(0, len(rows), per_block):
        part = rows[begin : begin + per_block]
        index.append((part[-1][0], _append(data, block_of(part), pack, kind)))
    places = handles([place for _, place in index])
    keyed = zip((key for key, _ in index), places, strict=True)
    meta = _append(data, block_of([]), None, None)
    footer = meta + _append(data, block_of(list(keyed)), None, None)
    return bytes(data) + footer.ljust(40, b"\0") + magic


def block_of(rows: list[tuple[bytes, bytes]], restart: int = 4) -> bytes:
    """A block: each key without what it shares with the one before."""
    data, restarts, before = bytearray(), [], b""
    for place, (key, value) in enumerate(rows):
        shared = 0
        if place % restart == 0:
            restarts.append(len(data))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        data += varint(shared) + varint(len(key) - shared) + varint(len(value))
        data += key[shared:] + value
        before = key
    restarts = restarts or [0]
    data += b"".join(place.to_bytes(4, "little") for place in restarts)
    return bytes(data) + len(restarts).to_bytes(4, "little")


def _append(
    data: bytearray, block: bytes, pack: Callable[[bytes], bytes] | None, kind: int | None
) -> bytes:
    """Append a block and what stands behind it; its handle."""
    body = pack(block) if pack else block
    tail = bytes([kind if kind is not None else int(pack is not None)])
    handle = varint(len(data)) + varint(len(body))
    checksum = masked(crc32c(np.frombuffer(body + tail, np.uint8)))
    data += body + tail + checksum.to_bytes(4, "little")
    return handle


def varint(number: int) -> bytes:
    """A number of 64 bits, seven to a byte."""
    number %= 2**64
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def _number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value) if value else b""


def _bytes(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def _slice(spans: tuple[tuple[int, int] | None, ...]) -> bytes:
    return b"".join(
        _bytes(1, b"" if span is None else _number(1, span[0]) + _number(2, span[1]))
        for span in spans
    )
