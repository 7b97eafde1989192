"""The reference network: its numbers against transformers' GPT-2, for every kind of checkpoint."""

from __future__ import annotations

import math
import random
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from gptcli.checkpoints.architecture import Activation
from gptcli.checkpoints.preflight import inspect
from gptcli.engines.gpt2.reference import ACTIVATIONS, ReferenceNetwork, as_floats, erf

TOLERANCE = 1e-4
IDS = [17, 300, 5, 5, 411, 2, 99, 300, 8]
SHAPES = [  # tokens, width, heads, inner
    *((1, 32, 4, None), (64, 32, 4, None), (9, 33, 3, None), (9, 33, 11, 7), (9, 30, 1, 1)),
    *((9, 7, 7, 129), (9, 65, 5, 64)),
]
PEERS = {
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu": torch.nn.functional.gelu,
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
    "swish": torch.nn.functional.silu,
    "tanh": torch.tanh,
}


def network_of(folder: Path) -> ReferenceNetwork:
    checked = inspect(folder)
    assert checked.gpt2 is not None
    return ReferenceNetwork(checked.gpt2, checked)


def assert_like_transformers(folder: Path, ids: list[int] = IDS) -> None:
    """Hidden states, attention and logits are those of transformers in float32."""
    network, config = network_of(folder), inspect(folder).gpt2
    assert config is not None
    attentions = np.full((config.n_layer, config.n_head, len(ids), len(ids)), np.nan, np.float32)

    def keep(layer: int, head: int, weights: np.ndarray) -> None:
        attentions[layer, head] = weights

    states = np.stack(list(network.states(ids, keep)))
    logits = network.logits(states[-1])
    peer = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        expected = peer.eval()(
            torch.tensor([ids]), output_attentions=True, output_hidden_states=True
        )
    assert states.dtype == logits.dtype == np.float32
    assert np.abs(attentions - torch.cat(expected.attentions).numpy()).max() < TOLERANCE
    for ours, theirs in zip(states, torch.cat(expected.hidden_states).numpy(), strict=True):
        assert np.abs(ours - theirs).max() < TOLERANCE * max(np.abs(theirs).max(), 1)
    assert np.abs(logits - expected.logits[0].numpy()).max() < TOLERANCE
    assert np.array_equal(network.final(ids), states[-1])


def rewritten(folder: Path, target: Path, change) -> Path:
    shutil.copytree(folder, target)
    tensors = change(load_file(target / "model.safetensors"))
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_layer": 3, "n_head": 2},
        {"layer_norm_epsilon": 1e-2},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
        {"tie_word_embeddings": False},
        *({"activation_function": name} for name in get_args(Activation)),
    ],
    ids=lambda changes: "-".join(f"{key}={value}" for key, value in changes.items()) or "plain",
)
def test_every_configuration_reads_as_in_transformers(make_tiny, changes) -> None:
    assert_like_transformers(make_tiny(**changes))


@pytest.mark.parametrize(("tokens", "width", "heads", "inner"), SHAPES)
def test_every_shape_reads_as_in_transformers(
    make_tiny, tokens: int, width: int, heads: int, inner: int | None
) -> None:
    folder = make_tiny(n_embd=width, n_head=heads, n_inner=inner, vocab_size=509)
    assert_like_transformers(
        folder, [random.Random(place).randrange(509) for place in range(tokens)]
    )


def test_the_bundled_model_reads_as_in_transformers(tales: Path) -> None:
    assert_like_transformers(tales)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_stored_data_type_reads_as_in_transformers(
    make_tiny, tmp_path: Path, dtype: torch.dtype, tied: bool
) -> None:
    def converted(tensors):
        return {name: tensor.to(dtype) for name, tensor in tensors.items()}

    folder = make_tiny(tie_word_embeddings=tied)
    assert_like_transformers(rewritten(folder, tmp_path / "model", converted))


def test_data_types_may_be_mixed_in_a_file(tiny: Path, tmp_path: Path) -> None:
    kinds = (torch.bfloat16, torch.float32, torch.float16, torch.float64)

    def mixed(tensors):
        return {
            name: tensor.to(kinds[place % 4])
            for place, (name, tensor) in enumerate(sorted(tensors.items()))
        }

    assert_like_transformers(rewritten(tiny, tmp_path / "model", mixed))


def test_tensors_that_are_not_aligned_in_the_file_are_read(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    file = folder / "model.safetensors"
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    file.write_bytes(
        (size + 1).to_bytes(8, "little") + data[8 : 8 + size] + b" " + data[8 + size :]
    )
    assert_like_transformers(folder)


def test_shards_are_read(tiny: Path, tmp_path: Path) -> None:
    model = GPT2LMHeadModel.from_pretrained(tiny)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_like_transformers(tmp_path)


# Numbers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_number_of_sixteen_bits_is_the_float32_that_torch_makes_of_it(
    dtype: torch.dtype,
) -> None:
    stored = np.arange(2**16, dtype=np.uint16)
    expected = torch.from_numpy(stored).view(dtype).float().numpy()
    if dtype == torch.bfloat16:
        found = as_floats(stored, "BF16")
    else:
        found = as_floats(stored.view(np.float16), "F16")
    assert found.dtype == np.float32
    assert np.array_equal(found, expected, equal_nan=True)


def test_what_float32_cannot_hold_becomes_infinite() -> None:
    found = as_floats(np.array([1e300, -1e300, 1e-300, 1 + 2**-25]), "F64")
    assert found.tolist() == [math.inf, -math.inf, 0, 1]


def test_float32_is_not_copied() -> None:
    stored = np.zeros(4, np.float32)
    assert as_floats(stored, "F32") is stored


def test_erf_is_that_of_the_standard_library_in_every_float32() -> None:
    draw = random.Random(5)
    numbers = [0.0, -0.0, 6.0, 1e-30, 5.9999, 7.0, 1e30, math.inf, -math.inf, *np.arange(9) / 512]
    numbers += [draw.choice((-1, 1)) * 10 ** draw.uniform(-12, 0.8) for _ in range(20000)]
    found = erf(np.array(numbers))
    expected = np.array([math.erf(number) for number in numbers])
    assert np.all(np.abs(found - expected) <= 2e-12 * np.abs(expected))
    assert math.copysign(1, found[1]) == -1
    assert math.isnan(erf(np.array([math.nan]))[0])


@pytest.mark.parametrize("name", get_args(Activation))
def test_activations_are_those_of_torch(name: str) -> None:
    x = np.linspace(-12, 12, 40001, dtype=np.float32)

    def tanh_gelu(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(x, approximate="tanh")

    exact = PEERS.get(name, tanh_gelu)(torch.from_numpy(x).double()).numpy()
    found = ACTIVATIONS[name](x)
    assert found.dtype == np.float32
    assert np.all(np.abs(found - exact) <= 3e-7 * np.maximum(np.abs(exact), 1))


def test_the_gelu_of_a_matrix_is_that_of_its_numbers() -> None:
    x = np.random.default_rng(1).normal(size=(37, 1003)).astype(np.float32)  # more than a block
    alone = np.stack([ACTIVATIONS["gelu"](row) for row in x])
    assert np.array_equal(ACTIVATIONS["gelu"](x), alone)
