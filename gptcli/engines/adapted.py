"""Adapters on a model of transformers: its own modules say what each parameter is.

The numbers are those of `gptcli.checkpoints.adapters.changes`, from the checkpoint in float32 where
it has a parameter by the same name, and rounded once to the model's data type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gptcli.checkpoints.adapters import numbers
from gptcli.checkpoints.adapters.base_check import check_base
from gptcli.checkpoints.adapters.changes import changes
from gptcli.checkpoints.adapters.parts import read_parts
from gptcli.checkpoints.adapters.reference import Adapter
from gptcli.checkpoints.adapters.said import said
from gptcli.checkpoints.preflight import CheckedCheckpoint, plain_name

Array = NDArray[np.float32]


class LoadedBase:
    """The parameters of a loaded model; see `AdapterBase`."""

    def __init__(self, model: Any, checked: CheckedCheckpoint, label: str) -> None:
        self.label = label
        self._checked = checked
        self.parameters = dict(model.named_parameters(remove_duplicate=False))
        self._modules = dict(model.named_modules(remove_duplicate=False))
        inner, outer = model.get_input_embeddings(), model.get_output_embeddings()
        self.embedding = self._named(inner)
        self.head = self._named(outer)
        self.tied = inner is not None and outer is not None and inner.weight is outer.weight

    def find(self, module: str, part: str) -> str | None:
        """The name of a module's parameter in the model."""
        name = f"{module}.{part}"
        return name if name in self.parameters else None

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape in the model."""
        return tuple(self.parameters[name].shape)

    def turned(self, name: str) -> bool:
        """Whether it is the matrix of a Conv1D, which is (in, out)."""
        module = self._modules[name.rpartition(".")[0]]
        return type(module).__name__ == "Conv1D" and len(self.parameters[name].shape) == 2

    def floats(self, name: str) -> Array:
        """The numbers in float32, as the checkpoint has them where that is the same parameter."""
        loaded = self.parameters[name].detach()
        entry = self._checked.tensors.get(plain_name(name) if self._checked.gpt2 else name)
        if loaded.dtype != torch.float32 and entry is not None and entry.shape == loaded.shape:
            exact = numbers.floats(entry)
            if torch.equal(torch.from_numpy(exact).to(loaded.dtype), loaded):
                return exact
        found: Array = loaded.float().cpu().numpy()
        return found

    def _named(self, module: Any) -> str | None:
        names = (name for name, found in self._modules.items() if found is module)
        return None if module is None else f"{next(names)}.weight"


@torch.no_grad()
def adapt(
    model: Any, checked: CheckedCheckpoint, adapters: Sequence[Adapter], label: str
) -> tuple[str, ...]:
    """Change the parameters of a model as adapters say; what was applied, in words.

    Raises BadModel, MissingInput.
    """
    if not adapters:
        return ()
    read = [read_parts(adapter) for adapter in adapters]
    check_base(read, checked.folder, label)
    base = LoadedBase(model, checked, label)
    found = changes(base, read)
    values = {}
    for name in found.parts:
        if not (found.tied and name == base.head):
            there = base.parameters[name]
            made = torch.from_numpy(found.value(name)).to(there.dtype)
            # What head and embedding share is put in its place when both are computed.
            if name in (base.embedding, base.head):
                values[name] = made
            else:
                there.copy_(made)
    _place(model, base, values, found.tied)
    return said(read, found)


def _place(model: Any, base: LoadedBase, values: dict[str, torch.Tensor], tied: bool) -> None:
    """Give embedding and head their new matrices, and as many tokens as these have."""
    inner, outer = model.get_input_embeddings(), model.get_output_embeddings()
    if (made := values.get(str(base.embedding))) is not None:
        inner.weight = torch.nn.Parameter(made, requires_grad=False)
        inner.num_embeddings = made.shape[0]
        model.config.get_text_config().vocab_size = made.shape[0]
    if tied and outer is not None:
        outer.weight = inner.weight
    elif (made := values.get(str(base.head))) is not None:
        outer.weight = torch.nn.Parameter(made, requires_grad=False)
    if base.tied and not tied:
        model.config.tie_word_embeddings = False
    if hasattr(outer, "out_features"):
        outer.out_features = outer.weight.shape[0]
