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
from gptcli.training.compute.products import times, working_type

BLOCK = 2**24  # logits at a time
COLUMNS = 2**13  # of them, whose gradient is added at a time, so that it stays in the cache


def head_loss(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The sum over the targets that count, in nats. states: (T, C), weight: (vocab, C), targets:
    (T,). Its backward pass can be taken once.
    """
    return _HeadLoss.apply(states, weight, targets)  # type: ignore[no-any-return, no-untyped-call]


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        of_states, of_weight, _ = ctx.needs_input_grad
        states_grad = torch.empty_like(states) if of_states else None
        weight_grad = torch.zeros_like(weight) if of_weight else None
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        kind = working_type(states)
        head, rows = weight.to(kind), max(BLOCK // weight.shape[0], 16)
        for first in range(0, len(states), rows):
            part, wished = states[first : first + rows].to(kind), targets[first : first + rows]
            counts = (wished != IGNORED).unsqueeze(1)
            place = wished.unsqueeze(1).clamp(min=0)
            logs = torch.log_softmax(times(part, head.t()), 1, dtype=torch.float32)
            total -= (logs.gather(1, place) * counts).sum()
            if not of_states and not of_weight:
                continue
            slope = logs.exp_()
            slope.scatter_(1, place, slope.gather(1, place) - 1)
            slope = slope.to(kind)
            if states_grad is not None:
                states_grad[first : first + rows] = times(slope, head) * counts
            if weight_grad is not None:
                _add_product(weight_grad, slope, part * counts)
        ctx.save_for_backward(states_grad, weight_grad)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        states_grad, weight_grad = ctx.saved_tensors
        return (
            None if states_grad is None else states_grad.mul_(grad),
            None if weight_grad is None else weight_grad.mul_(grad),
            None,
        )


def _add_product(total: Tensor, slope: Tensor, part: Tensor) -> None:
    """total: (vocab, C) += slope: (rows, vocab), transposed, times part: (rows, C)."""
    for first in range(0, len(total), COLUMNS):
        columns = slope[:, first : first + COLUMNS]
        total[first : first + COLUMNS] += times(columns.t(), part)
