"""A trained network as tensors and settings that other programs read.

A full model has the names and the layout of Hugging Face's GPT2LMHeadModel; a tied head stands
there once, as `transformer.wte.weight`. Adapters have PEFT's. Tensors become the bytes of a file,
and are read back to the same bits. Not here: files, which `gptcli.training.durability` writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.integrity.sealed import StoredTensor
from gptcli.checkpoints.safetensors_headers import read_header
from gptcli.engines.gpt2.on_torch.mapped import STORED, MappedFile
from gptcli.errors import BadModel
from gptcli.training.compute.lora import MARK
from gptcli.training.compute.network import TrainableGPT2
from gptcli.training.compute.ranks import local, whole
from gptcli.training.settings import TrainingSettings, places

PEFT_PREFIX = "base_model.model."
_NAMES = {dtype: name for name, dtype in STORED.items()}


def model_tensors(model: TrainableGPT2) -> dict[str, Tensor]:
    """The tensors of model.safetensors, in float32 on the CPU, without adapters. On a CPU they
    share the model's memory.
    """
    return {
        name: parameter.detach().cpu()
        for name, parameter in model.named_parameters()
        if MARK not in name
    }


def adapter_tensors(model: TrainableGPT2) -> dict[str, Tensor]:
    """The tensors of adapter_model.safetensors; none where the model has no adapters."""
    return {
        PEFT_PREFIX + name: parameter.detach().cpu()
        for name, parameter in model.named_parameters()
        if MARK in name
    }


def load_adapter_tensors(model: TrainableGPT2, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors of `adapter_tensors` back. Raises BadModel where they are another model's."""
    own = adapter_tensors(model)
    if {name: t.shape for name, t in own.items()} != {n: t.shape for n, t in tensors.items()}:
        rule = "the adapter's tensors are not those of the settings"
        raise BadModel("corrupt checkpoint", rule, "Go on from another checkpoint, or begin anew")
    held = dict(model.named_parameters())
    for name, tensor in tensors.items():
        held[name.removeprefix(PEFT_PREFIX)].detach().copy_(tensor)


def config_json(config: GPT2Config, base: Mapping[str, object] | None = None) -> dict[str, object]:
    """config.json of a model. Keys of the base's that say something else are kept."""
    end = config.eos_token_ids[0] if config.eos_token_ids else None
    sizes = {
        "vocab_size": config.vocab_size,
        "n_positions": config.n_positions,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.n_inner,
        "activation_function": config.activation_function,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "scale_attn_weights": config.scale_attn_weights,
        "scale_attn_by_inverse_layer_idx": config.scale_attn_by_inverse_layer_idx,
        "tie_word_embeddings": config.tie_word_embeddings,
    }
    ends = {"bos_token_id": config.bos_token_id, "eos_token_id": end}
    misleading = {"torch_dtype", "transformers_weights"}
    kept = {key: value for key, value in (base or {}).items() if key not in misleading}
    return {
        **(kept or ends),
        **sizes,
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "dtype": "float32",
    }


def adapter_config(settings: TrainingSettings, layers: int, base: str) -> dict[str, object]:
    """adapter_config.json of a run with adapters, for PEFT. base: the model's folder or Hub id."""
    if settings.lora is None:
        raise ValueError("a run without adapters")
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": settings.lora.rank,
        "lora_alpha": settings.lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": places(settings.lora),
        "layers_to_transform": list(range(settings.frozen, layers)) if settings.frozen else None,
        "fan_in_fan_out": True,
        "bias": "none",
        "inference_mode": True,
    }


def stored(tensors: Mapping[str, Tensor]) -> dict[str, StoredTensor]:
    """Tensors as bytes; those of a CPU are not copied."""
    return {name: _stored(tensor) for name, tensor in tensors.items()}


def read(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a file, each a copy in memory of torch's own."""
    file = MappedFile(path)
    for name, entry in read_header(path).items():
        yield name, file.tensor(entry).clone()
        file.drop(entry)


def is_finite(model: nn.Module) -> bool:
    """Whether every trained parameter is a finite number, in this rank's part of the model."""
    with torch.no_grad():
        return all(
            bool(torch.isfinite(own.sum())) or bool(torch.isfinite(own).all())
            for parameter in model.parameters()
            for own in (local(parameter),)
            if parameter.requires_grad
        )


def _stored(tensor: Tensor) -> StoredTensor:
    plain = whole(tensor.detach()).cpu().contiguous()
    data: Any = plain.reshape(-1).view(torch.uint8).numpy()
    return StoredTensor(_NAMES[plain.dtype], tuple(plain.shape), memoryview(data))
