"""Weights in every kind of number: how far scores are from float32's, and what stays exact.

By torch alone; our own kernels are in test_native.py.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from threading import Thread

import pytest
import torch
from gptcli.engines.gpt2.on_torch.int8_weights import quantize
from safetensors.torch import load_file, save_file
from support.weights import BOUNDS, at_once, on_torch, one_by_one, perplexity, tale
from transformers import GPT2LMHeadModel

from gptcli import native
from gptcli.checkpoints.preflight import inspect
from gptcli.engines import open_engine, placement
from gptcli.engines.gpt2.on_torch import weights
from gptcli.engines.gpt2.on_torch.network import TorchNetwork
from gptcli.errors import UsageError
from gptcli.options import Load, Sampling
from gptcli.protocol import Completion, GenerateRequest

KINDS = ("float32", "float16", "bfloat16", "int8")


@pytest.fixture(autouse=True)
def _torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def matrix(rows: int = 70, width: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(width, rows, generator=generator).t()  # as Conv1D matrices lie


def changed(folder: Path, target: Path, name: str, change) -> Path:
    """The checkpoint with one tensor changed in place."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors[f"transformer.{name}"])
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_near_those_of_transformers(tales: Path, kind: str) -> None:
    tokens, expected = tale(tales)
    largest, share = BOUNDS[kind]
    network = on_torch(tales, kind)
    for logits in (at_once(network, tokens), one_by_one(network, tokens)):
        assert (logits - expected).abs().max() < largest
        ratio = perplexity(logits, tokens) / perplexity(expected, tokens)
        assert abs(ratio - 1) < share


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_scores_of_any_head_are_near_those_of_transformers(
    make_tiny, kind: str, tied: bool
) -> None:
    folder = make_tiny(n_layer=3, tie_word_embeddings=tied)
    tokens = list(range(7, 20))
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0]
    bound = {"float32": 1e-4, "float16": 0.02}.get(kind, 0.1) * max(float(expected.std()), 1)
    assert (at_once(on_torch(folder, kind), tokens) - expected).abs().max() < bound


def test_weights_in_float32_are_not_copied(tiny: Path) -> None:
    found = on_torch(tiny).weights
    assert found.head.weight.data_ptr() == found.wte.data_ptr()


@pytest.mark.parametrize(("kind", "bits"), [("float32", 32), ("float16", 16), ("bfloat16", 16)])
def test_a_matrix_takes_as_many_bits_as_were_asked_for(tiny: Path, kind: str, bits: int) -> None:
    found = on_torch(tiny, kind).weights
    matrices = [found.head, *(layer.fc for layer in found.layers)]
    assert {8 * one.weight.itemsize for one in matrices} == {bits}
    assert found.dtype == torch.float32


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_large_matrix_is_converted_in_parts(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    tokens = list(range(7, 20))
    whole = at_once(on_torch(tiny, kind), tokens)
    monkeypatch.setattr(weights, "CHUNK_ELEMENTS", 100)
    assert (at_once(on_torch(tiny, kind), tokens) - whole).abs().max() < 1e-5


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_may_be_stored_in_any_numbers(
    tiny: Path, tmp_path: Path, stored: torch.dtype, kind: str
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    rounded = {name: tensor.to(stored) for name, tensor in tensors.items()}
    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})
    same = Path(shutil.copytree(tiny, tmp_path / "same"))
    whole = {name: tensor.float() for name, tensor in rounded.items()}
    save_file(whole, same / "model.safetensors", metadata={"format": "pt"})
    tokens = list(range(7, 20))
    found, expected = (at_once(on_torch(place, kind), tokens) for place in (folder, same))
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize("largest", [1e5, 1e-4, torch.nan, torch.inf])
def test_a_matrix_that_half_floats_cannot_hold_stays_in_float32(
    tiny: Path, tmp_path: Path, largest: float
) -> None:
    def spread(weight: torch.Tensor) -> None:
        weight.clamp_(-abs(largest), abs(largest))
        weight[0, 0] = largest

    folder = changed(tiny, tmp_path / "model", "h.1.mlp.c_fc.weight", spread)
    layers = on_torch(folder, "float16").weights.layers
    assert [layer.fc.weight.dtype for layer in layers] == [torch.float16, torch.float32]
    exact = on_torch(folder).weights.layers[1]
    assert torch.equal(layers[1].fc.weight.nan_to_num(), exact.fc.weight.nan_to_num())


def test_a_matrix_of_zeros_can_be_halved(tiny: Path, tmp_path: Path) -> None:
    folder = changed(tiny, tmp_path / "model", "h.1.mlp.c_fc.weight", torch.Tensor.zero_)
    assert on_torch(folder, "float16").weights.layers[1].fc.weight.dtype == torch.float16


def test_an_integer_is_within_half_a_step_of_its_weight() -> None:
    weight = matrix()
    found = quantize(weight)
    assert found.values.dtype == torch.int8
    assert found.values.abs().amax(1).tolist() == [127] * 70
    assert ((found.whole() - weight).abs() <= 0.5001 * found.scales[:, None]).all()


def test_broken_weights_are_not_hidden_by_int8() -> None:
    weight = matrix()
    weight[4, 2] = torch.nan
    weight[7] = torch.inf
    weight[9] = 0
    found = quantize(weight)
    assert found.scales.isnan().nonzero().flatten().tolist() == [4, 7]
    assert found.scales[9] == 0
    assert found.whole()[4].isnan().all()
    assert not found.whole()[9].any()


@pytest.mark.parametrize("where", ["attn.c_attn.bias", "ln_2.weight", "mlp.c_proj.bias"])
@pytest.mark.parametrize("kind", KINDS)
def test_broken_numbers_show_in_the_scores(
    tiny: Path, tmp_path: Path, kind: str, where: str
) -> None:
    def spoil(tensor: torch.Tensor) -> None:
        tensor[-1] = math.nan

    folder = changed(tiny, tmp_path / "model", f"h.1.{where}", spoil)
    assert not one_by_one(on_torch(folder, kind), [1, 2]).isfinite().any()


def test_two_models_may_run_at_once(tales: Path) -> None:
    tokens = tale(tales)[0][:30]
    models = [on_torch(tales, kind) for kind in KINDS]
    expected = [one_by_one(network, tokens) for network in models]
    found: dict[int, torch.Tensor] = {}

    def work(place: int) -> None:
        found[place] = one_by_one(models[place], tokens)

    threads = [Thread(target=work, args=(place,)) for place in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[place], logits) for place, logits in enumerate(expected))


def test_without_kernels_torch_does_the_work(tales: Path) -> None:
    network, kind, notices = placement.open_network(Load(), "x", inspect(tales), "cpu")
    assert isinstance(network, TorchNetwork)
    assert (kind, notices) == ("float32", ())


def test_auto_is_float32_where_torch_does_the_work(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "MIN_HALF_PARAMETERS", 1)
    assert placement.open_network(Load(), "x", inspect(tiny), "cpu")[1] == "float32"


def test_making_int8_weights_is_said_once(tiny: Path) -> None:
    load = Load(dtype="int8")
    notices = [placement.open_network(load, "x", inspect(tiny), "cpu")[2] for _ in range(2)]
    assert [len(found) for found in notices] == [1, 0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
def test_the_model_says_which_numbers_it_has(tiny: Path, dtype: str) -> None:
    assert open_engine(Load(model=str(tiny), dtype=dtype)).info.dtype == dtype  # type: ignore[arg-type]


def test_beam_search_refuses_int8(tiny: Path) -> None:
    with pytest.raises(UsageError, match="--dtype int8"):
        open_engine(Load(model=str(tiny), dtype="int8"), beams=True)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_gpu_refuses_int8(tiny: Path, device: str) -> None:
    with pytest.raises(UsageError, match=f"not on {device}"):
        placement.torch_dtype(Load(dtype="int8"), device)
    with pytest.raises(UsageError, match=f"not on {device}"):
        placement.open_network(Load(dtype="int8"), "x", inspect(tiny), device)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
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


def test_a_draft_model_has_a_network_of_its_own(tiny: Path) -> None:
    load = Load(model=str(tiny), draft_model=str(tiny), dtype="int8")
    assert open_engine(load).info.dtype == "int8"


def test_a_threads_option_is_torchs_too(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        open_engine(Load(model=str(tiny), threads=2))
        assert torch.get_num_threads() == 2
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        open_engine(Load(model=str(tiny)))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
