"""Muon: momentum whose matrices are made orthogonal (Jordan et al. 2024).

A matrix (out, in) moves by rate · sqrt(max(1, out / in)), Jordan's scale, for which 0.02 is a usual
rate. Our matrices lie as (in, out). The three parts of `c_attn` are matrices of their own, as in
the reference implementation. Not here: embeddings and vectors, which AdamW trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = 3.4445, -4.7750, 2.0315
TINY = 1e-7  # a norm below it is taken as this


def orthogonal(matrices: Tensor) -> Tensor:
    """(n, rows, columns), each with its singular values moved to about 1 by Newton-Schulz."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16() if matrices.device.type == "cuda" else matrices
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=TINY)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    moved: Tensor = x.mT if tall else x
    return moved.to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal; decay is apart from it, as in AdamW."""

    def __init__(
        self, named: Sequence[tuple[str, nn.Parameter]], rate: float, weight_decay: float
    ) -> None:
        super().__init__(named, {"lr": rate, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        for group in self.param_groups:
            for name, parameter in zip(group["param_names"], group["params"], strict=True):
                if parameter.grad is not None:
                    self._move(group, parts_of(name), parameter, parameter.grad)
        return None

    def _move(self, group: dict[str, Any], parts: int, parameter: Tensor, grad: Tensor) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(grad, 1 - MOMENTUM)
        ahead = grad.lerp(momentum, MOMENTUM)
        inputs, outputs = parameter.shape[0], parameter.shape[1] // parts
        split = ahead.view(inputs, parts, outputs).transpose(0, 1)
        update = orthogonal(split).transpose(0, 1).reshape(parameter.shape)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * max(1.0, outputs / inputs) ** 0.5)


def parts_of(name: str) -> int:
    """How many matrices a parameter holds side by side."""
    return 3 if name.endswith("c_attn.weight") else 1
