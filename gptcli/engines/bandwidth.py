"""What the machine gives: its threads, its device, and how fast it reads memory.

Writing one token reads every weight once, so memory bandwidth over the weights' size is the most
tokens a second that any engine can reach for one row. It is measured by adding up a tensor that no
cache holds, on the threads that a decoder would use; on our machines that reads faster than any
product with a vector does. Left out: models small enough for a cache, which can beat this limit,
and the peak of the processor, which matters for many rows. torch is imported when it is needed:
whoever asks may have smaller things to measure first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from gptcli.options import Load

ROW = 4096  # numbers


@dataclass(frozen=True)
class Machine:
    """Where engines run."""

    device: str  # cpu, cuda or mps
    threads: int  # torch's


def machine(load: Load) -> Machine:
    """The device and threads that an engine opened with `load` uses; sets torch's threads.

    Raises Unavailable for a device that is not there.
    """
    import torch

    from gptcli.engines.placement import chosen_device

    return Machine(chosen_device(load).type, torch.get_num_threads())


def bandwidth(place: Machine, megabytes: int = 512, times: int = 7) -> float:
    """Gigabytes (10^9 bytes) a second that the device reads: the best of several times."""
    import torch

    torch.set_num_threads(place.threads)
    tensor = torch.ones(megabytes * 10**6 // (4 * ROW), ROW, device=place.device)
    best = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        tensor.sum(1)[0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - begin)
    return tensor.nbytes / best / 1e9
