"""llm.c's models: the same scores, its tokenizer made again, and its own figures as a proof."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import locked_readers
from support.bounds import refused_soon
from support.hostile_files.llmc import (
    BESIDE,
    MODELS,
    WEIGHTS,
    debug_state,
    model,
    tokenizer,
    tokens,
)
from support.linear_gpt2 import scores

from gptcli.checkpoints.file_kinds import MAX_TOKENIZER_BYTES
from gptcli.checkpoints.formats.locked.readers import llmc
from gptcli.checkpoints.formats.locked.readers.gpt2.ranks import from_tokens
from gptcli.checkpoints.formats.locked.source import Source
from gptcli.checkpoints.tokenization.builders.byte_level import bytes_of
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import BadModel

IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def read(*files: Path) -> Source:
    return locked_readers.read(llmc, *files)


def test_scores_are_those_of_its_formula(tmp_path: Path) -> None:
    source = read(model(tmp_path / "model_00019560.bin"))
    assert list(source.left_out) == ["rows 261 to 383 of wte"]
    found = locked_readers.scores(locked_readers.convert(source, tmp_path / "b"), IDS)
    torch.testing.assert_close(found, scores(WEIGHTS, IDS, tanh=True), atol=1e-4, rtol=0)


def test_bfloat16_is_carried_bit_by_bit(tmp_path: Path) -> None:
    source = read(model(tmp_path / "gpt2_124M_bf16.bin", torch.bfloat16))
    made = load_file(locked_readers.convert(source, tmp_path / "b") / "model.safetensors")
    for name, tensor in made.items():
        wanted = WEIGHTS[name].to(torch.bfloat16)
        assert torch.equal(tensor, wanted.T if tensor.shape != wanted.shape else tensor)
        if tensor.shape == wanted.shape and not name.endswith("attn.c_proj.weight"):
            assert torch.equal(tensor, wanted), name
    square = "h.1.attn.c_proj.weight"
    assert torch.equal(made[square], WEIGHTS[square].to(torch.bfloat16).T)


def test_its_own_figures_are_given_as_a_proof(tmp_path: Path) -> None:
    file = model(tmp_path / "gpt2_124M.bin")
    proof = read(file, debug_state(tmp_path / "gpt2_124M_debug_state.bin")).proof
    assert proof is not None
    for ids, told in zip(proof.ids, proof.logprobs, strict=True):
        wanted = scores(WEIGHTS, list(ids[:-1]), tanh=True).log_softmax(-1)
        found = torch.tensor(told, dtype=torch.float32)
        torch.testing.assert_close(found, wanted[range(5), ids[1:]], atol=1e-5, rtol=0)
    assert read(file).proof is None
    # Those of another model, or of weights that were rounded since, prove nothing.
    assert read(file, debug_state(tmp_path / "other_debug_state.bin")).proof is None


def test_its_tokenizer_is_made_again_from_the_tokens(tmp_path: Path) -> None:
    file = model(tmp_path / "a.bin")
    source = read(file, tokenizer(tmp_path / "gpt2_tokenizer.bin", tokens()))
    assert (source.config or {})["eos_token_id"] == 259
    made = load_tokenizer(locked_readers.convert(source, tmp_path / "b"))
    assert made.encode("the the<|endoftext|> t") == [257, 258, 259, 260]
    assert made.decode(list(range(100))) == b"".join(tokens()[:100]).decode("utf-8", "replace")


def test_the_merges_of_a_real_tokenizer_come_out_as_they_were(tales: Path) -> None:
    held = json.loads((tales / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in held["merges"]]
    end = held["vocab"]["<|endoftext|>"]
    in_order = sorted(held["vocab"], key=held["vocab"].__getitem__)
    found = from_tokens("x", [bytes_of(token) for token in in_order], end, len(in_order))
    assert not found.notices
    assert json.loads(found.texts["vocab.json"]) == held["vocab"]
    assert found.texts["merges.txt"].split("\n")[1:-1] == merges


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found[::-1],
        lambda found: [*found[:256], b"the", *found[257:]],
        lambda found: [*found[:256], b"th", b"th", *found[258:]],
        lambda found: [b"!!", *found[1:]],
        lambda found: [*found, b"o", b"of"],
        lambda found: [*found[:256], *(bytes([a, b]) * 127 for a in range(70) for b in range(90))],
    ],
)
def test_tokens_of_no_tokenizer_are_left_out_with_a_notice(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    file = model(tmp_path / "a.bin")
    source = read(file, tokenizer(tmp_path / "t.bin", change(tokens())))
    assert not source.texts
    assert "t.bin is left out" in source.notices[0]


def assert_refused(files: list[Path], out: Path) -> None:
    """Refused in a moment, with little memory."""
    # A buffer for the largest tokenizer is asked for; what is not read does not fill it.
    with refused_soon(2**24 + MAX_TOKENIZER_BYTES, 3, also=BadModel):
        locked_readers.convert(read(*files), out)


@pytest.mark.parametrize("what", MODELS)
def test_a_hostile_model_is_refused_in_a_moment(tmp_path: Path, what: str) -> None:
    assert_refused([model(tmp_path / "a.bin", **MODELS[what])], tmp_path / "b")


@pytest.mark.parametrize("what", BESIDE)
def test_a_hostile_file_beside_it_is_refused_in_a_moment(tmp_path: Path, what: str) -> None:
    beside = BESIDE[what](tmp_path / "a_debug_state.bin")
    assert_refused([model(tmp_path / "a.bin"), beside], tmp_path / "b")
