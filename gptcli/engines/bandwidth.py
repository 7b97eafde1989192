"""Memory bandwidth, threads and device of this machine.

A decode step reads every weight once. So bandwidth divided by the size of the weights is an upper
limit of single-row tokens per second. The measurement sums a tensor that no cache holds, on the
threads of the decoder. The limit does not hold for models that fit into a cache, nor for many rows,
which are compute-bound. torch is imported inside the functions: a caller may measure smaller things
first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from gptcli.options import Load

ROW_FLOATS = 4096  # float32 values in a row of the tensor


@dataclass(frozen=True)
class Machine:
    """Device and number of threads that an engine uses."""

    device: str  # cpu, cuda or mps
    threads: int  # of torch


def machine(load: Load) -> Machine:
    """The device and threads that an engine opened with `load` uses; sets torch's threads.

    Raises Unavailable for a device that is not there.
    """
    import torch

    from gptcli.engines.placement import chosen_device

    return Machine(chosen_device(load).type, torch.get_num_threads())


def bandwidth(hardware: Machine, megabytes: int = 512, times: int = 7) -> float:
    """Memory read bandwidth in GB/s (10^9 bytes a second), the best of `times` runs."""
    import torch

    torch.set_num_threads(hardware.threads)
    tensor = torch.ones(megabytes * 10**6 // (4 * ROW_FLOATS), ROW_FLOATS, device=hardware.device)
    best = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        tensor.sum(1)[0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - begin)
    return tensor.nbytes / best / 1e9
