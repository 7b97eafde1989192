"""A model, its optimizer and their files: what a run computes with, behind plain types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.integrity.sealed import StoredTensor
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.safetensors_headers import SINGLE
from gptcli.options.model import Device
from gptcli.system.processors import default_threads
from gptcli.training.compute.building import build
from gptcli.training.compute.state import (
    is_finite,
    load_model,
    load_optimizer,
    model_tensors,
    optimizer_tensors,
    stored,
)
from gptcli.training.compute.step import Stepper
from gptcli.training.settings import TrainingSettings

OPTIMIZER = "optimizer.safetensors"


@dataclass(frozen=True, kw_only=True)
class ComputeDevice:
    """Where a run computes, with how many CPU threads, and by which torch."""

    name: str
    threads: int
    torch: str


def choose(device: Device, threads: int | None) -> ComputeDevice:
    """The device that is asked for; the number of threads is set."""
    count = threads or default_threads()
    torch.set_num_threads(count)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return ComputeDevice(name=device, threads=count, torch=torch.__version__)


class ComputeSession:
    """The network of a run on its device."""

    def __init__(
        self,
        config: GPT2Config,
        settings: TrainingSettings,
        weights: CheckedCheckpoint | None,
        device: ComputeDevice,
        micro_tokens: int,
    ) -> None:
        place = torch.device(device.name)
        self._model = build(config, settings, weights).to(place)
        self.stepper = Stepper(self._model, settings, place, micro_tokens)

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return sum(parameter.numel() for parameter in self._model.parameters())

    @property
    def trained(self) -> int:
        """How many of them are trained."""
        return sum(p.numel() for p in self._model.parameters() if p.requires_grad)

    def files(self) -> Mapping[str, Mapping[str, StoredTensor]]:
        """The tensors of each file of a checkpoint, as they are now; they are not copied."""
        model = model_tensors(self._model)
        optimizer = optimizer_tensors(self._model, [self.stepper.optimizer], model)
        return {SINGLE: stored(model), OPTIMIZER: stored(optimizer)}

    def load(self, checkpoint: Path) -> None:
        """Go on from a checkpoint."""
        load_model(self._model, checkpoint / SINGLE)
        load_optimizer(self._model, [self.stepper.optimizer], checkpoint / OPTIMIZER)

    def is_finite(self) -> bool:
        """Whether every trained number is a finite one."""
        return is_finite(self._model)
