"""The network of a run: weights of a checkpoint or new ones, adapters, and what stays as it is."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import torch

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.engines.gpt2.on_torch.mapped import MappedFile
from gptcli.errors import UsageError
from gptcli.training.compute.lora import adapt
from gptcli.training.compute.network import TrainableGPT2
from gptcli.training.settings import TrainingSettings


def build(
    config: GPT2Config, settings: TrainingSettings, weights: CheckedCheckpoint | None
) -> TrainableGPT2:
    """A network on the CPU, in float32, ready for its optimizer.

    `weights` has the shapes of `config`; without it the weights are new, from the seed. Raises
    UsageError where nothing is left to train.
    """
    with torch.device("meta"):  # no time for weights that are replaced
        model = TrainableGPT2(config, settings.dropout)
    model.to_empty(device="cpu")
    if weights is None:
        initialise(model, settings.seed)
    else:
        _read(model, weights)
    if settings.frozen > config.n_layer - (settings.lora is not None):
        why = f"the model has {config.n_layer} layers"
        raise UsageError(f"--freeze {settings.frozen}", why, "Freeze fewer.")
    if settings.lora is not None:
        adapt(model, settings.lora, settings.frozen, settings.seed)
    elif settings.frozen:
        _freeze(model, settings.frozen)
    return model


def frozen_notice(config: GPT2Config, settings: TrainingSettings) -> str | None:
    """What --freeze leaves as it is, where a reader could think otherwise."""
    if not settings.frozen or settings.lora is not None or not config.tie_word_embeddings:
        return None
    return "--freeze: the head is the token embedding, so it stays as it is too"


def initialise(model: TrainableGPT2, seed: int) -> None:
    """Weights of an untrained GPT-2: normal, 0.02; projections that are added to the residual
    stream are smaller by the square root of their number, as in GPT-2's paper; biases 0, norms 1.
    """
    random = torch.Generator().manual_seed(seed)
    residual = 0.02 / math.sqrt(2 * model.config.n_layer)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                spread = residual if name.endswith("c_proj.weight") else 0.02
                parameter.normal_(0, spread, generator=random)
            else:
                norm = name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight"))
                parameter.fill_(1.0 if norm else 0.0)


def _read(model: TrainableGPT2, weights: CheckedCheckpoint) -> None:
    """Copy the checkpoint's tensors, whatever float they are stored in."""
    mapped = cache(MappedFile)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            entry = weights.tensors[name.removeprefix("transformer.")]
            file = mapped(Path(entry.file))
            parameter.copy_(file.tensor(entry))
            file.drop(entry)


def _freeze(model: TrainableGPT2, layers: int) -> None:
    """Embeddings and first layers; a tied head is one with its embedding."""
    body = model.transformer
    for part in (body.wte, body.wpe, *body.h[:layers]):
        part.requires_grad_(False)
