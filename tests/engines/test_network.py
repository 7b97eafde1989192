"""The forward pass on both networks: logits against transformers' GPT-2, for every checkpoint."""

from __future__ import annotations

import shutil
from functools import lru_cache
from itertools import accumulate, chain
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.weights import BOUNDS, on_cpu
from transformers import GPT2LMHeadModel

from gptcli.checkpoints.architecture import Activation
from gptcli.engines.decoding.segment import Segment
from gptcli.engines.gpt2.network import Cache, GPT2Network

TOLERANCE = 1e-4
pytestmark = pytest.mark.usefixtures("each_network")


@lru_cache(maxsize=3)
def transformers_model(folder: Path) -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()


def reference(folder: Path, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return transformers_model(folder)(torch.tensor([tokens])).logits[0]


def prompts(count: int, vocabulary: int, lengths: tuple[int, ...]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(count)
    return [torch.randint(vocabulary, (n,), generator=generator).tolist() for n in lengths]


def step(
    network: GPT2Network,
    cache: Cache,
    segments: list[Segment],
    tokens: list[int],
    wanted: list[int] | None = None,
) -> torch.Tensor:
    return torch.from_numpy(network.forward_step(cache, segments, tokens, wanted))


def run_prompts(network: GPT2Network, cache: Cache, sequences: list[list[int]]) -> torch.Tensor:
    """The last logits of each."""
    segments = [Segment(slot, 0, len(tokens)) for slot, tokens in enumerate(sequences)]
    ends = [end - 1 for end in accumulate(map(len, sequences))]
    return step(network, cache, segments, list(chain(*sequences)), ends)


def decode(
    network: GPT2Network, cache: Cache, tokens: list[int], lengths: list[int]
) -> torch.Tensor:
    """One more token of each of the first slots."""
    segments = [Segment(slot, length, 1) for slot, length in enumerate(lengths)]
    return step(network, cache, segments, tokens)


def assert_like_transformers(folder: Path, kind: str = "float32") -> None:
    """Prefill three prompts at once, decode four tokens."""
    network = on_cpu(folder, kind)
    cache = network.new_cache(4)
    sequences = prompts(3, network.config.vocab_size, (5, 1, 19))
    expected = [reference(folder, tokens)[-1] for tokens in sequences]
    logits = run_prompts(network, cache, sequences)
    for _ in range(4):
        for row, want in enumerate(expected):
            assert (logits[row] - want).abs().max() < BOUNDS[kind][0]
        following = [tokens[0] for tokens in sequences]
        logits = decode(network, cache, following, [len(tokens) for tokens in sequences])
        sequences = [[*tokens, new] for tokens, new in zip(sequences, following, strict=True)]
        expected = [reference(folder, tokens)[-1] for tokens in sequences]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_layer": 3, "n_head": 2},
        {"n_inner": 48},
        {"n_inner": 45},
        {"n_embd": 33, "n_head": 3},
        {"n_embd": 35, "n_head": 5},
        {"n_embd": 34, "n_head": 1},
        {"n_embd": 160, "n_head": 2, "initializer_range": 0.1},
        {"n_embd": 8, "n_head": 8},
        {"n_positions": 27},
        {"n_positions": 33},
        {"vocab_size": 513},
        {"vocab_size": 543, "tie_word_embeddings": False},
        {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False},
        {"layer_norm_epsilon": 1e-2},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"reorder_and_upcast_attn": True},
        {"tie_word_embeddings": False},
        *({"activation_function": name} for name in get_args(Activation)),
    ],
    ids=lambda changes: "-".join(f"{key}={value}" for key, value in changes.items()) or "plain",
)
def test_logits_equal_those_of_transformers(make_tiny, changes: dict[str, object]) -> None:
    assert_like_transformers(make_tiny(**changes))


def test_logits_of_the_bundled_model_equal_those_of_transformers(tales: Path) -> None:
    assert_like_transformers(tales)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_sixteen_bit_logits_are_near_those_in_float32(tales: Path, kind: str) -> None:
    assert_like_transformers(tales, kind)


def rewritten(folder: Path, target: Path, change) -> Path:
    shutil.copytree(folder, target)
    tensors = change(load_file(target / "model.safetensors"))
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_names_without_prefix_and_old_buffers_are_read(tiny: Path, tmp_path: Path) -> None:
    def as_on_the_hub(tensors):
        plain = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        for layer in range(2):
            plain[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
            plain[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        return plain

    assert_like_transformers(rewritten(tiny, tmp_path / "model", as_on_the_hub))


def test_a_tied_checkpoint_that_repeats_its_head_is_read(tiny: Path, tmp_path: Path) -> None:
    def with_head(tensors):
        return {**tensors, "lm_head.weight": tensors["transformer.wte.weight"].clone()}

    assert_like_transformers(rewritten(tiny, tmp_path / "model", with_head))


def test_tensors_that_are_not_aligned_in_the_file_are_read(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    file = folder / "model.safetensors"
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    # The header may be padded with spaces to any length: make the tensors begin at an odd byte.
    odd = (size + 1).to_bytes(8, "little") + data[8 : 8 + size] + b" " + data[8 + size :]
    file.write_bytes(odd)
    assert_like_transformers(folder)


def test_a_prompt_run_in_two_parts_gives_the_same_logits(tiny: Path) -> None:
    network = on_cpu(tiny)
    tokens = prompts(1, 512, (40,))[0]
    cache = network.new_cache(2)
    step(network, cache, [Segment(1, 0, 25)], tokens[:25])
    logits = step(network, cache, [Segment(1, 25, 15)], tokens[25:])
    assert (logits - reference(tiny, tokens)[25:]).abs().max() < TOLERANCE


@pytest.mark.parametrize("split", [1, 15, 16, 17, 31, 32, 33])
def test_a_prompt_may_be_split_anywhere(tiny: Path, split: int) -> None:
    network = on_cpu(tiny)
    tokens = prompts(1, 512, (40,))[0]
    cache = network.new_cache(2)
    step(network, cache, [Segment(1, 0, split)], tokens[:split])
    logits = step(network, cache, [Segment(1, split, 40 - split)], tokens[split:])
    assert (logits - reference(tiny, tokens)[split:]).abs().max() < TOLERANCE


@pytest.mark.parametrize("length", [1, 12, 15, 16, 17, 31, 32, 33, 62])
def test_a_copied_prompt_continues_like_its_original(tiny: Path, length: int) -> None:
    network = on_cpu(tiny)
    tokens = prompts(1, 512, (length,))[0]
    cache = network.new_cache(3)
    run_prompts(network, cache, [tokens])
    cache.cached_tokens[0] = list(tokens)
    cache.copy(0, 1, length)
    cache.copy(1, 2, length)
    assert cache.cached_tokens == [tokens] * 3
    logits = decode(network, cache, [7, 8, 9], [length] * 3)
    for row, token in enumerate([7, 8, 9]):
        assert (logits[row] - reference(tiny, [*tokens, token])[-1]).abs().max() < TOLERANCE


@pytest.mark.parametrize("shared", [1, 15, 16, 17, 32, 33])
def test_a_copied_beginning_goes_on_otherwise(tiny: Path, shared: int) -> None:
    """Of a longer sequence, over a slot that held another; the first one goes on, too."""
    network = on_cpu(tiny)
    first, other, rest = prompts(3, 512, (50, 60, 5))
    cache = network.new_cache(2)
    run_prompts(network, cache, [first, other])
    cache.cached_tokens[:] = [list(first), list(other)]
    cache.copy(0, 1, shared)
    assert cache.cached_tokens == [first, first[:shared]]
    segments = [Segment(0, 50, 1), Segment(1, shared, 5)]
    logits = step(network, cache, segments, [9, *rest])
    want = [reference(tiny, [*first, 9])[-1:], reference(tiny, first[:shared] + rest)[-5:]]
    assert (logits - torch.cat(want)).abs().max() < TOLERANCE


@pytest.mark.parametrize("kept", [1, 14, 15, 16, 17, 20])
def test_a_rejected_draft_leaves_no_trace(tiny: Path, kept: int) -> None:
    network = on_cpu(tiny)
    tokens, draft, rest = prompts(8, 512, (12, 20, 6))
    cache = network.new_cache(2)
    run_prompts(network, cache, [tokens, tokens])
    step(network, cache, [Segment(0, 12, 20)], draft)
    cache.zero(0, 12 + kept, 20 - kept)
    # As long as the draft had been, another row makes the first look further.
    segments = [Segment(0, 12 + kept, 6), Segment(1, 12, 20)]
    logits = step(network, cache, segments, rest + draft)
    want = [reference(tiny, tokens + draft[:kept] + rest)[-6:], reference(tiny, tokens + draft)]
    assert (logits - torch.cat([want[0], want[1][-20:]])).abs().max() < TOLERANCE


@pytest.mark.parametrize("length", [3, 15, 16, 17, 40])
def test_a_slot_that_was_cleared_of_nan_serves_again(
    make_tiny, tmp_path: Path, length: int
) -> None:
    def with_a_broken_token(tensors):
        tensors["transformer.wte.weight"][77] = torch.nan
        return tensors

    sound = make_tiny(tie_word_embeddings=False)
    network = on_cpu(rewritten(sound, tmp_path / "model", with_a_broken_token))
    cache = network.new_cache(2)
    broken = [77] * 50
    assert run_prompts(network, cache, [broken]).isnan().all()
    cache.clear(0)
    assert cache.cached_tokens[0] == []
    tokens = [token for token in prompts(9, 512, (length,))[0] if token != 77]
    beside = [token for token in prompts(8, 512, (50,))[0] if token != 77]
    logits = run_prompts(network, cache, [tokens, beside])
    want = [reference(sound, few)[-1] for few in (tokens, beside)]
    assert (logits - torch.stack(want)).abs().max() < TOLERANCE
    logits = decode(network, cache, [5, 6], [len(tokens), len(beside)])
    want = [reference(sound, few)[-1] for few in ([*tokens, 5], [*beside, 6])]
    assert (logits - torch.stack(want)).abs().max() < TOLERANCE


@pytest.mark.parametrize("lengths", [(2, 2, 2), (1, 60, 3), (60, 59, 58)])
def test_rows_of_any_lengths_do_not_disturb_each_other(make_tiny, lengths: tuple[int, ...]) -> None:
    folder = make_tiny(n_positions=600)
    lengths = tuple(9 * length for length in lengths)  # far apart: each row its own attention call
    network = on_cpu(folder)
    cache = network.new_cache(3)
    sequences = prompts(2, 512, lengths)
    run_prompts(network, cache, sequences)
    logits = decode(network, cache, [1, 2, 3], lengths)
    for row, tokens in enumerate(sequences):
        want = reference(folder, [*tokens, row + 1])[-1]
        assert (logits[row] - want).abs().max() < TOLERANCE


def test_a_step_may_be_of_anything_at_once(tiny: Path) -> None:
    """Two rows that write, a draft that is checked, a part of a prompt, and a new prompt."""
    network = on_cpu(tiny)
    cache = network.new_cache(5)
    held = prompts(4, 512, (7, 12, 9, 20, 0))
    new = prompts(5, 512, (1, 1, 4, 10, 6))
    run_prompts(network, cache, held[:4])
    segments = [
        Segment(slot, len(before), len(more))
        for slot, (before, more) in enumerate(zip(held, new, strict=True))
    ]
    logits = step(network, cache, segments, list(chain(*new)))
    want = [
        reference(tiny, before + more)[len(before) :]
        for before, more in zip(held, new, strict=True)
    ]
    assert (logits - torch.cat(want)).abs().max() < TOLERANCE


@pytest.mark.parametrize("length", [1, 11, 15, 16, 17, 31, 32])
def test_segments_after_one_prompt_do_not_see_each_other(tiny: Path, length: int) -> None:
    network = on_cpu(tiny)
    cache = network.new_cache(2)
    [prompt] = prompts(6, 512, (length,))
    run_prompts(network, cache, [prompt])
    branches = prompts(7, 512, (3, 1, 1, 5, 20))
    segments = [Segment(0, length, len(branch)) for branch in branches]
    for _ in range(2):  # they leave the prompt as it is
        logits = step(network, cache, segments, list(chain(*branches)))
        want = [reference(tiny, prompt + branch)[length:] for branch in branches]
        assert (logits - torch.cat(want)).abs().max() < TOLERANCE


def test_a_row_is_the_same_alone_and_beside_others(tales: Path, each_network: str) -> None:
    """With kernels to the bit."""
    exact = each_network == "kernels"
    for kind in ("float32", "float16", "bfloat16", *(("int8",) if exact else ())):
        network = on_cpu(tales, kind)
        sequences = prompts(5, 4096, (40, 1, 17, 90, 3, 16, 33))
        together = network.new_cache(7)
        found = run_prompts(network, together, sequences)
        after = decode(network, together, [5] * 7, list(map(len, sequences)))
        for row, tokens in enumerate(sequences):
            cache, one_each = network.new_cache(1), network.new_cache(1)
            alone = run_prompts(network, cache, [tokens])[0]
            then = decode(network, cache, [5], [len(tokens)])[0]
            for place, token in enumerate([*tokens, 5]):
                last = step(network, one_each, [Segment(0, place, 1)], [token])[0]
            pairs = [(alone, found[row]), (then, after[row]), (last, after[row])]
            for one, other in pairs:
                assert torch.equal(one, other) if exact else (one - other).abs().max() < TOLERANCE


def test_a_context_is_used_to_its_last_token(make_tiny) -> None:
    folder = make_tiny(n_positions=35)
    network = on_cpu(folder)
    cache = network.new_cache(2)
    assert cache.length == 35
    tokens, other = prompts(2, 512, (35, 34))
    logits = run_prompts(network, cache, [tokens, other])
    assert (logits[0] - reference(folder, tokens)[-1]).abs().max() < TOLERANCE
    logits = step(network, cache, [Segment(1, 34, 1)], [9])
    assert (logits[0] - reference(folder, [*other, 9])[-1]).abs().max() < TOLERANCE


def test_only_the_logits_that_are_wanted_come(tiny: Path) -> None:
    network = on_cpu(tiny)
    tokens = prompts(1, 512, (9,))[0]
    whole = step(network, network.new_cache(1), [Segment(0, 0, 9)], tokens)
    for wanted in ([], [8], [0, 3, 4], list(range(9))):
        logits = network.forward_step(network.new_cache(1), [Segment(0, 0, 9)], tokens, wanted)
        assert logits.shape == (len(wanted), 512)
        assert logits.dtype == np.float32
        assert (
            (torch.from_numpy(logits) - whole[wanted]).abs().max() < TOLERANCE if wanted else True
        )


def test_logits_belong_to_the_caller(tiny: Path) -> None:
    network = on_cpu(tiny)
    cache = network.new_cache(1)
    first = network.forward_step(cache, [Segment(0, 0, 3)], [5, 6, 7])
    kept = first.copy()
    first[:] = np.nan
    again = network.forward_step(network.new_cache(1), [Segment(0, 0, 3)], [5, 6, 7])
    assert np.array_equal(again, kept)
