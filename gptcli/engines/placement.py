"""Device and data type of a model: --device, --dtype and --threads.

On a CPU `auto` is the fastest data type whose perplexity stays within 0.1 % of float32. That is
float16 weights where kernels for them exist and the model is large enough to be memory-bound, else
float32. int8 is used only on request. On a GPU `auto` is bfloat16 or float16.
"""

from __future__ import annotations

import torch

from gptcli import native
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.engines import forking
from gptcli.engines.gpt2.int8_weights import Int8Weights, load_int8_weights
from gptcli.engines.gpt2.linear import has_fbgemm
from gptcli.engines.gpt2.weights import Float16Weights, Weights
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load

# 64 MB in float32. Smaller models are as fast in float32, and need no preparation.
MIN_HALF_PARAMETERS = 16_000_000


def chosen_device(load: Load) -> torch.device:
    """The device for --device; sets torch's threads. Raises Unavailable where it is missing."""
    if load.threads is not None and not forking.in_child():
        torch.set_num_threads(load.threads)
    mps = torch.backends.mps.is_available()
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": mps}
    device: str = load.device
    if device == "auto":
        device = "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there[device]:
        raise Unavailable(
            f"--device {device}", "torch finds no such device here", "Use --device cpu or auto"
        )
    return torch.device(device)


def chosen_dtype(load: Load, device: torch.device) -> torch.dtype:
    """The data type of weights, activations and KV cache alike. Raises UsageError for int8."""
    if load.dtype == "int8":
        where = "" if device.type == "cpu" else f", not on {device.type}"
        why = f"only GPT-2 on a CPU, without beam search, has 8-bit weights{where}"
        raise UsageError("--dtype int8", why, "Use --dtype auto")
    if load.dtype != "auto":
        return getattr(torch, load.dtype)  # type: ignore[no-any-return]
    if device.type == "cpu":
        return torch.float32
    whole = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if whole else torch.float16


def open_weights(
    load: Load, model: str, checked: CheckedCheckpoint, device: torch.device, slots: int
) -> tuple[Weights, str, tuple[str, ...]]:
    """The weights of a GPT-2, the name of their data type, and notices for the user.

    `model` is the name for messages. Raises UsageError for int8 on a GPU.
    """
    assert checked.gpt2 is not None
    reduced: Float16Weights | Int8Weights | None = None
    if device.type == "cpu":
        reduced = _reduced(load, model, checked, slots)
    if reduced is None:
        dtype = chosen_dtype(load, device)
        name = str(dtype).removeprefix("torch.")
        return Weights(checked.gpt2, checked, device, dtype), name, ()
    weights = Weights(checked.gpt2, checked, device, torch.float32, reduced)
    if isinstance(reduced, Float16Weights):
        return weights, "float16", ()
    return weights, "int8", reduced.notices


def _reduced(
    load: Load, model: str, checked: CheckedCheckpoint, slots: int
) -> Float16Weights | Int8Weights | None:
    """Reduced-precision weights on a CPU, by request or by `auto`; None for float32."""
    assert checked.gpt2 is not None
    if load.dtype == "int8":
        return load_int8_weights(model, checked)
    if load.dtype == "float16":
        return Float16Weights(slots)
    kernels = native.library() is not None
    if (
        load.dtype == "auto"
        and checked.gpt2.parameters >= MIN_HALF_PARAMETERS
        and (kernels or has_fbgemm())
    ):
        return Float16Weights(slots, late=slots == 1 and not kernels)
    return None
