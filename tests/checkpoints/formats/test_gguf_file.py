"""GGUF files: the same numbers come out, the same ids, and no file does harm."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.bounds import refused_soon
from support.gguf_files import (
    METADATA,
    WIDTH,
    GgufFile,
    changed,
    f32,
    tensors,
)
from support.hostile_files.gguf import EVERY, HOSTILE, QUERY, SPM, WORDS
from support.locked_readers import convert, read

from gptcli.checkpoints.formats.locked.readers import gguf_file
from gptcli.checkpoints.formats.locked.readers.ggml.types import TYPES, decoded
from gptcli.checkpoints.formats.locked.source import Refused
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import GptcliError

VALUES = tensors()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def made(file: GgufFile, path: Path) -> Path:
    """The folder that a file is converted into."""
    path.write_bytes(file.bytes())
    return convert(read(gguf_file, path), path.parent / "made")


@pytest.mark.parametrize("version", [2, 3])
def test_every_number_comes_out_under_its_name(version: int, path: Path) -> None:
    folder = made(GgufFile(version=version), path)
    found = load_file(folder / "model.safetensors")
    assert np.array_equal(found["wte.weight"], VALUES["token_embd.weight"])
    assert np.array_equal(found["wpe.weight"], VALUES["position_embd.weight"])
    assert np.array_equal(found["ln_f.bias"], VALUES["output_norm.bias"])
    assert np.array_equal(found["h.0.attn.c_attn.weight"], VALUES[QUERY].T)
    assert np.array_equal(found["h.1.mlp.c_fc.bias"], VALUES["blk.1.ffn_up.bias"])
    assert np.array_equal(found["h.1.mlp.c_proj.weight"], VALUES["blk.1.ffn_down.weight"].T)
    config = inspect(folder).gpt2
    assert config is not None
    assert (config.n_layer, config.n_head, config.inner) == (2, 4, 4 * WIDTH)
    assert config.layer_norm_epsilon == 1e-5
    assert config.eos_token_ids == (5,)


def test_types_that_safetensors_has_stay_as_they_are(path: Path) -> None:
    file = GgufFile()
    values = VALUES[QUERY]
    file.tensors[QUERY] = replace(file.tensors[QUERY], kind=1, data=values.astype("<f2").tobytes())
    half = (values.view("<u4") >> 16).astype("<u2")
    name = "blk.1.attn_qkv.weight"
    file.tensors[name] = replace(file.tensors[name], kind=30, data=half.tobytes())
    entries = inspect(made(file, path)).tensors
    assert entries["h.0.attn.c_attn.weight"].dtype == "F16"
    assert entries["h.1.attn.c_attn.weight"].dtype == "BF16"
    assert entries["h.1.attn.c_attn.bias"].dtype == "F32"


def test_a_head_that_is_the_embedding_is_left_out(path: Path) -> None:
    file = GgufFile()
    file.tensors["output.weight"] = file.tensors["token_embd.weight"]
    path.write_bytes(file.bytes())
    source = read(gguf_file, path)
    assert dict(source.left_out) == {"output.weight": "it is token_embd.weight once more"}
    assert source.config is not None
    assert source.config["tie_word_embeddings"] is True


def test_a_head_of_its_own_stays(path: Path) -> None:
    file = GgufFile()
    file.tensors["output.weight"] = f32(VALUES["token_embd.weight"] * 2)
    config = inspect(made(file, path)).gpt2
    assert config is not None
    assert not config.tie_word_embeddings


def split(folder: Path, changes: dict[int, dict[str, Any]] | None = None) -> list[Path]:
    """A model in three parts."""
    every = list(GgufFile().tensors.items())
    parts = [every[:1], every[1:9], every[9:]]
    files = []
    for place, part in enumerate(parts):
        told = {"split.no": place, "split.count": 3, "split.tensors.count": len(every)}
        told |= (changes or {}).get(place, {})
        file = changed(told) if place == 0 else GgufFile(told | {"general.architecture": "gpt2"})
        file.tensors = dict(part)
        files.append(folder / f"model-{place + 1:05}-of-00003.gguf")
        files[-1].write_bytes(file.bytes())
    return files


def test_parts_are_one_model(tmp_path: Path) -> None:
    source = read(gguf_file, *split(tmp_path))
    assert len(source.tensors) == len(VALUES)
    folder = convert(source, tmp_path / "made")
    assert np.array_equal(
        load_file(folder / "model.safetensors")["h.1.attn.c_attn.weight"],
        VALUES["blk.1.attn_qkv.weight"].T,
    )


@pytest.mark.parametrize(
    ("changes", "order"),
    [
        ({}, [0, 1]),
        ({}, [1]),
        ({}, [0, 2, 1]),
        ({}, [0, 1, 1]),
        ({1: {"split.count": 4}}, [0, 1, 2]),
        ({2: {"split.no": -1}}, [0, 1, 2]),
        ({0: {"split.tensors.count": 7}}, [0, 1, 2]),
    ],
)
def test_parts_that_are_not_all_there_are_refused(
    changes: dict[int, dict[str, Any]], order: list[int], tmp_path: Path
) -> None:
    files = split(tmp_path, changes)
    with pytest.raises(Refused):
        read(gguf_file, *(files[place] for place in order))


def test_the_tokenizer_is_rebuilt(path: Path) -> None:
    tokenizer = load_tokenizer(made(GgufFile(), path))
    assert tokenizer.encode("ab a<|endoftext|>") == [2, 4, 5]
    assert tokenizer.decode([2, 4, 5]) == "ab a"
    assert tokenizer.roles.end == 5


def test_a_begin_token_stands_before_a_text_where_the_file_says_so(path: Path) -> None:
    tokenizer = load_tokenizer(made(changed({"tokenizer.ggml.add_bos_token": True}), path))
    assert tokenizer.encode("ab") == [5, 2]


@pytest.mark.parametrize("pre", [None, "default"])
def test_a_file_that_does_not_name_a_way_to_split_words_has_gpt2s(
    pre: str | None, path: Path
) -> None:
    path.write_bytes(changed({"tokenizer.ggml.pre": pre}).bytes())
    assert any("as in GPT-2" in notice for notice in read(gguf_file, path).notices)


def test_a_whole_tokenizer_json_in_the_file_wins(path: Path, tiny_tokenizer_text: str) -> None:
    file = changed({"tokenizer.huggingface.json": tiny_tokenizer_text})
    assert (made(file, path) / "tokenizer.json").read_text() == tiny_tokenizer_text


def test_a_file_without_a_tokenizer_says_so(path: Path) -> None:
    file = changed({key: None for key in METADATA if key.startswith("tokenizer.")})
    path.write_bytes(file.bytes())
    source = read(gguf_file, path)
    assert source.texts == {}
    assert any("no tokenizer" in notice for notice in source.notices)


def test_a_chat_template_goes_along(path: Path) -> None:
    folder = made(changed({"tokenizer.chat_template": "{{ messages }}"}), path)
    assert json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]


@pytest.mark.parametrize(
    ("metadata", "words", "ids"),
    [
        (SPM, "aab\n", [5, 6, 7]),  # ▁a, ab, a byte
        (SPM | {"tokenizer.ggml.model": "t5"}, "aab", [5, 6]),
        (WORDS, "ABB abx cd", [3, 5, 0, 6, 7]),
        (WORDS | {"tokenizer.ggml.normalizer.lowercase": False}, "AB ab", [0, 3]),
    ],
)
def test_tokenizers_of_other_kinds_are_rebuilt(
    metadata: dict[str, Any], words: str, ids: list[int], path: Path
) -> None:
    tokenizer = load_tokenizer(made(changed(metadata), path))
    assert tokenizer.encode(words, bare=True) == ids


def test_bert_tokens_stand_around_a_text(path: Path) -> None:
    tokenizer = load_tokenizer(made(changed(WORDS), path))
    assert tokenizer.raw.encode("ab").ids == [1, 3, 2]


def test_every_type_of_numbers_is_known_to_the_package() -> None:
    gguf = pytest.importorskip("gguf", reason="quantised types need gguf, see gptcli[formats]")
    for number, kind in TYPES.items():
        known = gguf.GGMLQuantizationType(number)
        assert (known.name, gguf.GGML_QUANT_SIZES[known]) == (kind.name, (kind.block, kind.size))


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "TQ1_0", "TQ2_0"])
def test_quantised_numbers_come_out_as_the_package_reads_them(name: str) -> None:
    gguf = pytest.importorskip("gguf", reason="quantised types need gguf, see gptcli[formats]")
    kind = next(kind for kind in TYPES.values() if kind.name == name)
    values = np.random.default_rng(1).normal(0, 0.3, (3, 512)).astype("<f4")
    stored = gguf.quants.quantize(values, gguf.GGMLQuantizationType[name])
    found = decoded(stored.reshape(-1), kind, values.shape)
    assert np.array_equal(found, gguf.quants.dequantize(stored, gguf.GGMLQuantizationType[name]))
    assert abs(found - values).mean() < 0.25


def test_numbers_of_one_bit_have_a_scale_and_signs() -> None:
    kind = next(kind for kind in TYPES.values() if kind.name == "Q1_0")
    stored = np.frombuffer(np.float16(0.5).tobytes() + b"\x01" + bytes(15), "u1")
    found = decoded(stored, kind, (1, 128))[0]
    assert found[0] == 0.5
    assert (found[1:] == -0.5).all()


def test_a_quantised_file_says_what_becomes_of_its_numbers(path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="quantised types need gguf, see gptcli[formats]")
    file = GgufFile()
    stored = gguf.quants.quantize(VALUES[QUERY], gguf.GGMLQuantizationType.Q8_0)
    file.tensors[QUERY] = replace(file.tensors[QUERY], kind=8, data=stored.tobytes())
    path.write_bytes(file.bytes())
    source = read(gguf_file, path)
    assert any("Q8_0" in notice for notice in source.notices)
    found = load_file(convert(source, path.parent / "made") / "model.safetensors")
    assert abs(found["h.0.attn.c_attn.weight"] - VALUES[QUERY].T).max() < 0.01


# Hostile files


MOST_BYTES, MOST_SECONDS = 30 * 2**20, 5


@pytest.mark.parametrize("file", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_soon_and_in_little_memory(
    file: GgufFile | bytes, path: Path
) -> None:
    path.write_bytes(file if isinstance(file, bytes) else file.bytes())
    with refused_soon(MOST_BYTES, MOST_SECONDS, also=GptcliError):
        convert(read(gguf_file, path), path.parent / "made")


def test_a_file_cut_off_anywhere_in_its_header_is_refused(path: Path) -> None:
    for end in range(0, 1500, 7):
        path.write_bytes(EVERY[:end])
        with pytest.raises((Refused, GptcliError)):
            read(gguf_file, path)


def test_a_merge_that_makes_no_token_is_left_out(path: Path) -> None:
    path.write_bytes(changed({"tokenizer.ggml.merges": ["a b", "b b", "ab"]}).bytes())
    source = read(gguf_file, path)
    assert any("2 merges are left out" in notice for notice in source.notices)


Change = Callable[[bytearray], None]


def test_a_file_with_any_byte_changed_is_read_or_refused(path: Path) -> None:
    random = np.random.default_rng(7)
    for _ in range(300):
        data = bytearray(EVERY[: 1 << 12])
        data[random.integers(0, 1 << 12)] = random.integers(0, 256)
        path.write_bytes(bytes(data) + EVERY[1 << 12 :])
        with contextlib.suppress(Refused, GptcliError):
            read(gguf_file, path)
