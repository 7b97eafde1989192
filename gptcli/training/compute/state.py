"""Weights and the optimizer's state as tensors of a file, and back: the same bits.

What is trained but not in the model's file (adapters, whose file has names of its own) lies beside
the optimizer's state, so these files alone are enough to go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptcli.checkpoints.integrity.sealed import StoredTensor
from gptcli.checkpoints.safetensors_headers import read_header
from gptcli.engines.gpt2.on_torch.mapped import STORED, MappedFile

_NAMES = {dtype: name for name, dtype in STORED.items()} | {torch.int64: "I64"}
PARAMETER = "parameter"


def stored(tensors: Mapping[str, Tensor]) -> dict[str, StoredTensor]:
    """Tensors as bytes; those of a CPU are not copied."""
    return {name: _stored(tensor) for name, tensor in tensors.items()}


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters, by name."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def optimizer_tensors(
    model: nn.Module, optimizers: list[torch.optim.Optimizer], apart: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The optimizers' state, as `exp_avg/NAME`, and trained parameters that are not in `apart`."""
    found = {
        f"{key}/{name}": value
        for name, parameter in model.named_parameters()
        for optimizer in optimizers
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
    return found | {
        f"{PARAMETER}/{name}": parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and name not in apart
    }


def load_model(model: nn.Module, path: Path) -> None:
    """Give a model the parameters of a file; names that are none of its are passed over."""
    with torch.no_grad():
        parameters = dict(model.named_parameters())
        for name, tensor in _read(path):
            if name in parameters:
                parameters[name].copy_(tensor)


def load_optimizer(model: nn.Module, optimizers: list[torch.optim.Optimizer], path: Path) -> None:
    """Give the optimizers their state, and the model the parameters that lie beside it."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    parameters = dict(model.named_parameters())
    state: dict[str, dict[str, Tensor]] = {}
    with torch.no_grad():
        for entry, tensor in _read(path):
            key, _, name = entry.partition("/")
            if key == PARAMETER:
                parameters[name].copy_(tensor)
            else:
                state.setdefault(name, {})[key] = tensor.clone()
    for optimizer in optimizers:
        groups = optimizer.state_dict()["param_groups"]
        numbered = {
            number: state[names[parameter]]
            for group, plain in zip(optimizer.param_groups, groups, strict=True)
            for parameter, number in zip(group["params"], plain["params"], strict=True)
            if names[parameter] in state
        }
        optimizer.load_state_dict({"state": numbered, "param_groups": groups})


def is_finite(model: nn.Module) -> bool:
    """Whether every trained parameter is a finite number."""
    with torch.no_grad():
        return all(
            bool(torch.isfinite(parameter.sum())) or bool(torch.isfinite(parameter).all())
            for parameter in model.parameters()
            if parameter.requires_grad
        )


def _stored(tensor: Tensor) -> StoredTensor:
    plain = tensor.detach().cpu().contiguous()
    data: Any = plain.reshape(-1).view(torch.uint8).numpy()
    return StoredTensor(_NAMES[plain.dtype], tuple(plain.shape), memoryview(data))


def _read(path: Path) -> Iterator[tuple[str, Tensor]]:
    file = MappedFile(path)
    for name, entry in read_header(path).items():
        yield name, file.tensor(entry)
        file.drop(entry)
