"""Low-rank adapters (Hu et al. 2021) on the matrices of a layer, as PEFT has them.

y = x W + b + alpha / rank · (x A') B', with A: (rank, in), B: (out, rank). Names of parameters are
PEFT's: `transformer.h.0.attn.c_attn.lora_A.weight`. Not here: adapters applied to a model that
runs, which the engines do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gptcli.training.compute.network import Conv1D, TrainableGPT2
from gptcli.training.settings import LoraSettings, places

MARK = ".lora_"  # in the names of the adapters' parameters


class LoraConv1D(Conv1D):
    """A matrix that stays as it is, and its adapter."""

    def __init__(self, base: Conv1D, settings: LoraSettings) -> None:
        nn.Module.__init__(self)
        self.weight, self.bias = base.weight, base.bias
        inputs, outputs = base.weight.shape
        self.scale = settings.alpha / settings.rank
        self.lora_A = nn.Linear(inputs, settings.rank, bias=False)
        self.lora_B = nn.Linear(settings.rank, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        adapted: Tensor = self.lora_B(self.lora_A(x))
        return super().forward(x) + adapted * self.scale


def adapt(model: TrainableGPT2, settings: LoraSettings, first: int, seed: int) -> None:
    """Give the layers from `first` on their adapters; all else is trained no more.

    As in PEFT, B is 0, so the model computes what it did, and A is uniform in ± 1 / sqrt(in).
    """
    model.requires_grad_(False)
    random = torch.Generator().manual_seed(seed)
    for layer in model.transformer.h[first:]:
        for place in places(settings):
            room, name = place.split(".")
            base = getattr(getattr(layer, room), name)
            adapted = LoraConv1D(base, settings)
            bound = 1 / math.sqrt(base.weight.shape[0])
            nn.init.uniform_(adapted.lora_A.weight, -bound, bound, generator=random)
            nn.init.zeros_(adapted.lora_B.weight)
            setattr(getattr(layer, room), name, adapted)
