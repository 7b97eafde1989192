"""The network of a run, with its first weights."""

from __future__ import annotations

import torch

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.engines.gpt2.on_torch.mapped import MappedFile
from gptcli.training.compute.network import TrainableGPT2, initialise
from gptcli.training.settings import TrainingSettings


def build(
    config: GPT2Config, settings: TrainingSettings, weights: CheckedCheckpoint | None
) -> TrainableGPT2:
    """A model with the weights of a checkpoint, or new ones."""
    model = TrainableGPT2(config, settings.dropout)
    if weights is None:
        initialise(model, settings.seed)
        return model
    files = {entry.file: MappedFile(entry.file) for entry in weights.tensors.values()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            entry = weights.tensors[name.removeprefix("transformer.")]
            parameter.copy_(files[entry.file].tensor(entry))
    return model
