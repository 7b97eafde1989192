"""Small networks, pieces and references for tests of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.training.compute.batch import IGNORED, packed
from gptcli.training.compute.export import config_json
from gptcli.training.compute.network import TrainableGPT2
from gptcli.training.data.pieces import PieceTable

SMALL = GPT2Config(vocab_size=61, n_positions=32, n_embd=24, n_layer=2, n_head=3)


def pieces(lengths: list[int], vocabulary: int = 61, muted: list[int] | None = None) -> PieceTable:
    """Random documents of these lengths, each one piece."""
    random = np.random.Generator(np.random.PCG64(5))
    starts = np.cumsum([0, *(length + 1 for length in lengths)], dtype=np.int64)
    ids = random.integers(0, vocabulary, int(starts[-1]), dtype=np.uint16)
    quiet = None if muted is None else np.array(muted, np.int32)
    return PieceTable(ids, starts[:-1], np.array(lengths, np.int32), quiet)


def reference(config: GPT2Config, seed: int = 1) -> transformers.GPT2LMHeadModel:
    """transformers' model of this shape, with weights that matter, in training without dropout."""
    torch.manual_seed(seed)
    settings = transformers.GPT2Config(
        **config_json(config), embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0
    )
    model = transformers.GPT2LMHeadModel(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.train()


def stored(
    model: transformers.GPT2LMHeadModel, folder: Path, dtype: torch.dtype = torch.float32
) -> CheckedCheckpoint:
    """The model's folder, checked."""
    folder.mkdir()
    model.config.save_pretrained(folder)
    tensors = {name: p.detach().to(dtype) for name, p in model.named_parameters()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return inspect(folder)


def reference_loss(model: torch.nn.Module, table: PieceTable) -> Tensor:
    """The mean over the targets that count, each document alone, by transformers."""
    total, count = torch.zeros(()), 0
    for piece in range(len(table)):
        batch = packed(table, [piece])
        logits = model(batch.ids[None]).logits[0]
        total = total + torch.nn.functional.cross_entropy(
            logits, batch.targets, ignore_index=IGNORED, reduction="sum"
        )
        count += int((batch.targets != IGNORED).sum())
    return total / count


def logits(model: TrainableGPT2, table: PieceTable) -> Tensor:
    """(T, vocab), of all pieces, the longest first."""
    with torch.no_grad():
        return model.states(packed(table, np.arange(len(table)))) @ model.head.t()
