"""Weights in every kind of number, on both networks: how far scores are from float32's."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.weights import BOUNDS, at_once, on_cpu, on_torch, one_by_one, perplexity, tale
from transformers import GPT2LMHeadModel

from gptcli.checkpoints.preflight import inspect
from gptcli.engines import open_engine, placement
from gptcli.engines.gpt2.on_cpu.network import CPUNetwork
from gptcli.engines.gpt2.on_torch import weights
from gptcli.engines.gpt2.on_torch.network import TorchNetwork
from gptcli.options import Load, Sampling
from gptcli.protocol import Completion, GenerateRequest

KINDS = ("float32", "float16", "bfloat16", "int8")
STORED = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(params=[*(("kernels", kind) for kind in KINDS), *(("torch", k) for k in KINDS[:3])])
def kind(request: pytest.FixtureRequest) -> str:
    """Each data type on each of the networks that has it."""
    network, kind = request.param
    request.getfixturevalue("kernels" if network == "kernels" else "no_kernels")
    return str(kind)


def changed(
    folder: Path, target: Path, name: str, change: Callable[[torch.Tensor], object]
) -> Path:
    """The checkpoint with one tensor changed in place."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors[f"transformer.{name}"])
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def expected_of(folder: Path, tokens: list[int]) -> torch.Tensor:
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0]


@pytest.mark.usefixtures("each_network")
def test_the_networks_are_the_right_ones(tiny: Path, each_network: str) -> None:
    right = CPUNetwork if each_network == "kernels" else TorchNetwork
    assert isinstance(on_cpu(tiny), right)


def test_scores_are_near_those_of_transformers(tales: Path, kind: str) -> None:
    tokens, expected = tale(tales)
    largest, share = BOUNDS[kind]
    network = on_cpu(tales, kind)
    for logits in (at_once(network, tokens), one_by_one(network, tokens)):
        assert (logits - expected).abs().max() < largest
        ratio = perplexity(logits, tokens) / perplexity(expected, tokens)
        assert abs(ratio - 1) < share


@pytest.fixture(scope="module")
def texts(tales: Path) -> list[list[int]]:
    """Tokens of many texts that the model writes: 3000 of them."""
    engine = open_engine(Load(model=str(tales), dtype="float32"), 16)
    sampling = Sampling(
        seed=1, num_return_sequences=16, max_new_tokens=190, min_new_tokens=190, top_k=0, top_p=1
    )
    request = GenerateRequest(id="a", prompt="Once upon a time", sampling=sampling)
    start = engine.tokenizer.encode(request.prompt)
    done = [event for event in engine.run([request]) if isinstance(event, Completion)]
    return [[*start, *completion.tokens] for completion in done]


def test_perplexity_over_many_texts_is_that_of_float32(
    tales: Path, texts: list[list[int]], kind: str
) -> None:
    """A single short text tells little: the difference of int8 varies as much as it is large."""
    exact, network = on_torch(tales), on_cpu(tales, kind)
    shares = [
        math.log(perplexity(at_once(network, text), text) / perplexity(at_once(exact, text), text))
        for text in texts
    ]
    share = {"float32": 1e-6, "int8": 5e-3}.get(kind, 1e-3)
    assert abs(math.exp(sum(shares) / len(shares)) - 1) < share


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "shape", [{}, {"n_embd": 33, "n_head": 3, "n_inner": 71, "vocab_size": 517}], ids=str
)
def test_scores_of_any_shape_are_near_those_of_transformers(
    make_tiny, kind: str, tied: bool, shape: dict[str, int]
) -> None:
    folder = make_tiny(n_layer=3, tie_word_embeddings=tied, **shape)
    tokens = list(range(7, 20))
    expected = expected_of(folder, tokens)
    share = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.1, "int8": 0.2}[kind]
    found = at_once(on_cpu(folder, kind), tokens)
    assert (found - expected).abs().max() < share * max(float(expected.std()), 1)


def test_weights_of_torch_in_float32_are_not_copied(tiny: Path) -> None:
    found = on_torch(tiny).weights
    assert found.head.weight.data_ptr() == found.wte.data_ptr()


@pytest.mark.parametrize(("kind", "bits"), [("float32", 32), ("float16", 16), ("bfloat16", 16)])
def test_a_matrix_of_torch_takes_as_many_bits_as_were_asked_for(
    tiny: Path, kind: str, bits: int
) -> None:
    found = on_torch(tiny, kind).weights
    matrices = [found.head, *(layer.fc for layer in found.layers)]
    assert {8 * one.weight.itemsize for one in matrices} == {bits}
    assert found.dtype == torch.float32


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_large_matrix_of_torch_is_converted_in_parts(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    tokens = list(range(7, 20))
    whole = at_once(on_torch(tiny, kind), tokens)
    monkeypatch.setattr(weights, "CHUNK_ELEMENTS", 100)
    assert (at_once(on_torch(tiny, kind), tokens) - whole).abs().max() < 1e-5


def matrix_kinds(folder: Path, kind: str = "float16") -> list[int]:
    """Bits of the first matrix of each MLP."""
    network = on_cpu(folder, kind)
    if isinstance(network, TorchNetwork):
        return [8 * layer.fc.weight.itemsize for layer in network.weights.layers]
    assert isinstance(network, CPUNetwork)
    bits = {0: 32, 1: 16, 2: 16, 3: 8}  # by numbers of `Kind`
    return [bits[layer.fc.kind] for layer in network._weights._layers]


def test_a_matrix_takes_as_many_bits_as_were_asked_for(tiny: Path, kind: str) -> None:
    bits = {"float32": 32, "int8": 8}.get(kind, 16)
    assert matrix_kinds(tiny, kind) == [bits, bits]


@pytest.mark.parametrize("stored", STORED, ids=str)
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
    found, expected = (at_once(on_cpu(place, kind), tokens) for place in (folder, same))
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.usefixtures("each_network")
@pytest.mark.parametrize("largest", [1e5, 1e-4, torch.nan, torch.inf])
def test_a_matrix_that_half_floats_cannot_hold_stays_in_float32(
    tiny: Path, tmp_path: Path, largest: float
) -> None:
    def spread(weight: torch.Tensor) -> None:
        weight.clamp_(-abs(largest), abs(largest))
        weight[0, 0] = largest

    folder = changed(tiny, tmp_path / "model", "h.1.mlp.c_fc.weight", spread)
    assert matrix_kinds(folder) == [16, 32]
    found = at_once(on_cpu(folder, "float16"), [1, 2, 3])
    if not math.isfinite(largest):
        assert not found.isfinite().any()
    else:
        expected = expected_of(folder, [1, 2, 3])
        assert (found - expected).abs().max() < 0.02 * max(float(expected.std()), 1)


@pytest.mark.usefixtures("each_network")
def test_a_matrix_of_zeros_can_be_halved(tiny: Path, tmp_path: Path) -> None:
    folder = changed(tiny, tmp_path / "model", "h.1.mlp.c_fc.weight", torch.Tensor.zero_)
    assert matrix_kinds(folder) == [16, 16]


@pytest.mark.parametrize(
    "where",
    ["attn.c_attn.bias", "ln_2.weight", "mlp.c_proj.bias", "attn.c_attn.weight", "mlp.c_fc.weight"],
)
def test_broken_numbers_show_in_the_scores(
    tiny: Path, tmp_path: Path, kind: str, where: str
) -> None:
    def spoil(tensor: torch.Tensor) -> None:
        tensor[-1] = math.nan

    folder = changed(tiny, tmp_path / "model", f"h.1.{where}", spoil)
    assert not one_by_one(on_cpu(folder, kind), [1, 2]).isfinite().any()


@pytest.mark.usefixtures("each_network")
def test_two_models_may_run_at_once(tales: Path, each_network: str) -> None:
    tokens = tale(tales)[0][:30]
    kinds = KINDS if each_network == "kernels" else KINDS[:3]
    models = [on_cpu(tales, kind) for kind in kinds]
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


@pytest.mark.usefixtures("kernels")
def test_making_int8_weights_is_said_once(tiny: Path) -> None:
    load = Load(dtype="int8")
    notices = [placement.open_network(load, "x", inspect(tiny), "cpu")[2] for _ in range(2)]
    assert [len(found) for found in notices] == [1, 0]


@pytest.mark.usefixtures("kernels")
def test_int8_weights_that_were_kept_give_the_same_scores(tales: Path) -> None:
    tokens = tale(tales)[0][:30]
    first = at_once(on_cpu(tales, "int8"), tokens)
    assert torch.equal(at_once(on_cpu(tales, "int8"), tokens), first)


def test_texts_do_not_depend_on_their_neighbours(tales: Path, kind: str) -> None:
    prompts = ["Once upon a time", "The king", "A fox"]
    sampling = Sampling(seed=4, max_new_tokens=24)

    def texts(asked: list[str], slots: int) -> list[str]:
        load = Load(model=str(tales), dtype=kind)  # type: ignore[arg-type]
        requests = [
            GenerateRequest(id=prompt, prompt=prompt, sampling=sampling) for prompt in asked
        ]
        done = open_engine(load, slots).run(requests)
        found = {event.id: event.text for event in done if isinstance(event, Completion)}
        return [found[prompt] for prompt in asked]

    assert texts(prompts, 3) == [texts([prompt], 3)[0] for prompt in prompts]
