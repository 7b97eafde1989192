"""The kernels in C: as exact as promised on every kind of processor, and torch's without them."""

from __future__ import annotations

import ctypes
import math
import platform
import shutil
import sys
from pathlib import Path
from threading import Thread

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from support.weights import (
    BOUNDS,
    at_once,
    inputs,
    matrix,
    one_by_one,
    perplexity,
    tale,
    weights_of,
)

from gptcli import native
from gptcli.checkpoints.preflight import inspect
from gptcli.engines import open_engine, placement
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.gpt2 import kernels as fused
from gptcli.engines.gpt2 import packed_linear
from gptcli.engines.gpt2 import weights as weights_module
from gptcli.engines.gpt2.int8 import ActivationBuffers, Int8Linear, quantize
from gptcli.engines.gpt2.kv_cache import KVCache
from gptcli.engines.gpt2.linear import Linear, PlainLinear
from gptcli.engines.gpt2.network import forward_step
from gptcli.engines.gpt2.packed_linear import PackedLinear, to_packed
from gptcli.engines.gpt2.weights import Float16Weights, Weights
from gptcli.options import Load
from gptcli.protocol import Completion, GenerateRequest

PROCESSORS = ["avx2", "avx512", "avx512vnni"]
DTYPES = ["float32", "float16", "int8"]
MORE = ("more", ctypes.c_int64)
HERE = sys.platform == "linux" and platform.machine() == "x86_64"


@pytest.fixture(params=PROCESSORS)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> native.Library:
    """The kernels for each kind of processor in turn, as if it were this one."""
    if request.param not in native.kinds():
        pytest.skip(f"this processor has no {request.param}, or there was no compiler")
    library = native.opened(request.param)
    assert library is not None
    monkeypatch.setattr(native, "library", lambda: library)
    return library


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def kept(product: Linear) -> Linear:
    return product


def whole(plain: PlainLinear) -> Linear:
    return to_packed(kept, bits=32)(plain)


def halves(plain: PlainLinear) -> Linear:
    return to_packed(kept)(plain)


def eights(plain: PlainLinear) -> Linear:
    product = Int8Linear(
        quantize(plain.weight), plain.bias, ActivationBuffers(plain.weight.shape[1])
    )
    return to_packed(kept)(product)


def operation_by_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "MAX_STEP_TOKENS", 0)


def filled(weights: Weights, slots: int, *prompts: list[int]) -> KVCache:
    cache = KVCache(weights.config, slots, weights.device, weights.dtype)
    for slot, prompt in enumerate(prompts):
        forward_step(weights, cache, [Segment(slot, 0, len(prompt))], prompt, [])
    return cache


@pytest.mark.skipif(
    not HERE or not shutil.which("cc"), reason="they need x86-64 Linux and a compiler"
)
def test_they_are_there_where_they_can_be() -> None:
    assert native.library() is not None or not native.kinds()
    assert (Path(native.__file__).parent / "processor.so").exists()


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 33, 300])
@pytest.mark.parametrize(("out", "width"), [(1, 2), (31, 48), (32, 770), (70, 3072), (129, 5000)])
@pytest.mark.usefixtures("kernels")
def test_products_are_those_of_the_rounded_weights(out: int, width: int, rows: int) -> None:
    plain, x = matrix(out, width), inputs(rows, max(width, 4))[:, -width:].contiguous()
    assert plain.bias is not None
    integers = quantize(plain.weight)
    largest = x.double().abs().amax(1, keepdim=True).expand_as(x)
    for product, weight, rounded in (
        (whole(plain), plain.weight.double(), 0.0),
        (halves(plain), plain.weight.half().double(), 0.0),
        (eights(plain), integers.values.double() * integers.scales.double()[:, None], 0.5 / 16383),
    ):
        assert isinstance(product, PackedLinear)
        exact = F.linear(x.double(), weight, plain.bias.double())
        bound = 2e-6 * F.linear(x.double().abs(), weight.abs(), plain.bias.double().abs())
        bound += rounded * F.linear(largest, weight.abs())  # of activations to integers
        assert ((product(x) - exact).abs() <= bound).all()


@pytest.mark.parametrize("rows", [2, 5, 8, 33, 300])
@pytest.mark.parametrize("make", [whole, halves, eights])
@pytest.mark.usefixtures("kernels")
def test_a_row_is_the_same_to_the_bit_alone_and_in_a_batch(make, rows: int) -> None:
    product, x = make(matrix(70, 770)), inputs(rows, 770)
    assert torch.equal(product(x), torch.cat([product(row) for row in x.split(1)]))


def test_eight_bits_give_the_same_on_every_kind_of_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for kind in native.kinds():
        library = native.opened(kind)
        monkeypatch.setattr(native, "library", lambda library=library: library)
        found.append(eights(matrix(70, 5000))(inputs(9, 5000)))
    assert all(torch.equal(found[0], other) for other in found)


@pytest.mark.usefixtures("kernels")
def test_the_largest_numbers_do_not_overflow() -> None:
    plain = PlainLinear(torch.full((40, 4096), 2.0), None)
    x = torch.full((3, 4096), 5.0)
    assert torch.equal(whole(plain)(x), torch.full((3, 40), 40960.0))
    assert torch.equal(halves(plain)(x), torch.full((3, 40), 40960.0))
    torch.testing.assert_close(eights(plain)(x), torch.full((3, 40), 40960.0))


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
@pytest.mark.parametrize("make", [whole, halves, eights])
@pytest.mark.usefixtures("kernels")
def test_a_broken_row_stays_broken_and_spoils_no_other(make, poison: float) -> None:
    product, sound, x = make(matrix()), inputs(3), inputs(3)
    x[1, 5] = poison
    y = product(x)
    assert not y[1].isfinite().any()
    assert torch.equal(y[::2], product(sound)[::2])


@pytest.mark.parametrize("make", [whole, halves, eights])
@pytest.mark.usefixtures("kernels")
def test_a_row_of_zeros_gives_the_bias(make) -> None:
    plain = matrix()
    tiniest = torch.full((1, 48), 1e-45)
    assert torch.equal(make(plain)(torch.zeros(2, 48))[1], plain.bias)
    torch.testing.assert_close(make(plain)(tiniest)[0], plain.bias)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.usefixtures("kernels")
def test_weights_may_be_stored_in_any_numbers(stored: torch.dtype) -> None:
    plain = PlainLinear(matrix().weight.to(stored), None)
    exact = F.linear(inputs(2), plain.weight.float().half().float())
    torch.testing.assert_close(halves(plain)(inputs(2)), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("largest", [1e5, 1e-4, torch.nan, torch.inf])
@pytest.mark.usefixtures("kernels")
def test_a_matrix_that_half_floats_cannot_hold_stays_as_it_is(largest: float) -> None:
    plain = matrix()
    plain.weight.clamp_(-abs(largest), abs(largest))
    plain.weight[0, 0] = largest
    assert halves(plain) is plain


@pytest.mark.usefixtures("kernels")
def test_a_large_model_is_laid_in_blocks_in_float32_when_it_pays(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_module, "MAX_PACKED_AT_ONCE", 0)
    tokens = list(range(12))
    weights = weights_of(tiny, "float32")
    first = one_by_one(weights, tokens)
    assert not weights.packed
    for _ in range(8):
        weights.pack_next(1)
        torch.testing.assert_close(one_by_one(weights, tokens), first, rtol=0, atol=1e-4)
    assert weights.packed


@pytest.mark.usefixtures("kernels")
def test_gradients_are_taken_of_weights_as_they_are_stored(tiny: Path) -> None:
    assert not weights_of(tiny, "float32").as_stored().packed


@pytest.mark.usefixtures("kernels")
def test_an_odd_number_of_inputs_stays_as_it_is() -> None:
    assert not isinstance(eights(matrix(5, 3)), PackedLinear)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("kernels")
def test_scores_are_near_those_of_transformers(tales: Path, dtype: str) -> None:
    tokens, expected = tale(tales)
    weights = weights_of(tales, dtype)
    assert weights.packed
    largest, share = BOUNDS["float16 in slots" if dtype == "float16" else dtype]
    for logits in (at_once(weights, tokens), one_by_one(weights, tokens)):
        assert (logits - expected).abs().max() < largest
        assert abs(perplexity(logits, tokens) / perplexity(expected, tokens) - 1) < share


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("kernels")
def test_a_step_in_one_call_is_the_step_operation_by_operation(
    tales: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """One token of two sequences, a draft, a prompt, and two ways on from one place."""
    weights = weights_of(tales, dtype)
    tokens = tale(tales)[0]
    segments = [
        *(Segment(0, 20, 1), Segment(1, 9, 1), Segment(2, 30, 5), Segment(3, 0, 11)),
        *(Segment(4, 12, 3), Segment(4, 12, 2)),
    ]
    ran = tokens[40 : 40 + sum(segment.length for segment in segments)]
    wanted = [0, 1, 6, 17, 18, 22]
    results = []
    for _ in range(2):
        cache = filled(weights, 5, tokens[:20], tokens[:9], tokens[:30], [], tokens[:12])
        results.append((forward_step(weights, cache, segments, ran, wanted), cache.kv))
        operation_by_operation(monkeypatch)
    (fast, fast_kv), (slow, slow_kv) = results
    # Rounding activations to integers may turn a difference in the last bit into one of theirs.
    bound = {"float32": 5e-5, "float16": 1e-4, "int8": 0.1}[dtype]
    torch.testing.assert_close(fast, slow, rtol=0, atol=bound)
    torch.testing.assert_close(fast_kv, slow_kv, rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("kernels")
def test_a_step_is_the_same_to_the_bit_whatever_runs_beside(tales: Path, dtype: str) -> None:
    weights, tokens = weights_of(tales, dtype), tale(tales)[0]
    prompts = [tokens[:20], tokens[5:14], tokens[1:31]]
    segments = [Segment(slot, len(prompt), 2) for slot, prompt in enumerate(prompts)]
    together = forward_step(weights, filled(weights, 3, *prompts), segments, tokens[50:56])
    cache = filled(weights, 3, *prompts)
    alone = [
        forward_step(weights, cache, [segment], tokens[50 + 2 * n : 52 + 2 * n])
        for n, segment in enumerate(segments)
    ]
    one_each = [
        forward_step(weights, cache, [Segment(2, 30, 1)], tokens[54:55]),
        forward_step(weights, cache, [Segment(2, 31, 1)], tokens[55:56]),
    ]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together[-2:], torch.cat(one_each))


@pytest.mark.parametrize("threads", [1, 3, 8])
@pytest.mark.usefixtures("kernels")
def test_the_number_of_threads_does_not_show(
    tales: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(packed_linear, "OPS_PER_THREAD", 1)
    weights, before = weights_of(tales, "int8"), torch.get_num_threads()
    tokens = tale(tales)[0][:5]
    expected = one_by_one(weights, tokens)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(one_by_one(weights, tokens), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("work", "threads"), [(1, 1), (8_000_000, 2), (10**9, 4)])
def test_small_work_is_for_one_thread(
    monkeypatch: pytest.MonkeyPatch, work: int, threads: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert packed_linear.threads_for(work) == threads


@pytest.mark.usefixtures("kernels")
def test_two_models_may_run_at_once(tales: Path) -> None:
    tokens = tale(tales)[0][:30]
    models = [weights_of(tales, dtype) for dtype in DTYPES * 2]
    expected = [one_by_one(weights, tokens) for weights in models]
    found: dict[int, torch.Tensor] = {}

    def work(place: int) -> None:
        found[place] = one_by_one(models[place], tokens)

    threads = [Thread(target=work, args=(place,)) for place in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[place], logits) for place, logits in enumerate(expected))


@pytest.mark.parametrize("where", ["attn.c_attn.bias", "ln_2.weight", "mlp.c_proj.bias"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("kernels")
def test_broken_numbers_show_in_the_scores(
    tiny: Path, tmp_path: Path, dtype: str, where: str
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors[f"transformer.h.1.{where}"][-1] = math.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    weights = weights_of(folder, dtype)
    assert weights.packed
    assert not one_by_one(weights, [1, 2]).isfinite().any()


@pytest.mark.parametrize(
    "config",
    [
        {"activation_function": "relu"},
        {"activation_function": "gelu"},
        {"n_embd": 36, "n_head": 3, "n_inner": 50},
        {"scale_attn_by_inverse_layer_idx": True},
        {"tie_word_embeddings": False},
    ],
    ids=str,
)
@pytest.mark.usefixtures("kernels")
def test_every_kind_of_gpt2_gives_what_it_gives_in_float32(
    make_tiny, monkeypatch: pytest.MonkeyPatch, config: dict
) -> None:
    folder, tokens = make_tiny(**config), list(range(7, 20))
    with monkeypatch.context() as patch:
        patch.setattr(native, "library", lambda: None)
        exact = one_by_one(weights_of(folder, "float32"), tokens)
    for dtype, bound in (("float32", 1e-4), ("float16", 0.02), ("int8", 0.2)):
        logits = one_by_one(weights_of(folder, dtype), tokens)
        assert (logits - exact).abs().max() < bound * max(float(exact.std()), 1)


@pytest.mark.usefixtures("kernels")
def test_auto_takes_them_at_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "MIN_HALF_PARAMETERS", 1)
    manifest = inspect(tiny)
    for slots in (1, 4):
        weights = placement.open_weights(Load(), "x", manifest, torch.device("cpu"), slots)[0]
        assert weights._reduced == Float16Weights(slots, late=False)
        assert weights.packed
        assert weights.wide


def test_without_them_a_text_is_written_all_the_same(
    tales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(model=str(tales), dtype="float16")
    request = GenerateRequest(id="a", prompt="Once upon a time")
    texts = []
    for library in (native.library(), None):
        monkeypatch.setattr(native, "library", lambda library=library: library)
        done = [e for e in open_engine(load).run([request]) if isinstance(e, Completion)]
        texts.append(done[0].usage.completion_tokens)
    assert texts[0] == texts[1] > 0


def test_libraries_of_another_version_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "ABI", native.ABI + 1)
    assert all(native.opened(kind) is None for kind in native.kinds())


@pytest.mark.parametrize("structure", native.STRUCTURES, ids=lambda item: item.__name__)
def test_libraries_that_lay_a_structure_out_otherwise_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, structure: type[ctypes.Structure]
) -> None:
    """As if someone had added a field to it in one of the two languages."""
    grown = type(structure.__name__, (ctypes.Structure,), {"_fields_": [*structure._fields_, MORE]})
    others = [item for item in native.STRUCTURES if item is not structure]
    monkeypatch.setattr(native, "STRUCTURES", (*others, grown))
    assert all(native.opened(kind) is None for kind in native.kinds())


def test_libraries_with_two_fields_exchanged_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ins, outs = ("in_features", ctypes.c_int64), ("out_features", ctypes.c_int64)
    fields = [{ins: outs, outs: ins}.get(field, field) for field in native.MatrixStruct._fields_]
    swapped = type("Matrix", (ctypes.Structure,), {"_fields_": fields})
    assert ctypes.sizeof(swapped) == ctypes.sizeof(native.MatrixStruct)
    others = [item for item in native.STRUCTURES if item is not native.MatrixStruct]
    monkeypatch.setattr(native, "STRUCTURES", (*others, swapped))
    assert all(native.opened(kind) is None for kind in native.kinds())


def test_without_libraries_that_fit_torch_does_the_work(
    tales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "STRUCTURES", native.STRUCTURES[1:])
    native.library.cache_clear()
    try:
        assert not weights_of(tales, "float16").packed
    finally:
        monkeypatch.undo()
        native.library.cache_clear()


def test_libraries_that_are_not_there_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_folder", lambda: tmp_path)
    assert native.kinds() == []
    assert native.opened("avx2") is None
