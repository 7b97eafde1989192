"""Products of activations and matrices, with their gradients.

On x86, torch takes MKL for float32 products, which on AMD's processors is half as fast as oneDNN;
oneDNN's linear layer is called here in its place. Under autocast the products are in bfloat16, in
the backward pass too.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor


def working_type(x: Tensor) -> torch.dtype:
    """The data type of products with `x`: autocast's, where that is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def times(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x: (T, in), weight: (in, out), bias: (out,) -> (T, out). Has no gradient of its own."""
    if x.dtype == torch.float32 and x.device.type == "cpu" and _onednn():
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight.t(), bias, "none", [], "")
        return product
    return x @ weight if bias is None else torch.addmm(bias, x, weight)


@cache
def _onednn() -> bool:
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and platform.machine().lower() in {"x86_64", "amd64"}


def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x: (T, in), weight: (in, out), bias: (out,) -> (T, out)."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return torch.addmm(bias, x, weight)
    return _Product.apply(x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x = x.to(working_type(x))
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return times(x, weight.to(x.dtype), bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        own, of_weight, of_bias = ctx.needs_input_grad
        return (
            times(grad, weight.to(grad.dtype).t()) if own else None,
            times(x.t(), grad).to(weight.dtype) if of_weight else None,
            grad.sum(0, dtype=weight.dtype) if of_bias else None,
        )
