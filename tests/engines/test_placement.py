"""Which network runs a GPT-2, and in which numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.engines import completions, requests
from support.weights import on_torch

from gptcli import native
from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.engines import open_engine, placement
from gptcli.engines.gpt2.on_torch.network import TorchNetwork
from gptcli.errors import UsageError
from gptcli.options import Load, Sampling

Opened = list[tuple[str, int]]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """As if there were kernels: the data types and threads with which their network is opened."""
    opened: Opened = []

    def open_network(checked: CheckedCheckpoint, dtype: str, threads: int) -> TorchNetwork:
        opened.append((dtype, threads))
        return on_torch(checked.folder)

    module: Any = ModuleType("gptcli.native.network")
    module.open_network = open_network
    monkeypatch.setattr(native, "library", lambda: object())
    monkeypatch.setitem(sys.modules, "gptcli.native.network", module)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    return opened


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        pytest.fail("torch was asked for")

    monkeypatch.setattr(placement, "import_torch", refused)


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize(
    ("load", "smallest", "expected"),
    [
        ({}, 16_000_000, ("float32", 3)),
        ({}, 1, ("float16", 3)),
        ({"dtype": "float32"}, 1, ("float32", 3)),
        ({"dtype": "bfloat16", "threads": 7}, 1, ("bfloat16", 7)),
        ({"dtype": "int8", "threads": 1}, 16_000_000, ("int8", 1)),
    ],
)
def test_kernels_run_a_gpt2_on_a_cpu(
    tiny: Path,
    compiled: Opened,
    monkeypatch: pytest.MonkeyPatch,
    load: dict[str, Any],
    smallest: int,
    expected: tuple[str, int],
) -> None:
    monkeypatch.setattr(placement, "MIN_HALF_PARAMETERS", smallest)
    engine = open_engine(Load(model=str(tiny), device="cpu", **load))
    assert compiled == [expected]
    assert (engine.info.dtype, engine.info.device) == (expected[0], "cpu")
    [done] = completions(engine, requests(["Once"], Sampling(greedy=True, max_new_tokens=5)))
    assert len(done.tokens) == 5


def test_a_draft_model_runs_beside_its_model(tiny: Path, compiled: Opened) -> None:
    open_engine(Load(model=str(tiny), draft_model=str(tiny), dtype="int8", device="cpu"))
    assert compiled == [("int8", 3)] * 2


def test_beam_search_runs_by_torch(tiny: Path, compiled: Opened) -> None:
    open_engine(Load(model=str(tiny), device="cpu"), beams=True)
    assert compiled == []


def test_a_gpu_runs_by_torch(tiny: Path, compiled: Opened) -> None:
    with pytest.raises(UsageError, match="not on cuda"):
        placement.open_network(Load(dtype="int8"), "x", inspect(tiny), "cuda")
    assert compiled == []


def test_kernels_without_a_network_leave_the_work_to_torch(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "library", lambda: object())
    monkeypatch.setitem(sys.modules, "gptcli.native.network", None)
    network = placement.open_network(Load(), "x", inspect(tiny), "cpu")[0]
    assert isinstance(network, TorchNetwork)


@pytest.mark.usefixtures("without_torch", "compiled")
def test_a_cpu_that_is_asked_for_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked() -> bool:
        pytest.fail("a GPU was looked for")

    may: Callable[[], bool] = looked
    monkeypatch.setattr(placement.accelerators, "may_have_gpu", may)
    assert placement.chosen_device(Load(device="cpu")) == "cpu"
