"""Networks of each data type, and the passes that compare them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TALE
from transformers import GPT2LMHeadModel

from gptcli import native
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.engines import placement
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.gpt2.network import GPT2Network
from gptcli.engines.gpt2.on_torch.network import TorchNetwork
from gptcli.engines.gpt2.on_torch.weights import Weights
from gptcli.options import Load

CPU = torch.device("cpu")
needs_kernels = pytest.mark.skipif(native.library() is None, reason="no compiled kernels here")

# Of the logits of tiny-tales, which go to 19: the largest difference, and that in perplexity.
BOUNDS = {
    "float32": (1e-4, 1e-6),
    "float16": (0.01, 1e-4),
    "bfloat16": (0.1, 1e-3),
    "int8": (1.0, 1e-2),
}


def on_cpu(folder: Path, kind: str = "float32") -> GPT2Network:
    """The network that runs on a CPU: of our kernels, or of torch where `native` has none."""
    load = Load(dtype=kind)  # type: ignore[arg-type]
    return placement.open_network(load, "x", inspect(folder), "cpu")[0]


def on_torch(folder: Path, kind: str = "float32") -> TorchNetwork:
    """The network that torch runs on a CPU."""
    checked = inspect(folder)
    assert checked.gpt2 is not None
    return TorchNetwork(Weights(checked.gpt2, checked, CPU, getattr(torch, kind)))


@cache
def tale(folder: Path) -> tuple[list[int], torch.Tensor]:
    """The tokens of a tale, and the scores of transformers in float32 after each of them."""
    tokens = load_tokenizer(folder).encode("<|endoftext|>" + TALE.replace("\n", " "))
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return tokens, model(torch.tensor([tokens])).logits[0]


def at_once(network: GPT2Network, tokens: list[int]) -> torch.Tensor:
    cache = network.new_cache(1)
    return torch.from_numpy(network.forward_step(cache, [Segment(0, 0, len(tokens))], tokens))


def one_by_one(network: GPT2Network, tokens: list[int]) -> torch.Tensor:
    cache = network.new_cache(1)
    rows = [network.forward_step(cache, [Segment(0, n, 1)], [id]) for n, id in enumerate(tokens)]
    return torch.from_numpy(np.concatenate(rows))


def perplexity(logits: torch.Tensor, tokens: list[int]) -> float:
    return float(F.cross_entropy(logits[:-1], torch.tensor(tokens[1:])).exp())
