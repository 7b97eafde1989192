"""Models written for llama.cpp and CTranslate2: what is in the files, and what is refused."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import piece_models
from support.locked_readers import convert, read

from gptcli.checkpoints.formats.locked.readers import gguf_file
from gptcli.checkpoints.formats.locked.readers.ggml.header import read_gguf_header
from gptcli.checkpoints.formats.writers.ctranslate2 import write_ctranslate2
from gptcli.checkpoints.formats.writers.gguf_file import GGUF_TYPES, write_gguf
from gptcli.checkpoints.formats.writers.gguf_tokens import GgufTokenizer
from gptcli.checkpoints.formats.writers.gguf_vocabulary import (
    sentencepiece_vocabulary,
    vocabulary_of,
)
from gptcli.checkpoints.formats.writers.proof import prove
from gptcli.checkpoints.formats.writers.tensors import float32
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.gpt2.reference import ReferenceNetwork
from gptcli.errors import BadModel, CannotCreate, Unavailable, UsageError

WITHOUT_GGUF = "GGUF files need gguf, see gptcli[formats]"
TEXTS = ("The old king said", " 漢字かな\n\n it's 42", "a<|endoftext|>b", "")


@pytest.fixture
def gguf() -> Any:
    return pytest.importorskip("gguf", reason=WITHOUT_GGUF)


def log_probabilities(folder: Path) -> Callable[[Sequence[int]], Any]:
    """What we compute, by the plain network."""
    checked = inspect(folder)
    assert checked.gpt2 is not None
    network = ReferenceNetwork(checked.gpt2, checked)

    def run(ids: Sequence[int]) -> Any:
        logits = network.logits(network.final(ids))
        shifted = logits - logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    return run


@pytest.mark.usefixtures("gguf")
@pytest.mark.parametrize(
    ("dtype", "most"), [("f32", 0), ("f16", 1e-3), ("bf16", 1e-2), ("q8_0", 0.02)]
)
def test_what_is_written_is_read_again(dtype: str, most: float, tiny: Path, tmp_path: Path) -> None:
    written = write_gguf(tiny, tmp_path / "model.gguf", dtype)
    assert (written.type, written.size) == (dtype, (tmp_path / "model.gguf").stat().st_size)
    folder = convert(read(gguf_file, tmp_path / "model.gguf"), tmp_path / "back")
    names, again = inspect(tiny), inspect(folder)
    assert again.gpt2 == names.gpt2
    for name, entry in again.tensors.items():
        assert abs(float32(entry) - float32(names.tensors[name])).max() <= most
    one, other = load_tokenizer(tiny), load_tokenizer(folder)
    assert [other.encode(text) for text in TEXTS] == [one.encode(text) for text in TEXTS]
    assert {file.name for file in tmp_path.iterdir()} == {"model.gguf", "back"}


@pytest.mark.usefixtures("gguf")
def test_one_tensor_is_in_memory_at_a_time(make_tiny: Any, tmp_path: Path) -> None:
    checkpoint = make_tiny(n_embd=128, n_layer=8)
    write_gguf(checkpoint, tmp_path / "warm.gguf")
    largest = 4 * 128 * 4 * 128
    tracemalloc.start()
    write_gguf(checkpoint, tmp_path / "model.gguf")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8 * largest < (checkpoint / "model.safetensors").stat().st_size


@pytest.mark.parametrize("write", [write_gguf, write_ctranslate2])
def test_an_unknown_type_is_refused(write: Any, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--type"):
        write(tiny, tmp_path, "q4_k_m")


def test_without_its_package_nothing_is_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in ("gguf", "ctranslate2", "ctranslate2.specs"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Unavailable, match="gguf is not installed") as caught:
        write_gguf(tiny, tmp_path / "model.gguf")
    assert "gptcli[formats]" in caught.value.hint
    with pytest.raises(Unavailable, match="ctranslate2 is not installed"):
        write_ctranslate2(tiny, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("gguf")
def test_a_file_that_cannot_be_made_is_an_error_of_ours(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotCreate):
        write_gguf(tiny, tmp_path / "none" / "model.gguf")


@pytest.mark.usefixtures("gguf")
def test_numbers_that_f16_lacks_are_named(make_tiny: Any, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    checkpoint = make_tiny()
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["transformer.h.1.mlp.c_fc.weight"][3, 4] = 1e5
    save_file(tensors, checkpoint / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadModel, match=r"h\.1\.mlp\.c_fc\.weight holds numbers that are too large"):
        write_gguf(checkpoint, tmp_path / "model.gguf", "f16")
    assert not list(tmp_path.iterdir())
    write_gguf(checkpoint, tmp_path / "model.gguf", "bf16")


# Tokenizers


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Tokenizer:
    """The tokenizer of a model with its tokenizer.json changed."""
    from tokenizers import Tokenizer as Raw

    whole = json.loads((folder / "tokenizer.json").read_text())
    change(whole)
    return Tokenizer(Raw.from_str(json.dumps(whole)), 0)


def given(tokenizer: Tokenizer) -> GgufTokenizer:
    return vocabulary_of(tokenizer, 512)


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize(
    ("splitter", "name"),
    [
        (BYTES, "gpt-2"),
        (
            {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTES],
            },
            "starcoder",
        ),
    ],
)
def test_ways_to_split_words_have_llama_cpps_names(
    splitter: dict[str, Any], name: str, tiny: Path
) -> None:
    assert given(changed(tiny, lambda whole: whole.update(pre_tokenizer=splitter))).pre == name


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda whole: whole.update(normalizer={"type": "NFC"}), "NFC"),
        (lambda whole: whole.update(pre_tokenizer=None), "nothing"),
        (lambda whole: whole.update(pre_tokenizer={"type": "Whitespace"}), "Whitespace"),
        (lambda whole: whole.update(pre_tokenizer=BYTES | {"add_prefix_space": True}), "space"),
        (lambda whole: whole.update(pre_tokenizer=BYTES | {"use_regex": False}), "way of its own"),
        (lambda whole: whole["model"].update(ignore_merges=True), "way of its own"),
        (lambda whole: whole["model"].update(dropout=0.5), "dropout"),
        (lambda whole: whole["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (lambda whole: whole["model"].update(byte_fallback=True), "byte fallback"),
        (
            lambda whole: whole.update(
                model={"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
            ),
            "WordLevel",
        ),
        (
            lambda whole: whole["added_tokens"].append(
                whole["added_tokens"][0]
                | {"id": 511, "content": "king", "special": False, "lstrip": True}
            ),
            "takes spaces",
        ),
    ],
)
def test_a_tokenizer_that_llama_cpp_lacks_is_refused_by_name(
    change: Callable[[dict[str, Any]], None], why: str, tiny: Path
) -> None:
    with pytest.raises(BadModel, match=why):
        given(changed(tiny, change))


def test_a_model_without_an_end_token_is_written_with_a_notice(tiny: Path) -> None:
    from gptcli.checkpoints.tokenization.roles import TokenRoles

    tokenizer = Tokenizer(load_tokenizer(tiny).raw, None, roles=TokenRoles())
    [notice] = given(tokenizer).notices
    assert "no end token" in notice


def test_ids_without_a_token_get_one_that_is_never_used(tiny: Path) -> None:
    vocabulary = vocabulary_of(load_tokenizer(tiny), 520)
    assert vocabulary.texts[515] == "[unused 515]"
    known = load_tokenizer(tiny).size
    assert vocabulary.types[:1] == [3]
    assert set(vocabulary.types[1:known]) == {1}
    assert set(vocabulary.types[known:]) == {5}


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ab", "##b", "##", "c"]


def word_piece(**changes: Any) -> Tokenizer:
    from tokenizers import Tokenizer as Raw

    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": id,
                "content": WORDS[id],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for id in range(4)
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": False,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: id for id, token in enumerate(WORDS)},
        },
    } | changes
    return Tokenizer(Raw.from_str(json.dumps(whole)), 3)


def test_word_piece_marks_the_tokens_that_begin_words() -> None:
    found = vocabulary_of(word_piece(), len(WORDS))
    assert found.model == "bert"
    assert found.texts == [*WORDS[:4], "\u2581ab", "b", "\u2581##", "\u2581c"]
    assert found.switches["normalizer.lowercase"] is False
    assert found.switches["normalizer.strip_accents"] is False
    assert found.ids["unknown"] == 1
    assert any("[SEP]" in notice for notice in found.notices)


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "NFC"}},
        {"normalizer": None},
        {"pre_tokenizer": {"type": "Whitespace"}},
    ],
)
def test_word_piece_of_another_kind_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadModel, match="WordPiece"):
        vocabulary_of(word_piece(**changes), len(WORDS))


def test_sentencepieces_bpe_needs_a_token_for_each_byte() -> None:
    texts = ["<unk>", "\u2581a", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [2, 1, *[6] * 256]
    found = sentencepiece_vocabulary("llama", texts, [0.0] * 258, types, ids={}, switches={})
    assert found.model == "llama"
    for count, more in ((257, {}), (258, {"remove_extra_whitespaces": True})):
        with pytest.raises(BadModel, match="sentencepiece"):
            sentencepiece_vocabulary(
                "llama", texts[:count], [0.0] * count, types[:count], ids={}, switches=more
            )


# Proof, by the programs themselves


@pytest.mark.usefixtures("gguf")
@pytest.mark.parametrize("dtype", GGUF_TYPES)
def test_llama_cpp_computes_what_we_compute(dtype: str, tales: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="the proof needs llama_cpp, see gptcli[bench]")
    written = write_gguf(tales, tmp_path / "model.gguf", dtype)
    proof = prove(written, load_tokenizer(tales), 512, log_probabilities(tales))
    assert proof is not None
    assert proof.other_ids == ()
    assert proof.same_argmax == 1
    assert proof.largest < {"f32": 0.05, "f16": 0.05, "bf16": 0.5, "q8_0": 1}[dtype]


SETTINGS: list[dict[str, Any]] = [
    {},
    {"scale_attn_by_inverse_layer_idx": True},
    {"scale_attn_weights": False},
    {"layer_norm_epsilon": 1e-2},
    {"activation_function": "relu"},
    {"activation_function": "gelu"},
    {"activation_function": "quick_gelu"},
    {"activation_function": "silu"},
    {"activation_function": "tanh"},
    {"tie_word_embeddings": False, "n_inner": 48},
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_ctranslate2_computes_what_we_compute_whatever_the_config(
    setting: dict[str, Any], make_tiny: Any, tmp_path: Path
) -> None:
    pytest.importorskip("ctranslate2", reason="it needs ctranslate2, see gptcli[bench]")
    checkpoint = make_tiny(**setting)
    written = write_ctranslate2(checkpoint, tmp_path, "float32")
    proof = prove(written, load_tokenizer(checkpoint), 64, log_probabilities(checkpoint))
    assert proof is not None
    assert proof.largest < 1e-3
    assert (tmp_path / "tokenizer.json").exists()


def test_ctranslate2s_int8_is_near(tales: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="it needs ctranslate2, see gptcli[bench]")
    written = write_ctranslate2(tales, tmp_path, "int8")
    proof = prove(written, load_tokenizer(tales), 512, log_probabilities(tales))
    assert proof is not None
    assert proof.largest < 2
    assert written.size < 0.7 * (tales / "model.safetensors").stat().st_size


# As sentencepiece trains a BPE: no two scores are equal.
RANKED = [replace(piece, score=-float(place)) for place, piece in enumerate(piece_models.PIECES)]


@pytest.mark.usefixtures("gguf")
@pytest.mark.parametrize(
    ("model", "class_name", "kind"),
    [
        (piece_models.written(), "T5Tokenizer", "t5"),
        (
            piece_models.written(
                [*RANKED, *piece_models.BYTES],
                trainer=piece_models.message((3, 2), (35, 1)),  # BPE, byte_fallback
                normalizer=piece_models.message((4, 0)),  # remove_extra_whitespaces
            ),
            "LlamaTokenizer",
            "llama",
        ),
    ],
)
def test_a_sentencepiece_model_goes_over_piece_by_piece(
    model: bytes, class_name: str, kind: str, make_tiny: Any, tmp_path: Path
) -> None:
    checkpoint = make_tiny()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (checkpoint / name).unlink()
    (checkpoint / "spiece.model").write_bytes(model)
    config = json.dumps({"tokenizer_class": class_name, "add_bos_token": False})
    (checkpoint / "tokenizer_config.json").write_text(config)
    write_gguf(checkpoint, tmp_path / "model.gguf", "f32")
    source = read(gguf_file, tmp_path / "model.gguf")
    one = load_tokenizer(checkpoint)
    other = load_tokenizer(convert(source, tmp_path / "back"))
    texts = ["abc de", "a", "bed", "de abc, 1 bcd"]
    assert [other.encode(t, bare=True) for t in texts] == [one.encode(t, bare=True) for t in texts]
    assert gguf_model(tmp_path / "model.gguf") == kind


def gguf_model(file: Path) -> object:
    return read_gguf_header(file).metadata["tokenizer.ggml.model"]
