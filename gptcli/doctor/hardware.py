"""Processor, memory, accelerators and kernels, and whether torch loads."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from gptcli.doctor.findings import Finding, Findings, Level
from gptcli.system.memory import available
from gptcli.system.processors import usable_cores
from gptcli.system.units import model_size

MEGA_PARAMETERS = {"gpt2": 124, "gpt2-medium": 355, "gpt2-large": 774, "gpt2-xl": 1558}
PROCESS_BYTES = 0.4e9  # of a process, beside the weights; `gptcli bench` measures it
BUSY_SHARE = 0.5  # of the cores, taken by other programs


def hardware() -> Findings:
    """Processor, load and memory."""
    usable, all_ = usable_cores(), os.cpu_count() or 1
    name = _processor()
    yield Finding(
        area="machine", what="processor", value=f"{name}, {usable} of {all_} cores usable"
    )
    yield from _load(usable)
    yield from _threads(usable)
    there = available()
    fits = [model for model, size in MEGA_PARAMETERS.items() if 2e6 * size + PROCESS_BYTES < there]
    value = f"{model_size(there)} free: enough for {fits[-1] if fits else 'small models only'}"
    if fits:
        yield Finding(area="machine", what="memory", value=value)
    else:
        fix = "Close other programs, or use distilgpt2 or tiny-tales."
        yield Finding(area="machine", what="memory", value=value, level="note", fix=fix)


def engines() -> Findings:
    """What a model can run on here, without torch."""
    from gptcli.engines.capabilities import capabilities

    found = capabilities()
    for device in found.devices:
        if found.usable:
            yield Finding(area="machine", what="accelerator", value=device)
        else:
            value, fix = f"{device}; torch is not built for it", "Install a build of torch that is."
            yield Finding(area="machine", what="accelerator", value=value, level="note", fix=fix)
    if not found.devices:
        yield Finding(area="machine", what="accelerator", value="none")
    yield Finding(area="machine", what="threads", value=str(found.threads))
    yield _kernels(found.kernels)
    if found.kernels:
        value = "float32, float16 (auto for large models), bfloat16, int8"
    else:
        value = "float32 (auto); float16 and bfloat16 slowly; no int8"
    yield Finding(area="machine", what="data types", value=value)


def torch_loads() -> Findings:
    """Whether torch can be imported; imports it."""
    from gptcli.engines.capabilities import torch_version

    try:
        value = f"{torch_version()} loads"
    except (ImportError, OSError) as error:  # a library of its own that does not load is an OSError
        why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        fix = "Install it again: pip install --force-reinstall torch"
        value = f"it does not load: {why}"
        yield Finding(area="machine", what="torch", value=value, level="problem", fix=fix)
        return
    yield Finding(area="machine", what="torch", value=value)


def _kernels(kind: str) -> Finding:
    if kind:
        return Finding(area="machine", what="kernels", value=f"gptcli's own, for {kind}")
    if sys.platform not in ("linux", "darwin"):
        return Finding(area="machine", what="kernels", value="torch's: gptcli has none for it")
    value = "torch's alone: those of gptcli's own were not compiled"
    fix = "Install gptcli again where there is a C compiler: it gets faster, and has int8."
    return Finding(area="machine", what="kernels", value=value, level="note", fix=fix)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor() or platform.machine() or "unknown"


def _load(cores: int) -> Findings:
    try:
        load = os.getloadavg()[0]
    except OSError:
        return
    if load > BUSY_SHARE * cores:
        fix = "Close them for the full speed, or leave them a core: --threads N."
        value = f"other programs keep {load:.1f} cores busy"
        yield Finding(area="machine", what="load", value=value, level="note", fix=fix)
    else:
        yield Finding(area="machine", what="load", value=f"{load:.1f} cores busy")


def _threads(cores: int) -> Findings:
    text = os.environ.get("OMP_NUM_THREADS")
    if text is None:
        return
    if text.isdigit() and 0 < int(text) <= cores:
        yield Finding(area="machine", what="OMP_NUM_THREADS", value=text)
        return
    many = text.isdigit() and int(text) > cores
    value = f"{text} threads share {cores} cores" if many else f"{text!r} is no number of threads"
    fix = f"Unset it, or set it to {cores}."
    level: Level = "note" if many else "problem"
    yield Finding(area="machine", what="OMP_NUM_THREADS", value=value, level=level, fix=fix)
