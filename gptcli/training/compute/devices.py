"""What depends on the device: the data type of products, the same bits twice, compiled layers."""

from __future__ import annotations

import os
from typing import Literal

import torch

from gptcli.system.processors import multiplies_bfloat16
from gptcli.training.compute.network import MLP, TrainableGPT2

AskedPrecision = Literal["auto", "float32", "bfloat16"]
Precision = Literal["float32", "bfloat16"]


def precision(asked: AskedPrecision, device: str) -> Precision:
    """The data type of products, for --precision: bfloat16 by itself only where it is fast."""
    if asked != "auto":
        return asked
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device == "cpu" and multiplies_bfloat16() else "float32"


def make_deterministic(device: str) -> None:
    """Let a GPU compute the same bits twice. A CPU does, with one number of threads.

    Call it before the first product on the device.
    """
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)


def compile_layers(model: TrainableGPT2) -> None:
    """Compile what does not depend on the pieces' lengths, of which each batch has others.

    It takes minutes at the first step, and pays on a GPU alone. Names of parameters stay.
    """
    for layer in model.modules():
        if isinstance(layer, MLP):
            layer.compile(dynamic=True)
