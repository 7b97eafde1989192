"""Weights in every kind of number: how far scores are from float32's, and what stays exact.

With torch's kernels alone; those of our own are in test_native.py.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from support.weights import (
    BOUNDS,
    CPU,
    at_once,
    inputs,
    matrix,
    one_by_one,
    perplexity,
    tale,
    weights_of,
)
from transformers import GPT2LMHeadModel

from gptcli import native
from gptcli.checkpoints.preflight import inspect
from gptcli.engines import open_engine, placement
from gptcli.engines.gpt2 import int8, linear
from gptcli.engines.gpt2.int8 import ActivationBuffers, FbgemmInt8Linear, Int8Linear, quantize
from gptcli.engines.gpt2.linear import Float16Linear, PlainLinear, halved, to_fbgemm_half, to_half
from gptcli.engines.gpt2.weights import Float16Weights, Weights
from gptcli.errors import UsageError
from gptcli.options import Load, Sampling
from gptcli.protocol import Completion, GenerateRequest

KINDS = ("float32", "float16", "float16 late", "float16 in slots", "int8")
MANY = 40  # steps: more than it takes to prepare everything


@pytest.fixture(autouse=True)
def _torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def without_fbgemm(monkeypatch: pytest.MonkeyPatch):
    """A torch whose old operators are gone."""
    probes = (linear.has_fbgemm, int8.has_fbgemm_int8)
    monkeypatch.setattr(torch.ops, "quantized", SimpleNamespace())
    for probe in probes:
        probe.cache_clear()
    yield
    for probe in probes:
        probe.cache_clear()


def packed(weights: Weights) -> Weights:
    for _ in range(MANY):
        weights.pack_next(2)
    return weights


def assert_near_float32(weights: Weights, folder: Path, kind: str) -> None:
    tokens, expected = tale(folder)
    largest, share = BOUNDS[kind]
    for logits in (at_once(weights, tokens), one_by_one(weights, tokens)):
        assert (logits - expected).abs().max() < largest
        ratio = perplexity(logits, tokens) / perplexity(expected, tokens)
        assert abs(ratio - 1) < share


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_near_those_of_transformers_at_the_first_token(tales: Path, kind: str) -> None:
    assert_near_float32(weights_of(tales, kind), tales, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_near_those_of_transformers_when_all_is_packed(tales: Path, kind: str) -> None:
    assert_near_float32(packed(weights_of(tales, kind)), tales, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("without_fbgemm")
def test_scores_are_near_those_of_transformers_without_fbgemm(tales: Path, kind: str) -> None:
    assert_near_float32(packed(weights_of(tales, kind)), tales, kind)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_near_those_of_transformers_at_every_step_of_packing(
    make_tiny, kind: str, rows: int
) -> None:
    folder = make_tiny(n_layer=3)
    tokens = list(range(7, 20))
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0]
    bound = {"float32": 1e-4, "int8": 0.1}.get(kind, 0.02) * max(float(expected.std()), 1)
    weights = weights_of(folder, kind)
    for _ in range(16):
        weights.pack_next(rows)
        assert (at_once(weights, tokens) - expected).abs().max() < bound


@pytest.mark.parametrize("kind", ["float16 in slots", "int8"])
def test_how_far_packing_went_does_not_show_in_the_scores(tales: Path, kind: str) -> None:
    tokens = tale(tales)[0][:9]
    weights = weights_of(tales, kind)
    first = at_once(weights, tokens)
    for _ in range(MANY):
        weights.pack_next(1)
        assert (at_once(weights, tokens) - first).abs().max() < 2e-4


def test_late_halves_begin_as_float32_and_end_as_halves(tales: Path) -> None:
    tokens = list(range(5))
    weights = weights_of(tales, "float16 late")
    exact = at_once(weights_of(tales, "float32"), tokens)
    assert torch.equal(at_once(weights, tokens), exact)
    for _ in range(MANY):
        weights.pack_next(1)
    rounded = one_by_one(weights, tokens)
    assert torch.equal(rounded, one_by_one(weights_of(tales, "float16"), tokens))
    assert not torch.equal(rounded, one_by_one(packed(weights), tokens))


def int8_products(plain: PlainLinear) -> list[Int8Linear]:
    product = Int8Linear(
        quantize(plain.weight), plain.bias, ActivationBuffers(plain.weight.shape[1])
    )
    return [product, FbgemmInt8Linear(product)] if int8.has_fbgemm_int8() else [product]


@pytest.mark.parametrize("width", [1, 3, 48, 770])
@pytest.mark.parametrize("count", [2, 5, 33, 70])
def test_an_int8_row_is_the_same_to_the_bit_alone_and_in_a_batch(count: int, width: int) -> None:
    x = inputs(count, max(width, 4))[:, -width:]
    for product in int8_products(matrix(70, width)):
        alone = torch.cat([product(row) for row in x.split(1)])
        assert torch.equal(product(x), alone)


@pytest.mark.parametrize("count", [1, 2, 33])
def test_both_int8_products_are_the_same_to_the_bit(count: int) -> None:
    product, fast = int8_products(matrix())
    assert torch.equal(product(inputs(count)), fast(inputs(count)))


def test_int8_activations_are_as_good_as_exact() -> None:
    plain, x = matrix(), inputs(8)
    integers = quantize(plain.weight)
    assert plain.bias is not None
    exact = F.linear(x, integers.values * integers.scales[:, None], plain.bias)
    for product in int8_products(plain):
        assert (product(x) - exact).abs().max() < 1e-3 * exact.abs().max()


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_a_broken_row_stays_broken_and_spoils_no_other(poison: float) -> None:
    sound, x = inputs(3), inputs(3)
    x[1, 5] = poison
    for product in int8_products(matrix()):
        y = product(x)
        assert not y[1].isfinite().any()
        assert torch.equal(y[::2], product(sound)[::2])


def test_a_row_of_zeros_gives_the_bias() -> None:
    plain = matrix()
    for product in int8_products(plain):
        assert torch.equal(product(torch.zeros(2, 48))[1], plain.bias)


def test_broken_weights_are_not_hidden_by_int8() -> None:
    plain = matrix()
    plain.weight[4, 2] = torch.nan
    plain.weight[7] = torch.inf
    plain.weight[9] = 0
    scales = quantize(plain.weight).scales
    assert scales.isnan().nonzero().flatten().tolist() == [4, 7]
    assert scales[9] == 0


@pytest.mark.parametrize("count", [1, 2, 5, 40])
@pytest.mark.parametrize("alone", [True, False])
def test_a_half_row_is_nearly_the_same_alone_and_in_a_batch(count: int, alone: bool) -> None:
    half = to_half(alone, centred=True)(matrix())
    kinds = [half, to_fbgemm_half(half)] if not alone else [half]
    x = torch.randn(count, 48, generator=torch.Generator().manual_seed(1))
    bound = 1e-5 if not alone or count <= linear.MAX_SINGLE_ROWS else 2e-2
    for product in kinds:
        single = torch.cat([product(row) for row in x.split(1)])
        assert (product(x) - single).abs().max() <= bound * single.abs().max()


def test_few_rows_of_halves_are_the_same_to_the_bit_as_one() -> None:
    half = to_half(alone=True, centred=False)(matrix())
    x = inputs(linear.MAX_SINGLE_ROWS)
    assert torch.equal(half(x), torch.cat([half(row) for row in x.split(1)]))


def test_an_offset_that_all_scores_share_costs_no_precision() -> None:
    plain = PlainLinear(0.1 * matrix(500).weight, None)
    shifted = PlainLinear(plain.weight + 3.0, None)
    x = inputs(1).abs() / 10  # an offset of 100 or more, as GPT-2's scores have
    exact = shifted(x).log_softmax(-1)
    centred = to_half(alone=True, centred=True)(shifted)(x).log_softmax(-1)
    not_centred = to_half(alone=True, centred=False)(shifted)(x).log_softmax(-1)
    assert shifted(x).min() > 30
    assert (centred - exact).abs().max() < 0.01 < (not_centred - exact).abs().max()


@pytest.mark.parametrize("largest", [1e5, 1e-4, torch.nan, torch.inf])
def test_a_matrix_that_half_floats_cannot_hold_stays_in_float32(largest: float) -> None:
    plain = matrix()
    plain.weight.clamp_(-abs(largest), abs(largest))
    plain.weight[0, 0] = largest
    assert halved(plain) is None
    x, product = inputs(2), to_half(alone=True, centred=False)(plain)
    assert not isinstance(product, Float16Linear)
    assert product is to_fbgemm_half(product)
    torch.testing.assert_close(product(x), plain(x), equal_nan=True)


def test_a_matrix_of_zeros_can_be_halved() -> None:
    assert halved(PlainLinear(torch.zeros(2, 3), None)) is not None


@pytest.mark.usefixtures("without_fbgemm")
def test_without_fbgemm_its_layouts_are_left_out() -> None:
    half = to_half(alone=False, centred=False)(matrix())
    assert to_fbgemm_half(half) is half
    assert not int8.has_fbgemm_int8()


def chosen(folder: Path, slots: int = 1, **load: str) -> Weights:
    return placement.open_weights(Load(**load), "x", inspect(folder), CPU, slots)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(("slots", "late"), [(1, True), (4, False)])
def test_auto_is_halves_for_a_large_model(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, slots: int, late: bool
) -> None:
    monkeypatch.setattr(placement, "MIN_HALF_PARAMETERS", 1)
    monkeypatch.setattr(placement, "has_fbgemm", lambda: True)
    assert chosen(tiny, slots)._reduced == Float16Weights(slots, late)


def test_auto_is_float32_for_a_small_model(tales: Path) -> None:
    assert chosen(tales)._reduced is None


def test_auto_is_float32_where_there_is_no_fbgemm(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "MIN_HALF_PARAMETERS", 1)
    monkeypatch.setattr(placement, "has_fbgemm", lambda: False)
    assert chosen(tiny)._reduced is None


def test_float16_that_was_asked_for_is_not_late(tiny: Path) -> None:
    assert chosen(tiny, dtype="float16")._reduced == Float16Weights(1, late=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
def test_the_model_says_which_numbers_it_has(tiny: Path, dtype: str) -> None:
    assert open_engine(Load(model=str(tiny), dtype=dtype)).info.dtype == dtype  # type: ignore[arg-type]


def test_beam_search_refuses_int8(tiny: Path) -> None:
    with pytest.raises(UsageError, match="--dtype int8"):
        open_engine(Load(model=str(tiny), dtype="int8"), beams=True)


def test_a_gpu_refuses_int8() -> None:
    with pytest.raises(UsageError, match="not on cuda"):
        placement.chosen_dtype(Load(dtype="int8"), torch.device("cuda"))


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_texts_in_fewer_bits_do_not_depend_on_their_neighbours(tales: Path, dtype: str) -> None:
    prompts = ["Once upon a time", "The king", "A fox"]
    sampling = Sampling(seed=4, max_new_tokens=24)

    def texts(asked: list[str], slots: int) -> list[str]:
        load = Load(model=str(tales), dtype=dtype)  # type: ignore[arg-type]
        requests = [
            GenerateRequest(id=prompt, prompt=prompt, sampling=sampling) for prompt in asked
        ]
        done = open_engine(load, slots).run(requests)
        found = {event.id: event.text for event in done if isinstance(event, Completion)}
        return [found[prompt] for prompt in asked]

    assert texts(prompts, 3) == [texts([prompt], 3)[0] for prompt in prompts]
