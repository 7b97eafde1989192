"""A step: the same bits twice, dropout without state, bfloat16, the head's loss in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.training import SMALL, pieces
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gptcli.system import processors
from gptcli.training.compute import devices, head_loss
from gptcli.training.compute.batch import packed
from gptcli.training.compute.building import build
from gptcli.training.compute.optimizer import optimizer_tensors
from gptcli.training.compute.step import Stepper
from gptcli.training.settings import LoraSettings, TrainingSettings

TABLE = pieces([9, 4, 9, 1, 20, 3], muted=[0, 2, 0, 0, 11, 0])
ALL = np.arange(6)
CPU = torch.device("cpu")
WIDE = replace(SMALL, n_positions=128, n_embd=96)
MANY = pieces([128, 128, 128, 90, 85, 12])
PRODUCTS = ("addmm", "mm", "bmm", "_linear_pointwise", "linear", "_scaled_dot_product")


def made(settings: TrainingSettings, config: Any = SMALL, device: torch.device = CPU) -> Stepper:
    return Stepper(build(config, settings, None), settings, device, 512)


def weights(stepper: Stepper) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in stepper.model.named_parameters()}


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_steps_give_the_same_bytes(dtype: str) -> None:
    settings = TrainingSettings(dropout=0.1, warmup=1, steps=3, dtype=dtype)
    found = []
    for _ in range(2):
        stepper = made(settings, WIDE)
        results = [stepper.step(MANY, ALL, number) for number in (1, 2)]
        found.append((results, weights(stepper)))
        torch.rand(3)  # what else draws random numbers does not matter
    (first, one), (second, other) = found
    assert first == second
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_dropout_depends_on_seed_and_step_alone_and_is_off_in_evaluation() -> None:
    settings = TrainingSettings(dropout=0.4, seed=3, warmup=0)
    plain = made(TrainingSettings(seed=3, warmup=0))
    losses = [made(settings).step(TABLE, ALL, number).loss for number in (7, 7, 8)]
    assert losses[0] == losses[1] != losses[2]
    whole = plain.loss(TABLE, ALL)
    assert made(settings).loss(TABLE, ALL) == whole
    assert plain.step(TABLE, ALL, 1).loss == pytest.approx(whole, rel=1e-6)
    assert made(replace(settings, seed=4)).step(TABLE, ALL, 7).loss != losses[0]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_activations_computed_twice_change_nothing(dropout: float) -> None:
    settings = TrainingSettings(dropout=dropout, warmup=1, steps=2)
    kept, again = made(settings), made(settings)
    again.model.checkpointing = True
    assert kept.step(TABLE, ALL, 1) == again.step(TABLE, ALL, 1)
    other = weights(again)
    assert all(torch.equal(value, other[name]) for name, value in weights(kept).items())


class Products(TorchDispatchMode):
    """The data types of all matrices that are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__.removesuffix("_").startswith(PRODUCTS):
            factors = [arg for arg in args[:4] if isinstance(arg, Tensor) and arg.dim() > 1]
            self.types |= {arg.dtype for arg in factors}
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("lora", [None, LoraSettings(targets=("all",))])
def test_in_bfloat16_every_product_is_and_no_weight_or_moment(lora: LoraSettings | None) -> None:
    results = {}
    for dtype, expected in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        stepper = made(TrainingSettings(dtype=dtype, lora=lora, warmup=0))
        with Products() as products:
            results[dtype] = stepper.step(TABLE, ALL, 1)
        assert products.types == {expected}
        held = [p.grad for p in stepper.trained] + stepper.trained
        held += optimizer_tensors(stepper.optimizer).values()
        assert {tensor.dtype for tensor in held} == {torch.float32}
    one, other = results["float32"], results["bfloat16"]
    assert other.loss == pytest.approx(one.loss, rel=2e-3)
    assert other.norm == pytest.approx(one.norm, rel=2e-2)


def test_the_heads_loss_in_parts_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_loss, "BLOCK", 61 * 16)
    monkeypatch.setattr(head_loss, "COLUMNS", 25)
    torch.manual_seed(1)
    states = torch.randn(50, 24, requires_grad=True)
    matrix = torch.randn(61, 24, requires_grad=True)
    targets = torch.randint(0, 61, (50,))
    targets[[0, 3, 17, 49]] = -100
    found = []
    for loss in (
        head_loss.head_loss(states, matrix, targets),
        torch.nn.functional.cross_entropy(states @ matrix.t(), targets, reduction="sum"),
    ):
        gradients = torch.autograd.grad(loss / 46, (states, matrix))
        found.append((loss.detach(), *gradients))
    for own, theirs in zip(*found, strict=True):
        torch.testing.assert_close(own, theirs, atol=1e-6, rtol=1e-6)
    assert found[0][1][3].eq(0).all()


def test_a_target_that_is_hopeless_has_a_finite_loss_and_gradient() -> None:
    states = torch.full((1, 2), 300.0, requires_grad=True)
    matrix = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    loss = head_loss.head_loss(states, matrix, torch.tensor([1]))
    loss.backward()
    assert loss.item() == pytest.approx(1200)
    assert states.grad.tolist() == [[2, 2]]


def test_end_tokens_count_like_any_token_and_only_muted_targets_do_not() -> None:
    table = replace(TABLE, ids=np.full_like(TABLE.ids, 60))  # nothing but one id, as if padding
    batch = packed(table, ALL)
    assert int((batch.targets == 60).sum()) == 46 - 13
    assert made(TrainingSettings()).step(table, ALL, 1).targets == 33


def test_products_are_in_bfloat16_by_themselves_only_where_that_is_fast(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for flags, expected in (
        ("fpu avx512f avx512_bf16", "bfloat16"),
        ("fpu amx_bf16 amx_tile", "bfloat16"),
        ("fpu avx512f avx2", "float32"),
    ):
        (tmp_path / "cpuinfo").write_text(f"model name\t: x\nflags\t\t: {flags}\nbugs\t: \n")
        monkeypatch.setattr(processors, "DESCRIBED", tmp_path / "cpuinfo")
        assert devices.precision("auto", "cpu") == expected
        assert devices.precision("float32", "cpu") == "float32"
    monkeypatch.setattr(processors, "DESCRIBED", tmp_path / "absent")
    assert devices.precision("auto", "cpu") == devices.precision("auto", "mps") == "float32"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpu_computes_a_processors_step_and_the_same_bits_twice(dtype: str) -> None:
    settings = TrainingSettings(warmup=1, steps=2, dtype=dtype)
    expected = made(replace(settings, dtype="float32"), WIDE).step(MANY, ALL, 1)
    devices.make_deterministic("cuda")
    try:
        found = [made(settings, WIDE, torch.device("cuda")) for _ in range(2)]
        results = [stepper.step(MANY, ALL, 1) for stepper in found]
        compiled = made(settings, WIDE, torch.device("cuda"))
        devices.compile_layers(compiled.model)
        results.append(compiled.step(MANY, ALL, 1))
    finally:
        torch.use_deterministic_algorithms(False)
    assert results[0] == results[1]
    one, other = map(weights, found)
    assert all(torch.equal(one[name], other[name]) for name in one)
    for result in results:
        assert result.loss == pytest.approx(expected.loss, rel=1e-2)
        assert result.norm == pytest.approx(expected.norm, rel=5e-2)
