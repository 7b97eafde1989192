"""Device, data type and network of a model: --device, --dtype and --threads.

A GPT-2 on a CPU runs by our own kernels, without torch; where there are none, and on a GPU, by
torch. On a CPU `auto` is the fastest data type whose perplexity stays within 0.1 % of float32. With
kernels that is float16 weights where the model is large enough to be memory-bound, else float32.
int8 is used only on request. On a GPU `auto` is bfloat16 or float16. torch is imported inside the
functions that need it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from gptcli import native
from gptcli.checkpoints.preflight import CheckedCheckpoint
from gptcli.engines import forking
from gptcli.engines.gpt2.network import GPT2Network
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load
from gptcli.system import accelerators, stages
from gptcli.system.processors import default_threads

if TYPE_CHECKING:
    import torch

# 64 MB in float32. Smaller models are as fast in float32, and need no preparation.
MIN_HALF_PARAMETERS = 16_000_000


def threads(load: Load) -> int:
    """Number of CPU threads for --threads."""
    return load.threads or default_threads()


def chosen_device(load: Load) -> str:
    """cpu, cuda or mps, for --device. Raises Unavailable where it is missing.

    torch is imported only where there may be a GPU.
    """
    if load.device == "cpu" or (load.device == "auto" and not accelerators.may_have_gpu()):
        return "cpu"
    import_torch(load)
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if load.device == "auto":
        return next((device for device, found in there.items() if found), "cpu")
    if not there[load.device]:
        why = "torch finds no such device here"
        raise Unavailable(f"--device {load.device}", why, "Use --device cpu or auto")
    return load.device


def import_torch(load: Load) -> None:
    """Import torch and set its threads; not in a forked child, where more than one would hang."""
    first = "torch" not in sys.modules
    import torch

    forking.watch()
    if not forking.in_child():
        # A program may have chosen fewer.
        torch.set_num_threads(load.threads or min(torch.get_num_threads(), default_threads()))
    if first:
        stages.mark("torch")


def torch_dtype(load: Load, device: str) -> torch.dtype:
    """The data type of a model in torch; on a GPU of activations and KV cache too.

    Raises UsageError for int8.
    """
    import torch

    if load.dtype == "int8":
        where = "" if device == "cpu" else f", not on {device}"
        why = f"only GPT-2 on a CPU, without beam search, has 8-bit weights{where}"
        raise UsageError("--dtype int8", why, "Use --dtype auto")
    if load.dtype != "auto":
        return getattr(torch, load.dtype)  # type: ignore[no-any-return]
    if device == "cpu":
        return torch.float32
    whole = device == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if whole else torch.float16


def open_network(
    load: Load,
    model: str,
    checked: CheckedCheckpoint,
    device: str,
    free: Callable[[], object] = lambda: None,
) -> tuple[GPT2Network, str, tuple[str, ...]]:
    """The network of a GPT-2, the name of its weights' data type, and notices for the user.

    `model` is the name for messages. `free` is called where the weights are about to be packed
    without the interpreter. Raises UsageError for int8 on a GPU, Unavailable for int8
    without kernels.
    """
    library = native.library() if device == "cpu" else None
    if library is None:
        return _open_on_torch(load, checked, device)
    from gptcli.engines.gpt2.on_cpu.network import CPUNetwork
    from gptcli.engines.gpt2.on_cpu.weights import CPUWeights

    assert checked.gpt2 is not None
    large = checked.gpt2.parameters >= MIN_HALF_PARAMETERS
    dtype = load.dtype if load.dtype != "auto" else "float16" if large else "float32"
    weights = CPUWeights(library, model, checked, dtype, threads(load), free)
    return CPUNetwork(library, weights, threads(load)), dtype, weights.notices


def _open_on_torch(
    load: Load, checked: CheckedCheckpoint, device: str
) -> tuple[GPT2Network, str, tuple[str, ...]]:
    if device == "cpu" and load.dtype == "int8":
        why = "the kernels that have 8-bit weights were not compiled"
        hint = "Install a C compiler and then gptcli again, or use --dtype auto"
        raise Unavailable("--dtype int8", why, hint)
    import_torch(load)
    import torch

    from gptcli.engines.gpt2.on_torch.network import TorchNetwork
    from gptcli.engines.gpt2.on_torch.weights import Weights

    assert checked.gpt2 is not None
    dtype = torch_dtype(load, device)
    weights = Weights(checked.gpt2, checked, torch.device(device), dtype)
    return TorchNetwork(weights), str(dtype).removeprefix("torch."), ()
