"""Which network runs a GPT-2, and in which numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.engines import completions, requests

from gptcli import native
from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.engines import open_engine, placement
from gptcli.engines.gpt2.on_cpu import weights
from gptcli.engines.gpt2.on_cpu.network import OPS_PER_THREAD, CPUNetwork
from gptcli.engines.gpt2.on_torch.network import TorchNetwork
from gptcli.engines.hf import HFEngine
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load, Sampling

Opened = list[tuple[str, int]]


@pytest.fixture
def opened(kernels: native.Library, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The data types and threads with which weights for our kernels are opened."""
    found: Opened = []

    class Noted(weights.CPUWeights):
        def __init__(
            self, library: native.Library, name: str, checked: CheckedCheckpoint, *how: Any
        ) -> None:
            found.append((how[0], how[1]))
            super().__init__(library, name, checked, *how)

    monkeypatch.setattr(weights, "CPUWeights", Noted)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    return found


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        pytest.fail("torch was asked for")

    monkeypatch.setattr(placement, "import_torch", refused)


@pytest.fixture
def threads_of_torch() -> Any:
    """Sets torch's threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize(
    ("load", "smallest", "expected"),
    [
        ({}, 16_000_000, ("float32", 3)),
        ({}, 1, ("float16", 3)),
        ({"dtype": "float32"}, 1, ("float32", 3)),
        ({"dtype": "float16"}, 16_000_000, ("float16", 3)),
        ({"dtype": "bfloat16", "threads": 7}, 1, ("bfloat16", 7)),
        ({"dtype": "int8", "threads": 1}, 16_000_000, ("int8", 1)),
    ],
)
def test_kernels_run_a_gpt2_on_a_cpu(
    tiny: Path,
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
    load: dict[str, Any],
    smallest: int,
    expected: tuple[str, int],
) -> None:
    monkeypatch.setattr(placement, "MIN_HALF_PARAMETERS", smallest)
    engine = open_engine(Load(model=str(tiny), device="cpu", **load))
    assert opened == [expected]
    assert (engine.info.dtype, engine.info.device) == (expected[0], "cpu")
    [done] = completions(engine, requests(["Once"], Sampling(greedy=True, max_new_tokens=5)))
    assert len(done.tokens) == 5


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(("share", "threads"), [(0.0, 1), (1.9, 1), (2.1, 2), (100.0, 4)])
def test_small_work_is_for_few_threads(tiny: Path, share: float, threads: int) -> None:
    network = placement.open_network(Load(threads=4), "x", inspect(tiny), "cpu")[0]
    assert isinstance(network, CPUNetwork)
    tokens = int(share * OPS_PER_THREAD / network.config.parameters)
    assert network._threads_for(max(tokens, 1)) == threads


def test_a_draft_model_has_a_network_of_its_own(tiny: Path, opened: Opened) -> None:
    load = Load(model=str(tiny), draft_model=str(tiny), dtype="int8", device="cpu")
    assert open_engine(load).info.dtype == "int8"
    assert opened == [("int8", 3)] * 2


def test_beam_search_runs_by_torch(tiny: Path, opened: Opened) -> None:
    assert isinstance(open_engine(Load(model=str(tiny), device="cpu"), beams=True), HFEngine)
    assert opened == []


def test_beam_search_refuses_int8(tiny: Path) -> None:
    with pytest.raises(UsageError, match="--dtype int8"):
        open_engine(Load(model=str(tiny), dtype="int8"), beams=True)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_gpu_runs_by_torch_and_refuses_int8(tiny: Path, opened: Opened, device: str) -> None:
    with pytest.raises(UsageError, match=f"not on {device}"):
        placement.torch_dtype(Load(dtype="int8"), device)
    with pytest.raises(UsageError, match=f"not on {device}"):
        placement.open_network(Load(dtype="int8"), "x", inspect(tiny), device)
    assert opened == []


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize("smallest", [1, 16_000_000])
def test_without_kernels_torch_does_the_work_in_float32(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, smallest: int
) -> None:
    monkeypatch.setattr(placement, "MIN_HALF_PARAMETERS", smallest)
    network, kind, notices = placement.open_network(Load(), "x", inspect(tiny), "cpu")
    assert isinstance(network, TorchNetwork)
    assert (kind, notices) == ("float32", ())


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize("drafts", [False, True])
def test_without_kernels_int8_is_refused(tiny: Path, drafts: bool) -> None:
    draft = {"draft_model": str(tiny)} if drafts else {}
    with pytest.raises(Unavailable, match="--dtype int8") as refused:
        open_engine(Load(model=str(tiny), dtype="int8", **draft))
    assert "not compiled" in str(refused.value)
    assert "--dtype auto" in refused.value.hint


def test_the_model_says_which_numbers_it_has(tiny: Path, each_network: str) -> None:
    kinds = ["float32", "bfloat16", "float16", "int8"]
    for kind in kinds[:-1] if each_network == "no_kernels" else kinds:
        assert open_engine(Load(model=str(tiny), dtype=kind)).info.dtype == kind  # type: ignore[arg-type]


@pytest.mark.usefixtures("without_torch", "kernels")
def test_a_cpu_that_is_asked_for_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked() -> bool:
        pytest.fail("a GPU was looked for")

    monkeypatch.setattr(placement.accelerators, "may_have_gpu", looked)
    assert placement.chosen_device(Load(device="cpu")) == "cpu"


@pytest.mark.usefixtures("no_kernels", "threads_of_torch")
def test_without_kernels_the_threads_are_torchs(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_engine(Load(model=str(tiny), threads=2))
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    open_engine(Load(model=str(tiny)))
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("kernels", "without_torch", "threads_of_torch")
def test_with_kernels_torchs_threads_are_left_alone(tiny: Path) -> None:
    torch.set_num_threads(1)
    open_engine(Load(model=str(tiny), threads=2, device="cpu"))
    assert torch.get_num_threads() == 1
