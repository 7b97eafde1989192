"""Hardware and kernel capabilities, for `gptcli doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from gptcli import native
from gptcli.system import accelerators
from gptcli.system.processors import default_threads


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a model could run on here. `devices` are those beside the CPU, in words."""

    devices: tuple[str, ...]
    usable: bool  # whether the installed torch is built for such devices
    threads: int
    kernels: str  # instruction set of our compiled kernels, "" without kernels


def capabilities() -> Capabilities:
    """Look at the machine and the kernels, without torch."""
    own = native.library()
    return Capabilities(
        devices=tuple(_devices()),
        usable=accelerators.has_apple_gpu() or accelerators.torch_is_for_gpus(),
        threads=default_threads(),
        kernels=own.kind if own else "",
    )


def torch_version() -> str:
    """The version of torch, which is imported. Raises ImportError and OSError."""
    import torch

    return str(torch.__version__)


def _devices() -> list[str]:
    if accelerators.has_apple_gpu():
        return ["mps: Apple's GPU"]
    found = accelerators.nvidia_gpus()
    if not found and accelerators.may_have_gpu():
        return ["cuda: a GPU that does not tell its name"]
    return [
        f"cuda {number}: {gpu.name}, {gpu.memory / 1e9:.0f} GB" for number, gpu in enumerate(found)
    ]
