"""Weights of each data type, and the passes that compare them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from conftest import TALE
from transformers import GPT2LMHeadModel

from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.tokenizer import load_tokenizer
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.gpt2.int8_weights import load_int8_weights
from gptcli.engines.gpt2.kv_cache import KVCache
from gptcli.engines.gpt2.linear import PlainLinear
from gptcli.engines.gpt2.network import forward_step
from gptcli.engines.gpt2.weights import Float16Weights, Weights

CPU = torch.device("cpu")


# Of the logits of tiny-tales, which go to 19: the largest difference, and that in perplexity.
BOUNDS = {
    "float32": (1e-4, 1e-6),
    "float16": (0.1, 1e-3),
    "float16 late": (0.1, 1e-3),
    "float16 in slots": (0.01, 1e-4),
    "int8": (1.0, 1e-2),
}


def weights_of(folder: Path, kind: str) -> Weights:
    manifest = inspect(folder)
    assert manifest.gpt2 is not None
    reduced = {
        "float32": lambda: None,
        "float16": lambda: Float16Weights(1),
        "float16 late": lambda: Float16Weights(1, late=True),
        "float16 in slots": lambda: Float16Weights(4),
        "int8": lambda: load_int8_weights("x", manifest),
    }[kind]()
    return Weights(manifest.gpt2, manifest, CPU, torch.float32, reduced)


@cache
def tale(folder: Path) -> tuple[list[int], torch.Tensor]:
    """The tokens of a tale, and the scores of transformers in float32 after each of them."""
    tokens = load_tokenizer(folder).encode("<|endoftext|>" + TALE.replace("\n", " "))
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return tokens, model(torch.tensor([tokens])).logits[0]


def at_once(weights: Weights, tokens: list[int]) -> torch.Tensor:
    cache = KVCache(weights.config, 1, CPU, weights.dtype)
    return forward_step(weights, cache, [Segment(0, 0, len(tokens))], tokens)


def one_by_one(weights: Weights, tokens: list[int]) -> torch.Tensor:
    cache = KVCache(weights.config, 1, CPU, weights.dtype)
    rows = [forward_step(weights, cache, [Segment(0, n, 1)], [id]) for n, id in enumerate(tokens)]
    return torch.cat(rows)


def perplexity(logits: torch.Tensor, tokens: list[int]) -> float:
    return float(F.cross_entropy(logits[:-1], torch.tensor(tokens[1:])).exp())


def matrix(rows: int = 70, width: int = 48, seed: int = 0) -> PlainLinear:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(width, rows, generator=generator).t()  # as Conv1D matrices lie
    return PlainLinear(weight, torch.randn(rows, generator=generator))


def inputs(rows: int, width: int = 48) -> torch.Tensor:
    """Activations as GPT-2's: one column is many times as large as the others."""
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(1))
    x[:, 3] *= 100
    return x
