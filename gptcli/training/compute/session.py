"""A model, its optimizer and their files: what a run computes with, behind plain types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.config_json import CONFIG
from gptcli.checkpoints.integrity.sealed import StoredTensor
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.checkpoints.safetensors_headers import SINGLE
from gptcli.errors import UsageError
from gptcli.options.model import Device
from gptcli.system import memory
from gptcli.system.processors import default_threads
from gptcli.training.compute.building import build, frozen_notice
from gptcli.training.compute.devices import (
    AskedPrecision,
    Precision,
    compile_layers,
    make_deterministic,
    precision,
)
from gptcli.training.compute.export import (
    adapter_config,
    adapter_tensors,
    config_json,
    is_finite,
    load_adapter_tensors,
    model_tensors,
    read,
    stored,
)
from gptcli.training.compute.optimizer import load_optimizer_tensors, optimizer_tensors
from gptcli.training.compute.ranks import Ranks, shard, split_as
from gptcli.training.compute.step import Stepper
from gptcli.training.options import TrainedModel
from gptcli.training.settings import TrainingSettings

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER = "adapter_model.safetensors"
OPTIMIZER = "optimizer.safetensors"


@dataclass(frozen=True, kw_only=True)
class ComputeDevice:
    """Where a run computes, with how many CPU threads, and by which torch."""

    name: str
    threads: int
    torch: str
    precision: Precision
    compiled: bool = False


def chosen(model: TrainedModel) -> ComputeDevice:
    """The device that the options ask for. Raises UsageError."""
    found = choose(model.device, model.threads, model.precision)
    if model.compile and found.name == "cpu":
        why = "on a CPU it costs more than it saves"
        raise UsageError("--compile", why, "Leave it out, or use a GPU.")
    return replace(found, compiled=model.compile)


def choose(device: Device, threads: int | None, asked: AskedPrecision) -> ComputeDevice:
    """The device that is asked for; the number of threads is set."""
    count = threads or default_threads()
    torch.set_num_threads(count)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    make_deterministic(device)
    return ComputeDevice(
        name=device, threads=count, torch=torch.__version__, precision=precision(asked, device)
    )


def memory_of(device: ComputeDevice) -> int:
    """Bytes of memory that are free on a device."""
    if device.name == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return memory.available()


def settle(device: ComputeDevice) -> None:
    """Wait until a GPU has done what it was told."""
    if device.name == "cuda":
        torch.cuda.synchronize()


def most_memory_of(device: ComputeDevice) -> int:
    """Bytes that were used at most: of the GPU, or of this process."""
    return torch.cuda.max_memory_allocated() if device.name == "cuda" else memory.peak()


class ComputeSession:
    """The network of a run on its device."""

    def __init__(
        self,
        config: GPT2Config,
        settings: TrainingSettings,
        weights: CheckedCheckpoint | None,
        device: ComputeDevice,
        micro_tokens: int,
        ranks: Ranks | None = None,
        checkpointing: bool = False,
    ) -> None:
        place = torch.device(device.name)
        self._model = build(config, settings, weights)
        self._model.checkpointing = checkpointing
        if ranks is not None and ranks.sharded:
            shard(self._model, self._model.transformer.h)
        self.stepper = Stepper(self._model, settings, place, micro_tokens, ranks)
        if device.compiled:
            compile_layers(self._model)
        self.notice = frozen_notice(config, settings)
        self._device = device

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return sum(parameter.numel() for parameter in self._model.parameters())

    @property
    def trained(self) -> int:
        """How many of them are trained."""
        return sum(p.numel() for p in self._model.parameters() if p.requires_grad)

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes that were used at most, of the process or of the GPU, and bytes that are free."""
        return most_memory_of(self._device), memory_of(self._device)

    def files(self) -> Mapping[str, Mapping[str, StoredTensor]]:
        """The tensors of each file of a checkpoint, as they are now; they are not copied."""
        self.stepper.lead("files")
        adapter = adapter_tensors(self._model)
        weights = {ADAPTER: stored(adapter)} if adapter else {SINGLE: self._weights()}
        return {**weights, OPTIMIZER: stored(optimizer_tensors(self.stepper.optimizer))}

    def load(self, checkpoint: Path) -> None:
        """Go on from a checkpoint. Raises BadModel where it is another model's."""
        if self.stepper.settings.lora is not None:
            load_adapter_tensors(self._model, dict(read(checkpoint / ADAPTER)))
        else:
            held = dict(self._model.named_parameters())
            for name, tensor in read(checkpoint / SINGLE):
                held[name].detach().copy_(split_as(tensor, held[name]))
        state = dict(read(checkpoint / OPTIMIZER))
        load_optimizer_tensors(
            self.stepper.optimizer, {n: self._part(n, t) for n, t in state.items()}
        )

    def settings_file(self, described: Mapping[str, object], base: str | None) -> tuple[str, bytes]:
        """Name and bytes of what describes the model beside its weights.

        described: config.json of what it began with. base: that model's folder or name.
        """
        settings, config = self.stepper.settings, self._model.config
        if settings.lora is not None:
            name, found = ADAPTER_CONFIG, adapter_config(settings, config.n_layer, base or "")
        else:
            name, found = CONFIG, config_json(config, described)
        return name, (json.dumps(found, indent=2) + "\n").encode()

    def _weights(self) -> Mapping[str, StoredTensor]:
        return stored(model_tensors(self._model))

    def is_finite(self) -> bool:
        """Whether every trained number is a finite one."""
        self.stepper.lead("is_finite")
        return not self.stepper.ranks.greatest(not is_finite(self._model))

    def _part(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """This rank's part of a tensor of the optimizer's state, `<parameter>.<key>`."""
        if not self.stepper.ranks.sharded or tensor.dim() == 0:
            return tensor
        return split_as(tensor, self._model.get_parameter(name.rpartition(".")[0]))
