"""GGUF files that are none."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np

from support.gguf_files import (
    TEXTS,
    GgufFile,
    Put,
    Raw,
    changed,
    f32,
    text,
)

QUERY = "blk.0.attn_qkv.weight"


SPM = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": ["<unk>", "</s>", "\u2581", "a", "b", "\u2581a", "ab", "<0x0A>"],
    "tokenizer.ggml.scores": [0.0, 0.0, -3.0, -4.0, -5.0, -1.0, -2.0, 0.0],
    "tokenizer.ggml.token_type": [2, 3, 1, 1, 1, 1, 1, 6],
    "tokenizer.ggml.merges": None,
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.ggml.eos_token_id": 1,
    "tokenizer.ggml.bos_token_id": 1,
}


WORDS = SPM | {
    "tokenizer.ggml.model": "bert",
    "tokenizer.ggml.tokens": [
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "\u2581ab",
        "\u2581a",
        "b",
        "\u2581c",
        "d",
    ],
    "tokenizer.ggml.scores": None,
    "tokenizer.ggml.token_type": [3, 3, 3, 1, 1, 1, 1, 1],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.seperator_token_id": 2,
    "tokenizer.ggml.eos_token_id": None,
    "tokenizer.ggml.add_bos_token": None,
}


EVERY = GgufFile().bytes()


def told(name: str, **changes: Any) -> GgufFile:
    """A file one of whose tensors is told otherwise."""
    file = GgufFile()
    file.tensors[name] = replace(file.tensors[name], **changes)
    return file


def without(name: str) -> GgufFile:
    file = GgufFile()
    del file.tensors[name]
    return file


def added(name: str, put: Put) -> GgufFile:
    file = GgufFile()
    file.tensors[name] = put
    return file


def keyed(key: str | bytes, value: Any) -> bytes:
    """A file that has one more key, which may be no text."""
    start = struct.pack("<IQQ", 3, 0, 1)
    data = text(key) + struct.pack("<I", value.kind) + value.data
    return b"GGUF" + start + data


def array(kind: int, count: int, data: bytes = b"") -> Raw:
    return Raw(9, struct.pack("<IQ", kind, count) + data)


LONG = struct.pack("<Q", 2**62)


HOSTILE: dict[str, GgufFile | bytes] = {
    "an empty file": b"",
    "a magic alone": b"GGUF",
    "another magic": GgufFile(magic=b"GGML"),
    "a version of the past": GgufFile(version=1),
    "a version of the future": GgufFile(version=4),
    "big-endian": b"GGUF" + struct.pack(">I", 3) + bytes(64),
    "a huge number of tensors": GgufFile(tensor_count=2**63),
    "more tensors than are there": GgufFile(tensor_count=2**12),
    "fewer tensors than are there": GgufFile(tensor_count=3),
    "a huge number of keys": GgufFile(key_count=2**63),
    "more keys than are there": GgufFile(key_count=200),
    "fewer keys than are there": GgufFile(key_count=3),
    "a key of 2**62 bytes": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + LONG + bytes(99),
    "a key that is no UTF-8": keyed(b"\xff\xfe", Raw(0, b"\0")) + bytes(64),
    "a key of 70,000 bytes": keyed("k" * 70_000, Raw(0, b"\0")) + bytes(64),
    "a value of an unknown type": keyed("general.x", Raw(99, bytes(64))),
    "a text of 2**62 bytes": keyed("general.x", Raw(8, LONG + bytes(64))),
    "an array of 2**62 bytes": keyed("general.x", array(0, 2**62, bytes(64))),
    "an array of 2**62 texts": keyed("general.x", array(8, 2**62, bytes(64))),
    "an array of 9,000,000 switches": keyed("general.x", array(7, 9_000_000, bytes(9_000_000))),
    "an array of arrays": keyed("general.x", array(9, 2, bytes(64))),
    "arrays in each other, 20,000 deep": keyed("x", Raw(9, struct.pack("<IQ", 9, 1) * 20_000)),
    "an array of an unknown type": keyed("general.x", array(77, 2, bytes(64))),
    "a switch that is 7": changed({"general.x": Raw(7, b"\x07")}),
    "a key that stands twice": GgufFile(twice="gpt2.block_count"),
    "another architecture": changed({"general.architecture": "llama"}),
    "no architecture": changed({"general.architecture": None}),
    "an adapter": changed({"general.type": "adapter"}),
    "an alignment of 0": changed({"general.alignment": 0}),
    "an alignment of 3": changed({"general.alignment": 3}),
    "an alignment of 2**31": changed({"general.alignment": Raw(4, struct.pack("<I", 2**31))}),
    "an alignment that is a text": changed({"general.alignment": "32"}),
    "no layers": changed({"gpt2.block_count": 0}),
    "4,000,000,000 layers": changed({"gpt2.block_count": 4_000_000_000}),
    "-1 layers": changed({"gpt2.block_count": -1}),
    "layers as a text": changed({"gpt2.block_count": "2"}),
    "layers as a switch": changed({"gpt2.block_count": True}),
    "no width": changed({"gpt2.embedding_length": None}),
    "no heads": changed({"gpt2.attention.head_count": 0}),
    "heads that do not divide": changed({"gpt2.attention.head_count": 5}),
    "fewer heads of keys": changed({"gpt2.attention.head_count_kv": 2}),
    "attention that looks ahead": changed({"gpt2.attention.causal": False}),
    "an epsilon of NaN": changed({"gpt2.attention.layer_norm_epsilon": float("nan")}),
    "an epsilon of 0": changed({"gpt2.attention.layer_norm_epsilon": 0.0}),
    "an endless epsilon": changed({"gpt2.attention.layer_norm_epsilon": float("inf")}),
    "a tensor that stands twice": GgufFile(twice=QUERY),
    "a tensor that is missing": without(QUERY),
    "the embedding is missing": without("token_embd.weight"),
    "a tensor that a GPT-2 lacks": added("blk.0.attn_q.weight", f32(np.ones((2, 32)))),
    "a tensor with our own name": added("wte.weight", f32(np.ones((8, 32)))),
    "a layer too many": added("blk.2.attn_norm.weight", f32(np.ones(32))),
    "a layer 10**30": added(f"blk.{10**30}.attn_norm.weight", f32(np.ones(32))),
    "a name that escapes": added("../../etc/passwd", f32(np.ones(32))),
    "a name of 300 bytes": added("n" * 300, f32(np.ones(32))),
    "5 dimensions": told(QUERY, sizes=(32, 96, 1, 1, 1)),
    "2**32 - 1 dimensions": GgufFile()
    .bytes()
    .replace(text(QUERY) + b"\2\0\0\0", text(QUERY) + b"\xff" * 4),
    "no dimensions": told(QUERY, sizes=()),
    "a dimension of 0": told(QUERY, sizes=(0, 96)),
    "a dimension of 2**63": told(QUERY, sizes=(2**63, 2)),
    "dimensions whose product is 2**64": told(QUERY, sizes=(2**32, 2**32)),
    "a matrix that is turned": told(QUERY, sizes=(96, 32)),
    "a vector for a matrix": told(QUERY, sizes=(32 * 96,)),
    "an unknown type": told(QUERY, kind=99),
    "a type that was removed": told(QUERY, kind=4),
    "integers": told(QUERY, kind=26),
    "a row that is not whole blocks": told(QUERY, kind=14, sizes=(32, 96)),
    "a type that takes less": told(QUERY, kind=1),
    "an offset that is not aligned": told(QUERY, offset=4),
    "an offset of 2**63": told(QUERY, offset=2**63),
    "an offset into the header": told("token_embd.weight", offset=2**64 - 64),
    "an offset that overlaps": told(QUERY, offset=0),
    "a gap": told("token_embd.weight", offset=1 << 14),
    "cut off in its data": EVERY[:-100],
    "cut off in its header": EVERY[:300],
    "cut off behind its header": EVERY[:3000],
    "1,000 bytes too many": GgufFile(rest=bytes(1000)),
    "a tokenizer whose kind is a list": changed({"tokenizer.ggml.model": []}),
    "an unknown tokenizer": changed({"tokenizer.ggml.model": "rwkv"}),
    "an unknown way to split words": changed({"tokenizer.ggml.pre": "tekken"}),
    "tokens that are numbers": changed({"tokenizer.ggml.tokens": [1, 2, 3]}),
    "no tokens": changed({"tokenizer.ggml.tokens": []}),
    "more tokens than embeddings": changed({"tokenizer.ggml.tokens": [*TEXTS, "z"]}),
    "a token that stands twice": changed(
        {"tokenizer.ggml.tokens": [*TEXTS[:6], "a", "q"]} | {"tokenizer.ggml.token_type": [1] * 8}
    ),
    "a token of 5,000 characters": changed({"tokenizer.ggml.tokens": ["a" * 5000, *TEXTS[1:]]}),
    "fewer types than tokens": changed({"tokenizer.ggml.token_type": [1, 1]}),
    "types of NaN": changed({"tokenizer.ggml.token_type": [float("nan")] * 8}),
    "scores of NaN": changed(SPM | {"tokenizer.ggml.scores": [float("nan")] * 8}),
    "Unigram without unknown": changed(
        SPM | {"tokenizer.ggml.model": "t5", "tokenizer.ggml.unknown_token_id": None}
    ),
    "an unknown token beyond the end": changed(
        SPM | {"tokenizer.ggml.model": "t5", "tokenizer.ggml.unknown_token_id": 4_000_000_000}
    ),
    "WordPiece without unknown": changed(WORDS | {"tokenizer.ggml.unknown_token_id": None}),
    "a part of a model in parts": changed({"split.count": 3, "split.no": 0}),
    "a negative number of parts": changed({"split.count": -3}),
}
