"""The optimizer and its learning rate. Decay acts on matrices and embeddings alone."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from gptcli.training.settings import TrainingSettings


def groups(named: Iterable[tuple[str, nn.Parameter]], decay: float) -> list[dict[str, object]]:
    """Parameters that are trained, with and without weight decay: biases and layer norms have one
    dimension.
    """
    trained = [parameter for _, parameter in named if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]


def adamw(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) for all that is trained."""
    return torch.optim.AdamW(
        groups(model.named_parameters(), settings.weight_decay),
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )


def rate(settings: TrainingSettings, step: float) -> float:
    """The share of the learning rate in a step, counted from 1: warm-up, then the schedule.

    A step need not be whole where the schedule is stretched.
    """
    if step <= settings.warmup:
        return step / settings.warmup
    done = min((step - settings.warmup) / max(settings.steps - settings.warmup, 1), 1.0)
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "wsd":
        done = max(
            0.0, (step / max(settings.steps, 1) - settings.decay_from) / (1 - settings.decay_from)
        )
    left = (
        0.5 * (1 + math.cos(math.pi * done))
        if settings.schedule == "cosine"
        else 1 - min(done, 1.0)
    )
    return settings.final_rate + (1 - settings.final_rate) * left
