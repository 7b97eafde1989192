"""Which GPUs this machine has, found without torch.

To import torch takes a second. So it is imported to look for a GPU only where there may be one that
it can use: on Apple's processors, and on Linux where there are a device, a variable that does not
hide it, and a torch that is built for it. Not here: the device of a model is chosen in
`gptcli.engines.placement`.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

# The devices of NVIDIA's driver, of its boards', of Windows' for Linux, and of AMD's.
DEVICES = "nvidia[0-9]*", "nvhost-gpu", "dxg", "kfd"
HIDING = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
# Libraries of a build of torch for a GPU.
LIBRARIES = "libtorch_cuda.so", "libtorch_hip.so"
NAME_BYTES = 256


@dataclass(frozen=True)
class GPU:
    """A GPU as its driver names it."""

    name: str
    memory: int  # bytes


def may_have_gpu() -> bool:
    """Whether torch may find a GPU here; no means that it does not."""
    if sys.platform == "darwin":
        return has_apple_gpu()
    if sys.platform != "linux":
        return True
    return _has_device() and not _hidden() and torch_is_for_gpus()


def has_apple_gpu() -> bool:
    """Whether this is one of Apple's own processors, which have a GPU."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def torch_is_for_gpus() -> bool:
    """Whether the installed torch has the kernels for GPUs of Linux; torch is not imported."""
    try:
        spec = find_spec("torch")
    except (ImportError, ValueError):
        return True
    places = spec.submodule_search_locations if spec is not None else None
    folders = [Path(place) / "lib" for place in places or ()]
    return any((folder / name).exists() for folder in folders for name in LIBRARIES)


def nvidia_gpus() -> list[GPU]:
    """NVIDIA's GPUs that a process may use; empty without a driver that works."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        return list(_gpus(driver))
    except (OSError, AttributeError):
        return []


def _gpus(driver: ctypes.CDLL) -> list[GPU]:
    """Ask the driver; a call that fails gives other than 0."""
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    found = []
    for number in range(count.value):
        name, memory = ctypes.create_string_buffer(NAME_BYTES), ctypes.c_size_t()
        failed = driver.cuDeviceGetName(name, NAME_BYTES, number)
        if not failed and not driver.cuDeviceTotalMem_v2(ctypes.byref(memory), number):
            found.append(GPU(name.value.decode(errors="replace"), memory.value))
    return found


def _has_device() -> bool:
    with suppress(OSError):
        return any(any(Path("/dev").glob(pattern)) for pattern in DEVICES)
    return False


def _hidden() -> bool:
    """Whether a variable hides every GPU: it names none, or begins with one that cannot be."""
    values = [os.environ[name].strip() for name in HIDING if name in os.environ]
    return any(not value or value.startswith("-") for value in values)
