"""From a file to weights in blocks: broken files, changed files, and what memory is taken."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.native import DTYPES, NAMES, at_once, network_of, one_by_one

from gptcli import native
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.safetensors_headers import SINGLE, read_tensors
from gptcli.engines.gpt2.on_cpu import packing as packing_module
from gptcli.engines.gpt2.on_cpu.weights import CPUWeights, Embedding
from gptcli.errors import BadModel, MissingInput
from gptcli.native import Library

TOKENS = list(range(7, 50))


@pytest.fixture
def fastest() -> Library:
    found = native.library()
    if found is None:
        pytest.skip("there was no compiler, or none for this processor")
    return found


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.mark.parametrize("kept", [0, 1, 100, 0.25, 0.5, 0.75, 0.99, -1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_that_shrinks_after_it_was_checked_is_named(
    fastest: Library, copied: Path, dtype: str, kept: float
) -> None:
    file = copied / "model.safetensors"
    checked, size = inspect(copied), file.stat().st_size
    os.truncate(file, int(kept * size) if 0 < kept < 1 else int(kept) % size)
    with pytest.raises(BadModel, match=r"model\.safetensors.*shorter than when it was checked"):
        CPUWeights(fastest, "m", checked, NAMES[dtype], 3)


def test_a_file_that_goes_after_it_was_checked_is_named(fastest: Library, copied: Path) -> None:
    checked = inspect(copied)
    (copied / "model.safetensors").unlink()
    with pytest.raises(MissingInput, match=r"model\.safetensors"):
        CPUWeights(fastest, "m", checked, "float32", 3)


def test_no_file_stays_open(fastest: Library, copied: Path) -> None:
    def opened() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    gc.collect()  # what other tests have left
    before = opened()
    network = network_of(fastest, copied, "F16")
    assert opened() <= before + 1  # the embeddings
    os.truncate(copied / "model.safetensors", 100)
    with pytest.raises(BadModel):
        inspect(copied)
    del network
    gc.collect()
    assert opened() == before


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_file_that_shrinks_while_its_embeddings_are_read_is_named(
    fastest: Library, copied: Path, stored: torch.dtype
) -> None:
    tensors = load_file(copied / "model.safetensors")
    tensors = {name: tensor.to(stored) for name, tensor in tensors.items()}
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    network = network_of(fastest, copied, "F16")
    os.truncate(copied / "model.safetensors", 100)
    with pytest.raises(BadModel, match=r"model\.safetensors.*shorter than when it was checked"):
        one_by_one(network, [1])


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64, torch.float32])
def test_rows_of_embeddings_are_those_of_the_file(
    fastest: Library, tmp_path: Path, stored: torch.dtype
) -> None:
    """Rows of several parts, at odd places."""
    weight = torch.randn(7, 5001).to(stored)
    save_file({"a": torch.zeros(3, dtype=torch.uint8), "wte": weight}, tmp_path / SINGLE)
    embedding = Embedding(fastest, read_tensors(tmp_path)["wte"])
    ids = [6, 0, 0, 3, 6]
    rows = embedding.rows(np.array(ids))
    assert np.array_equal(rows, weight[ids].float().numpy())
    assert embedding.rows(np.array([], np.int64)).shape == (0, 5001)
    for wrong in (7, -1):
        with pytest.raises(IndexError):
            embedding.rows(np.array([0, wrong]))


@pytest.mark.parametrize("part", [1, 32 * 33, 2**14])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_calls_does_not_show(
    fastest: Library, make_tiny, monkeypatch: pytest.MonkeyPatch, dtype: str, part: int
) -> None:
    folder = make_tiny(tie_word_embeddings=False, n_embd=36, n_head=3)
    expected = at_once(network_of(fastest, folder, dtype), TOKENS)
    monkeypatch.setattr(packing_module, "CALL_NUMBERS", part)
    assert np.array_equal(at_once(network_of(fastest, folder, dtype), TOKENS), expected)


@pytest.mark.parametrize("largest", [1e5, 1e-4])
def test_only_the_matrix_that_half_floats_cannot_hold_stays_in_float32(
    fastest: Library, copied: Path, largest: float
) -> None:
    tensors = load_file(copied / "model.safetensors")
    weight = tensors["transformer.h.0.attn.c_proj.weight"]
    weight.clamp_(-largest, largest)[0, 0] = largest
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    network = network_of(fastest, copied, "F16")
    kinds = [layer.attn_out.kind for layer in network._weights._layers]
    assert kinds == [0, 1]
    assert {layer.fc.kind for layer in network._weights._layers} == {1}
    exact = at_once(network_of(fastest, copied, "F32"), TOKENS)
    np.testing.assert_allclose(at_once(network, TOKENS), exact, atol=0.02 * exact.std(), rtol=0)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the memory")
def test_memory_is_that_of_the_packed_weights_and_is_given_back(
    fastest: Library, make_tiny
) -> None:
    folder = make_tiny(n_embd=512, n_layer=6, n_head=8, vocab_size=1024)
    network_of(fastest, folder, "F16")
    gc.collect()
    before = resident()
    network = network_of(fastest, folder, "F16")
    one_by_one(network, [1, 2, 3])
    size = 2 * network.config.parameters
    assert size > 35e6
    slack = 8 << 20  # ends of huge pages, embeddings, the cache
    assert resident() - before < size + slack
    del network
    gc.collect()
    assert resident() - before < slack


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the memory")
def test_a_cache_takes_memory_when_it_is_written(fastest: Library, make_tiny) -> None:
    folder = make_tiny(n_positions=4096)
    network = network_of(fastest, folder, "F32")
    one_by_one(network, [1, 2])
    before = resident()
    cache = network.new_cache(32)
    whole = cache.keys.nbytes + cache.values.nbytes
    network.forward_step(cache, [], [])
    assert whole > 100e6
    assert resident() - before < 2 << 20
