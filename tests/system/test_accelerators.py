"""GPUs are looked for without torch, and torch is asked only where there may be one."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import environment

from gptcli.engines import placement
from gptcli.errors import Unavailable
from gptcli.options import Load
from gptcli.system import accelerators

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="devices are found as on Linux")


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU, and a torch that is built for it."""
    for variable in accelerators.HIDING:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(accelerators, "_has_device", lambda: True)
    monkeypatch.setattr(accelerators, "torch_is_for_gpus", lambda: True)


@on_linux
@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("value", "may"),
    [(None, True), ("0", True), ("1,0", True), ("GPU-8a", True), ("", False), ("-1", False)],
)
@pytest.mark.parametrize("variable", accelerators.HIDING)
def test_a_gpu_may_be_hidden(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None, may: bool
) -> None:
    if value is not None:
        monkeypatch.setenv(variable, value)
    assert accelerators.may_have_gpu() == may


@on_linux
@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("missing", ["_has_device", "torch_is_for_gpus"])
def test_without_a_device_or_a_build_for_it_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(accelerators, missing, lambda: False)
    assert not accelerators.may_have_gpu()


@pytest.mark.parametrize(("machine", "may"), [("arm64", True), ("x86_64", False)])
def test_apples_own_processors_have_one(
    monkeypatch: pytest.MonkeyPatch, machine: str, may: bool
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert accelerators.may_have_gpu() == accelerators.has_apple_gpu() == may


@pytest.mark.parametrize(
    ("library", "built"), [("libtorch_cuda.so", True), ("libtorch_hip.so", True), ("x.so", False)]
)
def test_a_build_of_torch_tells_by_its_libraries(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: str, built: bool
) -> None:
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    (tmp_path / "torch" / "__init__.py").write_text("1 / 0")
    (tmp_path / "torch" / "lib" / library).touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert accelerators.torch_is_for_gpus() == built


@pytest.mark.parametrize("library", ["libnone.so", ctypes.util.find_library("m") or "libm.so.6"])
def test_a_driver_that_does_not_work_has_no_gpus(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    real = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda name: real(library))
    assert accelerators.nvidia_gpus() == []


class Driver:
    """A driver of `count` GPUs; `broken` names the call that fails."""

    def __init__(self, count: int, broken: str = "") -> None:
        self.count, self.broken = count, broken

    def __getattr__(self, name: str):
        def call(*args: object) -> int:
            if name == "cuDeviceGetCount":
                args[0]._obj.value = self.count  # type: ignore[attr-defined]
            elif name == "cuDeviceGetName":
                args[0].value = b"A card"  # type: ignore[attr-defined]
            elif name == "cuDeviceTotalMem_v2":
                args[0]._obj.value = 24 * 10**9  # type: ignore[attr-defined]
            return int(name == self.broken)

        return call


@pytest.mark.parametrize(
    ("broken", "found"),
    [("", 2), *((name, 0) for name in ("cuInit", "cuDeviceGetCount", "cuDeviceTotalMem_v2"))],
)
def test_a_driver_tells_names_and_memory(
    monkeypatch: pytest.MonkeyPatch, broken: str, found: int
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(2, broken))
    assert accelerators.nvidia_gpus() == [accelerators.GPU("A card", 24 * 10**9)] * found


@on_linux
def test_no_torch_is_imported_to_find_no_gpu() -> None:
    code = (
        "import json, sys\n"
        "from gptcli.engines.bandwidth import bandwidth, machine\n"
        "from gptcli.engines.capabilities import capabilities\n"
        "from gptcli.options import Load\n"
        "here = machine(Load(threads=2))\n"
        "speed = bandwidth(here, megabytes=8, times=1)\n"
        "print(json.dumps([here.device, here.threads, speed > 0, capabilities().threads,\n"
        "                  'torch' in sys.modules]))"
    )
    changed = environment(CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="3")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=changed)
    assert json.loads(done.stdout) == ["cpu", 2, True, 3, False]


@pytest.mark.usefixtures("there")
def test_where_torch_finds_no_gpu_after_all_the_cpu_is_taken() -> None:
    import torch

    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU")
    assert placement.chosen_device(Load()) == "cpu"
    for device in ("cuda", "mps"):
        with pytest.raises(Unavailable, match=device):
            placement.chosen_device(Load(device=device))  # type: ignore[arg-type]
