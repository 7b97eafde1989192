"""GPT-2 in one native call a step: near transformers, and the same whatever runs beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.native import DTYPES, at_once, network_of, one_by_one
from transformers import GPT2LMHeadModel

from gptcli import native
from gptcli.checkpoints.architecture import Activation
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.gpt2.on_cpu import memory as memory_module
from gptcli.engines.gpt2.on_cpu import network as network_module
from gptcli.engines.gpt2.on_cpu.memory import Floats
from gptcli.native import Library

TORCH = {"F16": torch.float16, "BF16": torch.bfloat16}
TOKENS = list(range(7, 60))


def reference(folder: Path, tokens: list[int], dtype: str = "F32") -> Floats:
    """Logits of transformers in float32, with matrices rounded as this data type rounds them."""
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    head = model.lm_head.weight.detach().clone()  # the embeddings are not rounded
    model.lm_head.weight = torch.nn.Parameter(head)
    matrices = [p for name, p in model.named_parameters() if "h." in name and p.ndim == 2]
    with torch.no_grad():
        for weight in [*matrices, model.lm_head.weight]:
            weight.copy_(weight.to(TORCH.get(dtype, torch.float32)))
        return model(torch.tensor([tokens])).logits[0].numpy()


def assert_like_transformers(library: Library, folder: Path, tokens: list[int] = TOKENS) -> None:
    for dtype in DTYPES:
        network, expected = network_of(library, folder, dtype), reference(folder, tokens, dtype)
        whole, single = at_once(network, tokens), one_by_one(network, tokens)
        assert np.array_equal(whole, single)
        differences, spread = whole - expected, max(float(expected.std()), 1)
        if dtype == "I8":  # activations are rounded too
            assert float(differences.std()) < 0.06 * spread
            assert np.abs(differences).max() < 0.5 * spread
        else:
            assert np.abs(differences).max() < 1e-4 * spread, dtype


@pytest.fixture(autouse=True)
def _many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for the small models of these tests."""
    monkeypatch.setattr(network_module, "OPS_PER_THREAD", 1)


@pytest.fixture
def fastest() -> Library:
    found = native.library()
    if found is None:
        pytest.skip("there was no compiler, or none for this processor")
    return found


def test_logits_are_those_of_transformers(library: Library, tiny: Path) -> None:
    assert_like_transformers(library, tiny)


@pytest.mark.parametrize(
    "changes",
    [
        *({"activation_function": name} for name in get_args(Activation)),
        {"n_layer": 3, "n_head": 2},
        {"n_embd": 36, "n_head": 3, "n_inner": 50},
        {"n_embd": 33, "n_head": 33, "n_inner": 1},
        {"n_embd": 160, "n_head": 2},
        {"n_layer": 1, "n_head": 1},
        {"n_positions": 53},
        {"vocab_size": 513},
        {"layer_norm_epsilon": 1e-2},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True, "n_layer": 3},
        {"tie_word_embeddings": False},
    ],
    ids=str,
)
def test_every_kind_of_gpt2_gives_what_transformers_gives(
    fastest: Library, make_tiny, changes: dict
) -> None:
    assert_like_transformers(fastest, make_tiny(**changes))


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
def test_a_checkpoint_may_be_stored_in_any_numbers(
    fastest: Library, tiny: Path, tmp_path: Path, stored: torch.dtype
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: tensor.to(stored) for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert_like_transformers(fastest, folder)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_is_the_same_to_the_bit_whatever_runs_beside(
    library: Library, tiny: Path, dtype: str
) -> None:
    """One token of two sequences, a draft, a prompt, and three ways on from one place."""
    network = network_of(library, tiny, dtype, 3)
    prompts = [TOKENS[:20], TOKENS[:9], TOKENS[:30], [], TOKENS[:12]]
    cache = network.new_cache(5)
    for slot, prompt in enumerate(prompts):
        network.forward_step(cache, [Segment(slot, 0, len(prompt))], prompt, [])
    segments = [
        *(Segment(0, 20, 1), Segment(1, 9, 1), Segment(2, 30, 5), Segment(3, 0, 11)),
        *(Segment(4, 12, 3), Segment(4, 12, 2), Segment(4, 12, 7)),
    ]
    ran = [TOKENS[segment.start + n] for segment in segments for n in range(segment.length)]
    together = network.forward_step(cache, segments, ran)
    whole = at_once(network, TOKENS)
    places = [segment.start + n for segment in segments for n in range(segment.length)]
    assert np.array_equal(together, whole[places])
    wanted = [6, 0, 6, 17]
    few = network.forward_step(cache, segments, ran, wanted)
    assert np.array_equal(few, together[wanted])
    # The last of the ways is in the cache.
    after = network.forward_step(cache, [Segment(4, 19, 1)], TOKENS[19:20])
    assert np.array_equal(after[0], whole[19])


def test_a_copied_slot_goes_on_like_its_source(fastest: Library, tiny: Path) -> None:
    network = network_of(fastest, tiny, "F32")
    cache, whole = network.new_cache(3), at_once(network, TOKENS)
    network.forward_step(cache, [Segment(1, 0, 40)], TOKENS[:40], [])
    cache.cached_tokens[1] = TOKENS[:40]
    for length in (1, 15, 16, 17, 33, 40):
        network.forward_step(cache, [Segment(2, 0, 50)], TOKENS[::-1][:50], [])
        cache.copy(1, 2, length)
        assert cache.cached_tokens[2] == TOKENS[:length]
        rest = TOKENS[length:]
        found = network.forward_step(cache, [Segment(2, length, len(rest))], rest)
        assert np.array_equal(found, whole[length:])


@pytest.mark.parametrize("threads", [1, 2, 5, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_does_not_show(
    fastest: Library, tiny: Path, dtype: str, threads: int
) -> None:
    expected = at_once(network_of(fastest, tiny, dtype, 1), TOKENS)
    assert np.array_equal(one_by_one(network_of(fastest, tiny, dtype, threads), TOKENS), expected)


@pytest.mark.parametrize(("tokens", "threads"), [(1, 1), (20, 2), (1000, 4)])
def test_small_work_is_for_few_threads(
    fastest: Library, tiny: Path, monkeypatch: pytest.MonkeyPatch, tokens: int, threads: int
) -> None:
    network = network_of(fastest, tiny, "F32", 4)
    monkeypatch.setattr(network_module, "OPS_PER_THREAD", 10 * network.config.parameters)
    assert network._threads_for(tokens) == threads


def test_logits_are_the_callers_own(fastest: Library, tiny: Path) -> None:
    network = network_of(fastest, tiny, "F32")
    first = at_once(network, TOKENS)
    kept = first.copy()
    second = at_once(network, TOKENS[::-1])
    assert np.array_equal(first, kept)
    assert first.flags.writeable
    assert first.dtype == np.float32
    assert not np.shares_memory(first, second)
    assert network.forward_step(network.new_cache(1), [], []).shape == (0, 512)


@pytest.mark.parametrize(
    ("segments", "tokens", "wanted"),
    [
        ([Segment(0, 0, 2)], [1], None),
        ([Segment(0, 0, 1)], [1, 2], None),
        ([Segment(0, 0, -1), Segment(0, 0, 2)], [1], None),
        ([Segment(2, 0, 1)], [1], None),
        ([Segment(-1, 0, 1)], [1], None),
        ([Segment(0, -1, 1)], [1], None),
        ([Segment(0, 64, 1)], [1], None),
        ([Segment(0, 0, 1)], [512], None),
        ([Segment(0, 0, 1)], [-1], None),
        ([Segment(0, 0, 2)], [1, 2], [2]),
        ([Segment(0, 0, 2)], [1, 2], [-1]),
        ([Segment(0, 0, 2)], [1, 2], [0, 0, 0]),
    ],
)
def test_what_the_memory_does_not_hold_does_not_reach_the_kernels(
    fastest: Library, tiny: Path, segments: list[Segment], tokens: list[int], wanted
) -> None:
    network = network_of(fastest, tiny, "F32")
    assert network.config.n_positions == 64
    with pytest.raises(IndexError):
        network.forward_step(network.new_cache(2), segments, tokens, wanted)


def test_a_long_step_is_several_calls_of_the_same_numbers(
    fastest: Library, make_tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of(fastest, make_tiny(n_layer=5), "F32")
    whole = at_once(network, TOKENS)
    work = len(TOKENS) * network.config.parameters
    for calls, layers in ((1, 5), (2, 3), (3, 2), (5, 1), (99, 1)):
        monkeypatch.setattr(network_module, "OPS_PER_CALL", -(-work // calls))
        assert network._layers_per_call(len(TOKENS)) == layers
        assert np.array_equal(at_once(network, TOKENS), whole)


def test_a_thread_keeps_little_scratch_memory(
    fastest: Library, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, held = network_of(fastest, tiny, "F32"), memory_module._own
    whole = at_once(network, TOKENS)
    kept = held.scratch
    del held.scratch
    try:
        monkeypatch.setattr(memory_module, "KEPT_SCRATCH", 1000)
        assert np.array_equal(at_once(network, TOKENS), whole)
        assert not hasattr(held, "scratch")
    finally:
        held.scratch = kept
    assert len(memory_module.scratch(kept.nbytes)) == kept.nbytes


def test_a_cache_that_is_too_large_is_a_memory_error(fastest: Library, tiny: Path) -> None:
    with pytest.raises(MemoryError):
        network_of(fastest, tiny, "F32").new_cache(10**12)


def test_models_may_run_at_the_same_time(fastest: Library, tiny: Path) -> None:
    models = [network_of(fastest, tiny, dtype, threads) for threads in (2, 3) for dtype in DTYPES]
    expected = [at_once(model, TOKENS) for model in models]
    found: dict[int, list[bool]] = {}

    def work(place: int) -> None:
        found[place] = [
            np.array_equal(one_by_one(models[place], TOKENS), expected[place]) for _ in range(3)
        ]

    threads = [Thread(target=work, args=(place,)) for place in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(models)
    assert all(all(same) for same in found.values())


@pytest.mark.parametrize("where", ["attn.c_attn.bias", "ln_2.weight", "mlp.c_proj.bias"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_broken_numbers_show_in_the_logits(
    fastest: Library, tiny: Path, tmp_path: Path, dtype: str, where: str
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors[f"transformer.h.1.{where}"][-1] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert not np.isfinite(one_by_one(network_of(fastest, folder, dtype), [1, 2])).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_token_with_a_broken_embedding_spoils_what_follows_it_alone(
    library: Library, make_tiny, tmp_path: Path, dtype: str
) -> None:
    folder = Path(shutil.copytree(make_tiny(tie_word_embeddings=False), tmp_path / "model"))
    network = network_of(library, folder, dtype)
    expected = at_once(network, TOKENS)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.wte.weight"][TOKENS[21], 0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    found = at_once(network_of(library, folder, dtype), TOKENS)
    assert np.array_equal(found[:21], expected[:21])
    assert not np.isfinite(found[21:]).any()


CHILDREN = """
import os, sys
from pathlib import Path
import numpy as np
from support.native import at_once, network_of
from gptcli import native
from gptcli.engines.gpt2.on_cpu import network as module
module.OPS_PER_THREAD = 1
def tasks(): return len(os.listdir("/proc/self/task"))
folder, tokens = Path(sys.argv[1]), list(range(7, 60))
before = tasks()
network = network_of(native.library(), folder, "F16", 1)
expected, alone = at_once(network, tokens), tasks() - before
network = network_of(native.library(), folder, "F16", 3)
assert np.array_equal(at_once(network, tokens), expected)
shared = tasks() - before
right = 0
for number in range(10):
    child = os.fork()
    if child == 0:
        same = all(np.array_equal(at_once(network, tokens), expected) for _ in range(5))
        os._exit(0 if same and tasks() == 3 else 1)
    right += np.array_equal(at_once(network, tokens), expected)
    right += os.waitpid(child, 0)[1] == 0
print([alone, shared, right])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc lists the threads")
def test_threads_start_when_they_are_needed_and_anew_in_a_forked_process(
    fastest: Library, tiny: Path
) -> None:
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(native.__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN, str(tiny)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    alone, shared, right = json.loads(done.stdout)
    assert alone == 0
    assert shared == 2
    assert right == 20
