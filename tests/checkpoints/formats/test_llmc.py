"""llm.c's models: the same scores, its tokenizer made again, and its own figures as a proof."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from support import locked_readers
from support.linear_gpt2 import CONTEXT, HEADS, LAYERS, WIDTH, scores, state

from gptcli.checkpoints.file_kinds import MAX_TOKENIZER_BYTES
from gptcli.checkpoints.formats.locked.readers import llmc
from gptcli.checkpoints.formats.locked.readers.gpt2.ranks import from_tokens
from gptcli.checkpoints.formats.locked.source import Refused, Source
from gptcli.checkpoints.tokenization.builders.byte_level import bytes_of
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import BadModel

ROWS, PADDED = 261, 384
IDS = [3, 1, 4, 1, 5, 9, 2, 6]
PARTS = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]
WEIGHTS = {name.removeprefix("transformer."): tensor for name, tensor in state(ROWS).items()}


def header(*values: int) -> bytes:
    return struct.pack("<256i", *values, *[0] * (256 - len(values)))


def model(path: Path, kind: torch.dtype = torch.float32, **changes: Any) -> Path:
    """A model as llm.c writes it; `head` has the first eight numbers of its header."""
    version = 3 if kind == torch.float32 else 5
    head = [20240326, version, CONTEXT, ROWS, LAYERS, HEADS, WIDTH, PADDED]
    order = [WEIGHTS["wte.weight"], torch.zeros(PADDED - ROWS, WIDTH), WEIGHTS["wpe.weight"]]
    for part in PARTS:
        for what in ("weight", "bias"):
            order += [WEIGHTS[f"h.{layer}.{part}.{what}"] for layer in range(LAYERS)]
    order += [WEIGHTS["ln_f.weight"], WEIGHTS["ln_f.bias"]]
    numbers = torch.cat([tensor.reshape(-1) for tensor in order]).to(kind)
    data = numbers.view(torch.uint8).numpy().tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    for place, value in changes.get("head", {}).items():
        head[place] = value
    data = header(*head) + data
    path.write_bytes(data[: changes.get("cut")] + changes.get("more", b""))
    return path


def debug_state(path: Path, **changes: Any) -> Path:
    """What the model says of two texts, as llm.c's Python program writes it."""
    random = np.random.default_rng(1)
    text = random.integers(0, ROWS, (2, 6)).astype("<i4")
    x, y = text[:, :-1], changes.get("y", text[:, 1:])
    logits = torch.stack([scores(WEIGHTS, row.tolist(), tanh=True) for row in x])
    right = torch.from_numpy(text[:, 1:].astype("i8")).flatten()
    loss = F.cross_entropy(logits.flatten(0, 1), right)
    parts = [x.tobytes(), y.tobytes(), logits.numpy().tobytes(), loss.numpy().tobytes()]
    head = header(*changes.get("head", (20240327, 2, 2, 5)))
    path.write_bytes((head + b"".join(parts) + bytes(99))[: changes.get("cut")])
    return path


def tokens() -> list[bytes]:
    """Single bytes, then tokens of two, of three and of four bytes, and the end."""
    made = [bytes([byte]) for byte in [*range(33, 127), *range(33), *range(127, 256)]]
    return [*made, b"th", b"the", b" the", b"<|endoftext|>", b" t"]


def tokenizer(path: Path, found: list[bytes], end: int = 259, **changes: Any) -> Path:
    """The file of tokens."""
    head = changes.get("head", (20240328, 2, len(found), end))
    data = header(*head) + b"".join(bytes([len(token)]) + token for token in found)
    path.write_bytes(data[: changes.get("cut")] + changes.get("more", b""))
    return path


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


MODELS: dict[str, dict[str, Any]] = {
    "a Llama": {"head": {0: 20240803}},
    "a state of the optimizer": {"head": {0: 20240527}},
    "another magic": {"head": {0: -1}},
    "an older version": {"head": {1: 1}},
    "a newer version": {"head": {1: 9}},
    "no context": {"head": {2: 0}},
    "a huge context": {"head": {2: 2**31 - 1}},
    "another context": {"head": {2: 11}},
    "a negative vocabulary": {"head": {3: -5}},
    "a huge vocabulary": {"head": {3: 2**31 - 1, 7: 2**31 - 1}},
    "more tokens than rows": {"head": {3: 385}},
    "no layers": {"head": {4: 0}},
    "many layers": {"head": {4: 2**30}},
    "another layer": {"head": {4: 3}},
    "no heads": {"head": {5: 0}},
    "heads that do not fit": {"head": {5: 3}},
    "many heads": {"head": {5: 2**30}},
    "a width of nothing": {"head": {6: 0}},
    "a huge width": {"head": {6: 2**31 - 1}},
    "a negative width": {"head": {6: -16}},
    "fewer rows": {"head": {7: 261}},
    "negative rows": {"head": {7: -1}},
    "huge rows": {"head": {7: 2**31 - 1}},
    "half the numbers": {"head": {1: 5}},
    "a header cut short": {"cut": 1000},
    "nothing": {"cut": 0},
    "a byte missing": {"cut": -1},
    "a number too many": {"more": b"\0\0\0\0"},
}
BESIDE: dict[str, Callable[[Path], Path]] = {
    "a tokenizer cut short": lambda file: tokenizer(file, tokens(), cut=1500),
    "a tokenizer without tokens": lambda file: tokenizer(file, [], head=(20240328, 2, 0, 0)),
    "a tokenizer with more": lambda file: tokenizer(file, tokens(), more=b"\1a"),
    "a token of nothing": lambda file: tokenizer(file, [b"", *tokens()]),
    "a tokenizer of billions": lambda file: tokenizer(file, [], head=(20240328, 2, 2**31 - 1)),
    "a tokenizer of fewer than none": lambda file: tokenizer(file, [], head=(20240328, 2, -1)),
    "a newer tokenizer": lambda file: tokenizer(file, tokens(), head=(20240328, 3, 261, 259)),
    "a newer state": lambda file: debug_state(file, head=(20240327, 3, 2, 5)),
    "a state of no texts": lambda file: debug_state(file, head=(20240327, 2, 0, 5)),
    "a state of negative texts": lambda file: debug_state(file, head=(20240327, 2, -2, 5)),
    "a state of long texts": lambda file: debug_state(file, head=(20240327, 2, 2, 13)),
    "a state of many texts": lambda file: debug_state(file, head=(20240327, 2, 2**30, 12)),
    "a state cut short": lambda file: debug_state(file, cut=9000),
    "a state of other tokens": lambda file: debug_state(file, y=np.full((2, 5), ROWS, "<i4")),
    "a state of no text": lambda file: debug_state(file, y=np.zeros((2, 5), "<i4")),
}


def assert_refused(files: list[Path], out: Path) -> None:
    """Refused in a moment, with little memory."""
    tracemalloc.start()
    begin = time.process_time()
    try:
        with pytest.raises((Refused, BadModel)) as error:
            locked_readers.convert(read(*files), out)
        assert str(error.value)
        # A buffer for the largest tokenizer is asked for; what is not read does not fill it.
        assert tracemalloc.get_traced_memory()[1] < 2**24 + MAX_TOKENIZER_BYTES
        assert time.process_time() - begin < 3
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", MODELS)
def test_a_hostile_model_is_refused_in_a_moment(tmp_path: Path, what: str) -> None:
    assert_refused([model(tmp_path / "a.bin", **MODELS[what])], tmp_path / "b")


@pytest.mark.parametrize("what", BESIDE)
def test_a_hostile_file_beside_it_is_refused_in_a_moment(tmp_path: Path, what: str) -> None:
    beside = BESIDE[what](tmp_path / "a_debug_state.bin")
    assert_refused([model(tmp_path / "a.bin"), beside], tmp_path / "b")
