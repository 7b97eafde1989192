"""Where a model is computed and in which numbers: --device, --dtype and --threads.

`auto` on a CPU means the fastest numbers whose perplexity is within 0.1 % of float32's: weights in
16 bits where this build of torch has the kernels and the model is large enough for reading weights
to be what takes the time; 8 bits are only taken when asked for. On a GPU everything is in 16 bits.
"""

from __future__ import annotations

import torch

from gptcli import native
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.engines.gpt2.int8_weights import Integers, integers
from gptcli.engines.gpt2.linear import has_fbgemm
from gptcli.engines.gpt2.weights import Halves, Weights
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load

# Parameters: 64 MB in float32. Smaller models are as fast in it, and nothing need be prepared.
LARGE = 16_000_000


def chosen_device(load: Load) -> torch.device:
    """The device asked for; sets torch's threads. Raises Unavailable where there is none."""
    if load.threads is not None:
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
    """The one dtype of everything, without weights in fewer bits. Raises UsageError for int8."""
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
    load: Load, model: str, manifest: CheckedCheckpoint, device: torch.device, slots: int
) -> tuple[Weights, str, tuple[str, ...]]:
    """A GPT-2's weights as asked for, the name of their dtype, and what to tell the user.

    `model` is the name to be shown. Raises UsageError for int8 on a GPU.
    """
    assert manifest.gpt2 is not None
    reduced: Halves | Integers | None = None
    if device.type == "cpu":
        reduced = _reduced(load, model, manifest, slots)
    if reduced is None:
        dtype = chosen_dtype(load, device)
        name = str(dtype).removeprefix("torch.")
        return Weights(manifest.gpt2, manifest, device, dtype), name, ()
    weights = Weights(manifest.gpt2, manifest, device, torch.float32, reduced)
    if isinstance(reduced, Halves):
        return weights, "float16", ()
    return weights, "int8", reduced.notices


def _reduced(
    load: Load, model: str, manifest: CheckedCheckpoint, slots: int
) -> Halves | Integers | None:
    """The kind of reduced weights asked for on a CPU, or chosen by `auto`; None for neither."""
    assert manifest.gpt2 is not None
    if load.dtype == "int8":
        return integers(model, manifest)
    if load.dtype == "float16":
        return Halves(slots)
    kernels = native.library() is not None
    if load.dtype == "auto" and manifest.gpt2.parameters >= LARGE and (kernels or has_fbgemm()):
        return Halves(slots, late=slots == 1 and not kernels)
    return None
