"""From safetensors to the weights of a GPT-2 on a device, in one data type.

On a CPU what is computed is float32: weights in fewer bits only take less memory there. In float32
they are views of the mapped files, so nothing is copied. Elsewhere activations and the KV cache
have the data type of the weights. Headers were checked by `gptcli.checkpoints.preflight`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.engines.gpt2.half import fits_float16
from gptcli.engines.gpt2.on_torch.mapped import MappedFile

CHUNK_ELEMENTS = 2**23  # of a large matrix, converted to the inputs' data type at a time


@dataclass(frozen=True)
class Linear:
    """A matrix (out, in) and a bias (out,) or None; the product is in the inputs' data type."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """x: (N, in) -> (N, out)."""
        if self.weight.dtype == x.dtype:
            return F.linear(x, self.weight, self.bias)
        parts = torch.split(self.weight, max(CHUNK_ELEMENTS // self.weight.shape[1], 1))
        y = torch.cat([F.linear(x, part.to(x.dtype)) for part in parts], dim=1)
        return y if self.bias is None else y + self.bias


@dataclass(frozen=True)
class Norm:
    """A layer norm's gain and shift, (C,) each."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Layer:
    """One transformer layer."""

    ln_1: Norm
    attn: Linear  # C -> 3C: queries, keys, values
    attn_out: Linear  # C -> C
    ln_2: Norm
    fc: Linear  # C -> inner
    proj: Linear  # inner -> C


class Weights:
    """All weights of one GPT-2. `dtype` is that of activations and of the KV cache.

    The matrices are in the data type that was asked for. wte: (vocab, C), on a CPU as it is stored;
    wpe: (n_positions, C); head: C -> vocab.
    """

    def __init__(
        self,
        config: GPT2Config,
        checked: CheckedCheckpoint,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.config, self.device = config, device
        self.dtype = torch.float32 if device.type == "cpu" else dtype
        self._kept, self._checked = dtype, checked
        files = {entry.file for entry in checked.tensors.values()}
        self._files = {path: MappedFile(path) for path in files}
        here = device.type == "cpu"
        self.wte = self._stored("wte.weight") if here else self._placed("wte.weight")
        self.wpe = self._placed("wpe.weight")
        self.layers = [self._layer(f"h.{number}.") for number in range(config.n_layer)]
        self.ln_f = self._norm("ln_f.")
        if config.tie_word_embeddings and not here:
            self.head = Linear(self.wte, None)
        else:
            name = "wte.weight" if config.tie_word_embeddings else "lm_head.weight"
            self.head = Linear(self._matrix(name), None)

    def _layer(self, prefix: str) -> Layer:
        return Layer(
            self._norm(prefix + "ln_1."),
            self._conv1d(prefix + "attn.c_attn."),
            self._conv1d(prefix + "attn.c_proj."),
            self._norm(prefix + "ln_2."),
            self._conv1d(prefix + "mlp.c_fc."),
            self._conv1d(prefix + "mlp.c_proj."),
        )

    def _norm(self, prefix: str) -> Norm:
        return Norm(self._placed(prefix + "weight"), self._placed(prefix + "bias"))

    def _conv1d(self, prefix: str) -> Linear:
        weight = self._matrix(prefix + "weight", turned=True)  # stored as (in, out)
        return Linear(weight, self._placed(prefix + "bias"))

    def _matrix(self, name: str, turned: bool = False) -> Tensor:
        """A matrix as (out, in)."""
        stored = self._stored(name)
        kept = self._kept if self.device.type != "cpu" or _fits(stored, self._kept) else self.dtype
        weight = stored.to(device=self.device, dtype=kept)
        if weight.data_ptr() != stored.data_ptr():
            self._drop(name)
        weight = weight.t() if turned else weight
        # Products in 16 bits read rows of (out, in).
        return weight if kept == torch.float32 else weight.contiguous()

    def _placed(self, name: str) -> Tensor:
        """A tensor that is added or multiplied number by number, in the activations' data type."""
        return self._stored(name).to(device=self.device, dtype=self.dtype)

    def _stored(self, name: str) -> Tensor:
        entry = self._checked.tensors[name]
        return self._files[entry.file].tensor(entry)

    def _drop(self, name: str) -> None:
        entry = self._checked.tensors[name]
        self._files[entry.file].drop(entry)


def _fits(weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether float16 can hold a matrix; other data types can."""
    if dtype != torch.float16:
        return True
    low, high = (float(value) for value in weight.aminmax())
    return fits_float16(max(-low, high))
