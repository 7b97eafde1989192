"""Memory bandwidth, threads and device of this machine.

A decode step reads every weight once. So bandwidth divided by the size of the weights is an upper
limit of single-row tokens per second. The measurement sums numbers that no cache holds, on as many
threads as the decoder has. The limit does not hold for models that fit into a cache, nor for many
rows, which are compute-bound. Only for a GPU is torch imported.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gptcli.options import Load

ROW_NUMBERS = 4096  # float32 numbers in a row of a GPU's tensor


@dataclass(frozen=True)
class Machine:
    """Device and number of threads that an engine uses."""

    device: str  # cpu, cuda or mps
    threads: int


def machine(load: Load) -> Machine:
    """The device and threads that an engine opened with `load` uses.

    Raises Unavailable for a device that is not there.
    """
    from gptcli.engines.placement import chosen_device, threads

    return Machine(chosen_device(load), threads(load))


def bandwidth(hardware: Machine, megabytes: int = 512, times: int = 7) -> float:
    """Memory read bandwidth in GB/s (10^9 bytes a second), the best of `times` runs."""
    size = megabytes * 10**6
    if hardware.device != "cpu":
        return size / _best(_gpu_sum(hardware.device, size), times) / 1e9
    import numpy as np

    numbers = np.ones(size // 8, np.uint64)  # whose sum NumPy takes with vectors
    parts = np.array_split(numbers, hardware.threads)
    with ThreadPoolExecutor(hardware.threads) as pool:

        def summed() -> None:
            list(pool.map(np.add.reduce, parts))  # which releases the interpreter lock

        return size / _best(summed, times) / 1e9


def _gpu_sum(device: str, size: int) -> Callable[[], object]:
    import torch

    tensor = torch.ones(size // (4 * ROW_NUMBERS), ROW_NUMBERS, device=device)
    return lambda: tensor.sum(1)[0].item()  # waits for the GPU


def _best(work: Callable[[], object], times: int) -> float:
    """The seconds of the fastest of several runs."""
    best = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best
