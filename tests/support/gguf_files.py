"""GGUF files written by the test itself: a tiny GPT-2, with anything changed."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ALIGNMENT = 32
WIDTH, LAYERS, PLACES = 32, 2, 16
TEXTS = ["a", "b", "ab", "\u0120", "\u0120a", "<|endoftext|>", "[unused 6]", "[unused 7]"]
TYPES = [1, 1, 1, 1, 1, 3, 5, 5]
MERGES = ["a b", "\u0120 a"]
METADATA: dict[str, Any] = {
    "general.architecture": "gpt2",
    "gpt2.block_count": LAYERS,
    "gpt2.context_length": PLACES,
    "gpt2.embedding_length": WIDTH,
    "gpt2.feed_forward_length": 4 * WIDTH,
    "gpt2.attention.head_count": 4,
    "gpt2.attention.layer_norm_epsilon": 1e-5,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": TEXTS,
    "tokenizer.ggml.token_type": TYPES,
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.bos_token_id": 5,
    "tokenizer.ggml.eos_token_id": 5,
    "tokenizer.ggml.add_bos_token": False,
}


@dataclass(frozen=True)
class Put:
    """A tensor as it is told: `sizes` begin with the length of a row."""

    sizes: tuple[int, ...]
    kind: int
    data: bytes
    offset: int | None = None  # None: where it lies


@dataclass(frozen=True)
class Raw:
    """A value of metadata of a type of its own."""

    kind: int
    data: bytes


def f32(values: np.ndarray[Any, Any]) -> Put:
    return Put(values.shape[::-1], 0, np.ascontiguousarray(values, "<f4").tobytes())


def tensors(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """The values by llama.cpp's names; matrices as (out, in)."""
    random = np.random.default_rng(seed)
    shapes = {
        "token_embd.weight": (len(TEXTS), WIDTH),
        "position_embd.weight": (PLACES, WIDTH),
        "output_norm.weight": (WIDTH,),
        "output_norm.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        for name, shape in {
            "attn_norm": (WIDTH,),
            "attn_qkv": (3 * WIDTH, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_norm": (WIDTH,),
            "ffn_up": (4 * WIDTH, WIDTH),
            "ffn_down": (WIDTH, 4 * WIDTH),
        }.items():
            shapes[f"blk.{layer}.{name}.weight"] = shape
            shapes[f"blk.{layer}.{name}.bias"] = shape[:1]
    return {name: random.normal(0, 0.3, shape).astype("<f4") for name, shape in shapes.items()}


@dataclass
class GgufFile:
    """All that a file says; `bytes` writes it."""

    metadata: dict[str, Any] = field(default_factory=lambda: dict(METADATA))
    tensors: dict[str, Put] = field(
        default_factory=lambda: {name: f32(values) for name, values in tensors().items()}
    )
    magic: bytes = b"GGUF"
    version: int = 3
    tensor_count: int | None = None
    key_count: int | None = None
    twice: str = ""  # a tensor, or a key, that is told once more
    rest: bytes = b""

    def bytes(self) -> bytes:
        """The file."""
        alignment = self.metadata.get("general.alignment", ALIGNMENT)
        alignment = alignment if isinstance(alignment, int) and alignment > 0 else ALIGNMENT
        entries = [*self.metadata.items()]
        entries += [(key, value) for key, value in entries if key == self.twice]
        header = b"".join(text(key) + value_of(value) for key, value in entries)
        infos, data, count = b"", b"", 0
        for name, put in self.tensors.items():
            place = len(data) if put.offset is None else put.offset
            info = text(name) + struct.pack("<I", len(put.sizes))
            info += b"".join(struct.pack("<Q", size) for size in put.sizes)
            info += struct.pack("<IQ", put.kind, place)
            infos += info * (2 if name == self.twice else 1)
            count += 2 if name == self.twice else 1
            data += put.data + bytes(-len(put.data) % alignment)
        start = self.magic + struct.pack(
            "<IQQ",
            self.version,
            count if self.tensor_count is None else self.tensor_count,
            len(entries) if self.key_count is None else self.key_count,
        )
        head = start + header + infos
        return head + bytes(-len(head) % alignment) + data + self.rest


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def value_of(value: Any) -> bytes:
    """A value of metadata with its type."""
    if isinstance(value, Raw):
        return struct.pack("<I", value.kind) + value.data
    kind, data = _typed(value)
    return struct.pack("<I", kind) + data


def _typed(value: Any) -> tuple[int, bytes]:
    if isinstance(value, bool):
        return 7, struct.pack("<B", value)
    if isinstance(value, int):
        return (4, struct.pack("<I", value)) if value >= 0 else (5, struct.pack("<i", value))
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, str):
        return 8, text(value)
    items = [_typed(item) for item in value]
    kind = items[0][0] if items else 8
    return 9, struct.pack("<IQ", kind, len(items)) + b"".join(data for _, data in items)


def changed(metadata: Mapping[str, Any]) -> GgufFile:
    """A file with other metadata; a key whose value is None is left out."""
    found = METADATA | dict(metadata)
    return GgufFile(metadata={key: value for key, value in found.items() if value is not None})
