"""The optimizer of a run, its state as named tensors, and the learning rate.

Decay acts on matrices and embeddings, never on biases and layer norms.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gptcli.errors import BadModel
from gptcli.training.compute.muon import Muon
from gptcli.training.settings import TrainingSettings

Named = Sequence[tuple[str, nn.Parameter]]


class Optimizer:
    """AdamW for all that is trained, or Muon for the layers' matrices and AdamW for the rest.

    AdamW: Loshchilov & Hutter 2019. Each has its own rate; a step takes a share of both.
    """

    def __init__(self, model: nn.Module, settings: TrainingSettings) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        by_muon = [item for item in named if settings.optimizer == "muon" and for_muon(*item)]
        names = {name for name, _ in by_muon}
        self.parts: list[tuple[torch.optim.Optimizer, float]] = []
        if rest := [item for item in named if item[0] not in names]:
            self.parts.append((adamw(rest, settings), settings.learning_rate))
        if by_muon:
            muon = Muon(by_muon, settings.muon_rate, settings.weight_decay)
            self.parts.append((muon, settings.muon_rate))

    def zero_grad(self) -> None:
        """Forget the gradients, and give back their memory."""
        for optimizer, _ in self.parts:
            optimizer.zero_grad(set_to_none=True)

    def step(self, share: float) -> None:
        """Change the weights, at this share of the greatest learning rate."""
        for optimizer, greatest in self.parts:
            for group in optimizer.param_groups:
                group["lr"] = greatest * share
            optimizer.step()


def for_muon(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon trains a parameter: a layer's matrix that is no adapter's."""
    return ".h." in name and parameter.dim() > 1 and ".lora_" not in name


def groups(named: Named, decay: float) -> list[dict[str, Any]]:
    """Parameters with and without weight decay: biases and layer norms have one dimension."""
    matrices = [item for item in named if item[1].dim() > 1]
    vectors = [item for item in named if item[1].dim() <= 1]
    both = [
        {"params": matrices, "weight_decay": decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in both if group["params"]]


def adamw(named: Named, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW in one kernel, for named parameters."""
    return torch.optim.AdamW(
        groups(named, settings.weight_decay),
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The state, for a safetensors file: `<parameter>.<key>`, as exp_avg, exp_avg_sq and step of
    AdamW and momentum of Muon. Empty before the first step.
    """
    return {
        f"{name}.{key}": value
        for part, _ in optimizer.parts
        for name, parameter in _named(part)
        for key, value in part.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Go on from a state that `optimizer_tensors` gave, to the bit.

    Raises BadModel where it is not that of these parameters.
    """
    states: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for place, tensor in tensors.items():
        name, _, key = place.rpartition(".")
        states[name][key] = tensor
    trained = {name: p for part, _ in optimizer.parts for name, p in _named(part)}
    if tensors and states.keys() != trained.keys():
        odd = min(states.keys() ^ trained.keys())
        raise _foreign_state(f"{odd} is only in one of them")
    for name, state in states.items():
        for key, tensor in state.items():
            if key != "step" and tensor.shape != trained[name].shape:
                raise _foreign_state(f"{name}.{key} has another shape")
    for part, _ in optimizer.parts:
        held = part.state_dict()
        held["state"] = {
            place: dict(states[name])
            for place, (name, _) in enumerate(_named(part))
            if name in states
        }
        part.load_state_dict(held)


def _named(part: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
    """The parameters of an optimizer in the order of its state dict."""
    return [
        item
        for group in part.param_groups
        for item in zip(group["param_names"], group["params"], strict=True)
    ]


def _foreign_state(why: str) -> BadModel:
    rule = f"the optimizer's state does not fit what is trained: {why}"
    return BadModel("corrupt checkpoint", rule, "Go on from another checkpoint, or begin anew")


def rate(settings: TrainingSettings, step: float) -> float:
    """The share of the learning rate in a step, counted from 1: warm-up, then the schedule.

    No step's is 0: the first is a part of the warm-up, and `final_rate` would be that of the step
    after the last. A step need not be whole where the schedule is stretched.
    """
    if step <= settings.warmup:
        return step / settings.warmup
    if settings.schedule == "constant":
        return 1.0
    first = max(settings.warmup, 1)  # the last step at the greatest rate
    if settings.schedule == "wsd":
        first = max(first, math.floor(settings.steps * settings.decay_from))
    done = min(max(step - first, 0) / max(settings.steps + 1 - first, 1), 1.0)
    cosine = settings.schedule == "cosine"
    left = 0.5 * (1 + math.cos(math.pi * done)) if cosine else 1 - done
    return settings.final_rate + (1 - settings.final_rate) * left
