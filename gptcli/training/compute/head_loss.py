"""Cross-entropy of the head, some rows at a time: the logits of a batch are never there at once.

The gradient is computed in the forward pass, while the rows' logits are at hand, as in Liger Kernel
(Hsu et al. 2024): logits of 8,192 tokens and GPT-2's vocabulary would take 1.6 GB, and their
gradient as much again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gptcli.training.compute.batch import IGNORED

BLOCK = 2**23  # logits at a time


def head_loss(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The sum over the targets that count, in nats. states: (T, C), weight: (vocab, C), targets:
    (T,).
    """
    return _HeadLoss.apply(states, weight, targets)  # type: ignore[no-any-return, no-untyped-call]


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        wanted = torch.is_grad_enabled() or any(ctx.needs_input_grad)
        states_grad = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        weight_grad = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        rows = max(BLOCK // weight.shape[0], 16)
        for first in range(0, len(states), rows):
            part, wished = states[first : first + rows], targets[first : first + rows]
            logits = (part @ weight.t()).float()
            counts = wished != IGNORED
            safe = wished.masked_fill(~counts, 0)
            norm = logits.logsumexp(1, keepdim=True)
            losses = norm.squeeze(1) - logits.gather(1, safe.unsqueeze(1)).squeeze(1)
            total += torch.where(counts, losses, 0).sum()
            if not wanted or (states_grad is None and weight_grad is None):
                continue
            slope = logits.sub_(norm).exp_()
            slope[torch.arange(len(slope), device=slope.device), safe] -= 1
            slope = slope.mul_(counts.unsqueeze(1)).to(part.dtype)
            if states_grad is not None:
                torch.matmul(slope, weight, out=states_grad[first : first + rows])
            if weight_grad is not None:
                weight_grad.addmm_(slope.t(), part)
        ctx.save_for_backward(states_grad, weight_grad)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        states_grad, weight_grad = ctx.saved_tensors
        return (
            None if states_grad is None else states_grad * grad,
            None if weight_grad is None else weight_grad * grad,
            None,
        )
