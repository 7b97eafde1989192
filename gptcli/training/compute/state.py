"""Tensors as the bytes of a file, and back: the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptcli.checkpoints.integrity.sealed import StoredTensor
from gptcli.checkpoints.safetensors_headers import read_header
from gptcli.engines.gpt2.on_torch.mapped import STORED, MappedFile
from gptcli.training.compute.ranks import local, whole

_NAMES = {dtype: name for name, dtype in STORED.items()}


def stored(tensors: Mapping[str, Tensor]) -> dict[str, StoredTensor]:
    """Tensors as bytes; those of a CPU are not copied."""
    return {name: _stored(tensor) for name, tensor in tensors.items()}


def read(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a file, each a copy in memory of torch's own."""
    file = MappedFile(path)
    for name, entry in read_header(path).items():
        yield name, file.tensor(entry).clone()
        file.drop(entry)


def is_finite(model: nn.Module) -> bool:
    """Whether every trained parameter is a finite number, in this rank's part of the model."""
    with torch.no_grad():
        return all(
            bool(torch.isfinite(own.sum())) or bool(torch.isfinite(own).all())
            for parameter in model.parameters()
            for own in (local(parameter),)
            if parameter.requires_grad
        )


def _stored(tensor: Tensor) -> StoredTensor:
    plain = whole(tensor.detach()).cpu().contiguous()
    data: Any = plain.reshape(-1).view(torch.uint8).numpy()
    return StoredTensor(_NAMES[plain.dtype], tuple(plain.shape), memoryview(data))
