"""Files of llm.c that are none."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from support.linear_gpt2 import CONTEXT, HEADS, LAYERS, WIDTH, scores, state

ROWS, PADDED = 261, 384


WEIGHTS = {name.removeprefix("transformer."): tensor for name, tensor in state(ROWS).items()}


def header(*values: int) -> bytes:
    return struct.pack("<256i", *values, *[0] * (256 - len(values)))


def debug_state(path: Path, **changes: Any) -> Path:
    """What the model says of two texts, as llm.c's Python program writes it."""
    random = np.random.default_rng(1)
    text = random.integers(0, ROWS, (2, 6)).astype("<i4")
    x, y = text[:, :-1], changes.get("y", text[:, 1:])
    logits = torch.stack([scores(WEIGHTS, row.tolist(), tanh=True) for row in x])
    right = torch.from_numpy(text[:, 1:].astype("i8")).flatten()
    loss = F.cross_entropy(logits.flatten(0, 1), right)
    parts = [x.tobytes(), y.tobytes(), logits.numpy().tobytes(), loss.numpy().tobytes()]
    head = header(*changes.get("head", (20240327, 2, 2, 5)))
    path.write_bytes((head + b"".join(parts) + bytes(99))[: changes.get("cut")])
    return path


def tokens() -> list[bytes]:
    """Single bytes, then tokens of two, of three and of four bytes, and the end."""
    made = [bytes([byte]) for byte in [*range(33, 127), *range(33), *range(127, 256)]]
    return [*made, b"th", b"the", b" the", b"<|endoftext|>", b" t"]


def tokenizer(path: Path, found: list[bytes], end: int = 259, **changes: Any) -> Path:
    """The file of tokens."""
    head = changes.get("head", (20240328, 2, len(found), end))
    data = header(*head) + b"".join(bytes([len(token)]) + token for token in found)
    path.write_bytes(data[: changes.get("cut")] + changes.get("more", b""))
    return path


MODELS: dict[str, dict[str, Any]] = {
    "a Llama": {"head": {0: 20240803}},
    "a state of the optimizer": {"head": {0: 20240527}},
    "another magic": {"head": {0: -1}},
    "an older version": {"head": {1: 1}},
    "a newer version": {"head": {1: 9}},
    "no context": {"head": {2: 0}},
    "a huge context": {"head": {2: 2**31 - 1}},
    "another context": {"head": {2: 11}},
    "a negative vocabulary": {"head": {3: -5}},
    "a huge vocabulary": {"head": {3: 2**31 - 1, 7: 2**31 - 1}},
    "more tokens than rows": {"head": {3: 385}},
    "no layers": {"head": {4: 0}},
    "many layers": {"head": {4: 2**30}},
    "another layer": {"head": {4: 3}},
    "no heads": {"head": {5: 0}},
    "heads that do not fit": {"head": {5: 3}},
    "many heads": {"head": {5: 2**30}},
    "a width of nothing": {"head": {6: 0}},
    "a huge width": {"head": {6: 2**31 - 1}},
    "a negative width": {"head": {6: -16}},
    "fewer rows": {"head": {7: 261}},
    "negative rows": {"head": {7: -1}},
    "huge rows": {"head": {7: 2**31 - 1}},
    "half the numbers": {"head": {1: 5}},
    "a header cut short": {"cut": 1000},
    "nothing": {"cut": 0},
    "a byte missing": {"cut": -1},
    "a number too many": {"more": b"\0\0\0\0"},
}


BESIDE: dict[str, Callable[[Path], Path]] = {
    "a tokenizer cut short": lambda file: tokenizer(file, tokens(), cut=1500),
    "a tokenizer without tokens": lambda file: tokenizer(file, [], head=(20240328, 2, 0, 0)),
    "a tokenizer with more": lambda file: tokenizer(file, tokens(), more=b"\1a"),
    "a token of nothing": lambda file: tokenizer(file, [b"", *tokens()]),
    "a tokenizer of billions": lambda file: tokenizer(file, [], head=(20240328, 2, 2**31 - 1)),
    "a tokenizer of fewer than none": lambda file: tokenizer(file, [], head=(20240328, 2, -1)),
    "a newer tokenizer": lambda file: tokenizer(file, tokens(), head=(20240328, 3, 261, 259)),
    "a newer state": lambda file: debug_state(file, head=(20240327, 3, 2, 5)),
    "a state of no texts": lambda file: debug_state(file, head=(20240327, 2, 0, 5)),
    "a state of negative texts": lambda file: debug_state(file, head=(20240327, 2, -2, 5)),
    "a state of long texts": lambda file: debug_state(file, head=(20240327, 2, 2, 13)),
    "a state of many texts": lambda file: debug_state(file, head=(20240327, 2, 2**30, 12)),
    "a state cut short": lambda file: debug_state(file, cut=9000),
    "a state of other tokens": lambda file: debug_state(file, y=np.full((2, 5), ROWS, "<i4")),
    "a state of no text": lambda file: debug_state(file, y=np.zeros((2, 5), "<i4")),
}


PARTS = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]


def model(path: Path, kind: torch.dtype = torch.float32, **changes: Any) -> Path:
    """A model as llm.c writes it; `head` has the first eight numbers of its header."""
    version = 3 if kind == torch.float32 else 5
    head = [20240326, version, CONTEXT, ROWS, LAYERS, HEADS, WIDTH, PADDED]
    order = [WEIGHTS["wte.weight"], torch.zeros(PADDED - ROWS, WIDTH), WEIGHTS["wpe.weight"]]
    for part in PARTS:
        for what in ("weight", "bias"):
            order += [WEIGHTS[f"h.{layer}.{part}.{what}"] for layer in range(LAYERS)]
    order += [WEIGHTS["ln_f.weight"], WEIGHTS["ln_f.bias"]]
    numbers = torch.cat([tensor.reshape(-1) for tensor in order]).to(kind)
    data = numbers.view(torch.uint8).numpy().tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    for place, value in changes.get("head", {}).items():
        head[place] = value
    data = header(*head) + data
    path.write_bytes(data[: changes.get("cut")] + changes.get("more", b""))
    return path
