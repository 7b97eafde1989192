"""Hardware and kernel capabilities, for `gptcli doctor`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gptcli import native
from gptcli.engines.gpt2.int8 import has_fbgemm_int8
from gptcli.engines.gpt2.linear import has_fbgemm, has_onednn


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What torch and our kernels report. `devices` are those beside the CPU, in words."""

    devices: tuple[str, ...]
    instructions: str
    threads: int
    kernels: str  # instruction set of our compiled kernels, "" without kernels
    halves: bool  # the CPU has fast products with float16 weights
    integers: str  # ends the list of data types, as ", int8"


def capabilities() -> Capabilities:
    """Query torch and the kernels; imports torch."""
    own = native.library()
    return Capabilities(
        devices=tuple(_devices()),
        instructions=torch.backends.cpu.get_cpu_capability()
        + ("" if has_onednn() else ", without oneDNN"),
        threads=torch.get_num_threads(),
        kernels=own.kind if own else "",
        halves=own is not None or has_fbgemm(),
        integers=", int8" if own or has_fbgemm_int8() else ", int8 slowly",
    )


def _devices() -> list[str]:
    found = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        device = torch.cuda.get_device_properties(number)
        found.append(f"cuda {number}: {device.name}, {device.total_memory / 1e9:.0f} GB")
    if torch.backends.mps.is_available():
        found.append("mps: Apple's GPU")
    return found
