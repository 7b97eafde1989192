"""Small bases and adapters in PEFT's layout, written without PEFT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from gptcli.checkpoints.architecture import GPT2Config

PREFIX = "base_model.model.transformer."
SMALL = GPT2Config(vocab_size=24, n_positions=16, n_embd=8, n_layer=2, n_head=2)
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "../base"}


def base(folder: Path, config: GPT2Config = SMALL, dtype: type = np.float32, seed: int = 0) -> Path:
    """Write a GPT-2 of random numbers."""
    numbers = np.random.default_rng(seed)
    tensors = {
        name: numbers.normal(0, 0.3, shape).astype(dtype) for name, shape in config.tensors()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    fields = {name: value for name, value in vars(config).items() if name != "eos_token_ids"}
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", **fields}))
    return folder


def pair(
    module: str, inner: int, outer: int, rank: int = 2, seed: int = 1
) -> dict[str, np.ndarray]:
    """The two matrices of one module."""
    numbers = np.random.default_rng(seed)
    shapes = {"lora_A": (rank, inner), "lora_B": (outer, rank)}
    return {
        f"{PREFIX}{module}.{name}.weight": numbers.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


ATTENTION = pair("h.0.attn.c_attn", 8, 24)


def adapter(folder: Path, tensors: dict[str, np.ndarray] | None = None, **changes: object) -> Path:
    """Write an adapter; a value of None leaves its key out."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(ATTENTION if tensors is None else tensors, folder / "adapter_model.safetensors")
    told = {key: value for key, value in (CONFIG | changes).items() if value is not None}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder
