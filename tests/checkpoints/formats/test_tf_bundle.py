"""OpenAI's TensorFlow checkpoints: the same numbers come out, and no file does harm."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from safetensors.numpy import load_file
from support import locked_readers, tf_bundles
from support.bounds import refused_soon
from support.hostile_files.tf_bundle import HOSTILE, hostile
from support.tf_bundles import SIZES, Array, gpt2, write

from gptcli.checkpoints.formats.locked.readers import tf_bundle
from gptcli.checkpoints.formats.locked.readers.tensorflow import snappy
from gptcli.checkpoints.formats.locked.readers.tensorflow.crc32c import (
    POLYNOMIAL,
    TERMS,
    WIDTH,
    crc32c,
)
from gptcli.checkpoints.formats.locked.source import Refused, Source
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import BadModel

REFEREE = Path(__file__).parents[2] / "support" / "tf_referee.py"
TENSORFLOW = os.environ.get("TENSORFLOW_PYTHON")  # of a Python that has tensorflow-cpu 2.21.0
NAMES = {"g": "weight", "b": "bias", "w": "weight", "wte": "wte.weight", "wpe": "wpe.weight"}


def read(*files: Path) -> Source:
    return locked_readers.read(tf_bundle, *files)


def ours(name: str) -> str:
    """Our name of a variable of the scope `model`."""
    path = name.removeprefix("model/").replace("h0", "h/0").replace("h1", "h/1").split("/")
    return ".".join([*path[:-1], NAMES[path[-1]]])


def assert_same(source: Source, wanted: dict[str, Array], folder: Path) -> None:
    found = load_file(locked_readers.convert(source, folder) / "model.safetensors")
    assert len(found) == len(wanted)
    for name, values in wanted.items():
        tensor = found[ours(name)]
        assert tensor.dtype == values.dtype
        assert np.array_equal(tensor, values.reshape(tensor.shape)), name


def test_every_number_of_a_checkpoint_comes_out_under_its_name(tmp_path: Path) -> None:
    tensors = gpt2()
    source = read(*write(tmp_path / "a", tensors))
    assert_same(source, tensors, tmp_path / "b")
    assert source.config is not None
    assert (source.config["n_head"], source.config["eos_token_id"]) == (2, None)
    assert not source.left_out


@pytest.mark.parametrize(
    "options",
    [
        {"shards": 3},
        {"big": True},
        {"per_block": 1},
        {"per_block": 99},
        {"pack": lambda block: pyarrow.compress(block, "snappy", asbytes=True)},
    ],
    ids=["three-data-files", "big-endian", "small-blocks", "one-block", "snappy"],
)
def test_a_bundle_may_be_written_in_other_ways(tmp_path: Path, options: dict[str, Any]) -> None:
    tensors = gpt2()
    assert_same(read(*write(tmp_path / "a", tensors, **options)), tensors, tmp_path / "b")


@pytest.mark.parametrize("dtype", ["<f2", "<f8"])
def test_a_checkpoint_keeps_its_type(tmp_path: Path, dtype: str) -> None:
    tensors = gpt2(dtype=dtype)
    assert_same(read(*write(tmp_path / "a", tensors, big=True)), tensors, tmp_path / "b")


def test_bfloat16_is_carried_bit_by_bit(tmp_path: Path) -> None:
    bits = {name: (values.view("<u4") >> 16).astype("<i2") for name, values in gpt2().items()}
    source = read(*write(tmp_path, bits, types=dict.fromkeys(bits, 14)))
    assert {tensor.dtype for tensor in source.tensors} == {"BF16"}
    for tensor in source.tensors:
        wanted = bits[tensor.origin].view("<u2")
        assert np.array_equal(tensor.read(), wanted.reshape(tensor.shape))


def test_partitioned_variables_are_put_together(tmp_path: Path) -> None:
    whole = gpt2()
    cut = dict(whole)
    first = tf_bundles.partition(cut, "model/h0/attn/c_attn/w", [5, 7, 20])
    second = tf_bundles.partition(cut, "model/wte", [1])
    files = write(tmp_path / "a", cut, change=lambda stored: second(first(stored)), shards=2)
    assert_same(read(*files), whole, tmp_path / "b")


@pytest.mark.parametrize("scope", ["", "model/model/", "tower_0/model/", "gpt2/"])
def test_the_scope_may_be_missing_doubled_or_another(tmp_path: Path, scope: str) -> None:
    tensors = {f"model/{name.removeprefix(scope)}": v for name, v in gpt2(scope=scope).items()}
    assert_same(read(*write(tmp_path / "a", gpt2(scope=scope))), tensors, tmp_path / "b")


def test_what_the_training_keeps_is_left_out_with_reasons(tmp_path: Path) -> None:
    tensors = gpt2()
    one = np.zeros((), "<f4")
    training = {
        "model/wte/Adam": tensors["model/wte"],
        "model/wte/Adam_1": tensors["model/wte"],
        "model/h0/mlp/c_fc/w/adafactor_vr": np.zeros(8, "<f4"),
        "optimizer/model/wte": tensors["model/wte"],
        "beta1_power": one,
        "model/beta2_power": one,
        "model/_step": one,
        "global_step": np.zeros((), "<i8"),
        "Variable_7": tensors["model/wpe"],
        "_CHECKPOINTABLE_OBJECT_GRAPH": np.zeros(3, "|i1"),
    }
    source = read(*write(tmp_path / "a", tensors | training))
    assert source.left_out.keys() == training.keys()
    assert source.left_out["model/wte/Adam"] == "the optimizer keeps it"
    assert_same(source, tensors, tmp_path / "b")


def test_without_hparams_the_sizes_are_told_from_the_shapes(tmp_path: Path) -> None:
    wide = gpt2()
    with pytest.raises(Refused, match=r"n_head into hparams\.json"):
        read(*write(tmp_path / "a", wide)[:-1])
    for name, values in wide.items():
        factors = [8 if size in (8, 24, 32) else 1 for size in values.shape]
        wide[name] = np.tile(values, factors)
    source = read(*write(tmp_path / "b", wide)[:-1])
    config = dict(source.config or {})
    assert (config["n_head"], config["n_layer"], config["n_positions"]) == (1, 2, 12)
    assert "n_head 1 is taken" in source.notices[0]


def test_hparams_and_tokenizer_may_lie_with_the_model_that_was_trained_further(
    tmp_path: Path,
) -> None:
    files = write(tmp_path / "checkpoint" / "run1", gpt2(), name="model-20")[:-1]
    models = tmp_path / "models"
    for name, heads in (("124M", 12), ("tiny", 4)):
        (models / name).mkdir(parents=True)
        sizes = {**SIZES, "n_head": heads} | ({"n_embd": 768} if heads == 12 else {})
        (models / name / "hparams.json").write_text(json.dumps(sizes), encoding="utf-8")
    source = read(*files, *models.glob("*/*"))
    assert (source.config or {})["n_head"] == 4
    (tmp_path / "checkpoint/run1/hparams.json").write_text(json.dumps(SIZES), encoding="utf-8")
    source = read(*files, *models.glob("*/*"), tmp_path / "checkpoint/run1/hparams.json")
    assert (source.config or {})["n_head"] == 2


def encoder(folder: Path, lines: str, tokens: list[str]) -> tuple[Path, Path]:
    """OpenAI's two files of a tokenizer."""
    files = folder / "encoder.json", folder / "vocab.bpe"
    files[0].write_text(json.dumps({token: id for id, token in enumerate(tokens)}), "utf-8")
    files[1].write_text(lines, "utf-8")
    return files


def test_a_tokenizer_of_another_language_comes_along(tmp_path: Path) -> None:
    files = write(tmp_path / "a", gpt2())
    tokens = ["\u00d0", "\u00b4", "\u00b0", "\u00d0\u00b4", "\u00d0\u00b0", "#", "##"]
    tokens += ["\u00d0\u00b4\u00d0\u00b0", "<|endoftext|>"]
    lines = "# #\n\u00d0 \u00b4\n\u00d0 \u00b0\n# #\n\u00d0\u00b4 \u00d0\u00b0\n"
    source = read(*files, *encoder(tmp_path / "a", lines, tokens))
    assert source.notices == ()
    assert (source.config or {})["eos_token_id"] == 8
    tokenizer = load_tokenizer(locked_readers.convert(source, tmp_path / "b"))
    # The first line is never a merge to OpenAI's program; the fourth is.
    assert tokenizer.encode("да##<|endoftext|>") == [7, 6, 8]


@pytest.mark.parametrize(
    ("lines", "tokens", "why"),
    [
        ("#version: 0.2\na b\n", ["a", "b"], "'ab' is made of others"),
        ("#version: 0.2\n", [f"t{number}" for number in range(300)], "go up to 299"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_left_out_with_a_notice(
    tmp_path: Path, lines: str, tokens: list[str], why: str
) -> None:
    files = write(tmp_path, gpt2())
    source = read(*files, *encoder(tmp_path, lines, tokens))
    assert not source.texts
    assert why in source.notices[0]


def assert_refused(files: tuple[Path, ...], out: Path) -> None:
    """Refused in a moment, with little memory."""
    with refused_soon(2**24, 3, also=BadModel):
        locked_readers.convert(read(*files), out)


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_bundle_is_refused_in_a_moment(tmp_path: Path, what: str) -> None:
    assert_refused(hostile(tmp_path / "a", HOSTILE[what]), tmp_path / "b")


@pytest.mark.parametrize(
    "text",
    [
        "[]", "{", '{"n_head": -1}', '{"n_head": 1e400}', '{"n_head": 3}', '{"n_layer": 99999999}',
        '{"n_vocab": 30}', '{"n_head": "2"}', '{"n_ctx": true}', '{"n_head": NaN}',
    ],
)  # fmt: skip
def test_bad_hparams_are_refused(tmp_path: Path, text: str) -> None:
    files = write(tmp_path / "a", gpt2())
    if text.startswith('{"'):
        text = json.dumps(SIZES)[:-1] + ", " + text[1:]
    files[-1].write_text(text, "utf-8")
    assert_refused(files, tmp_path / "b")


def test_a_file_cut_or_changed_anywhere_is_refused(tmp_path: Path) -> None:
    files = write(tmp_path / "a", gpt2())
    for file in files[:2]:
        whole = file.read_bytes()
        for cut in range(0, len(whole), len(whole) // 23):
            file.write_bytes(whole[:cut])
            with pytest.raises((Refused, BadModel)):
                locked_readers.convert(read(*files), tmp_path / "b")
        for place in range(7, len(whole) - 48, len(whole) // 41):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
            with pytest.raises((Refused, BadModel)):
                locked_readers.convert(read(*files), tmp_path / "b")
        file.write_bytes(whole)
    assert read(*files)


def test_other_checkpoints_of_tensorflow_are_refused_by_what_they_are(tmp_path: Path) -> None:
    keras = {"layer/kernel/.ATTRIBUTES/VARIABLE_VALUE": np.zeros(3, "<f4")}
    keras["_CHECKPOINTABLE_OBJECT_GRAPH"] = np.zeros(3, "<f4")
    with pytest.raises(Refused, match=r"no wte, but layer/kernel.* by TensorFlow 2 or Keras"):
        read(*write(tmp_path, keras))


def test_the_checksum_is_that_of_its_definition() -> None:
    def plain(data: bytes) -> int:
        register = 0xFFFFFFFF
        for byte in data:
            register ^= byte
            for _ in range(8):
                register = register >> 1 ^ (POLYNOMIAL if register & 1 else 0)
        return register ^ 0xFFFFFFFF

    def ours(data: bytes) -> int:
        return crc32c(np.frombuffer(data, np.uint8))

    assert (ours(b"123456789"), ours(bytes(32))) == (0xE3069283, 0x8A9136AA)  # RFC 3720
    data = np.random.default_rng(0).bytes(2**16 * 9)
    sizes = [0, 1, 3, 4, 5, 6777, 13549, 13553, 13558, 20000, 104_559, 104_564, 104_565]
    for size in [*sizes, 111_111]:
        assert ours(data[:size]) == plain(data[:size]), size
    # The sparse polynomial is a multiple of the checksum's.
    powers, value = [], 1 << 31
    for _ in range(WIDTH + 1):
        powers.append(value)
        value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
    assert powers[WIDTH] ^ powers[TERMS[0]] ^ powers[TERMS[1]] ^ powers[TERMS[2]] == 0


@pytest.mark.parametrize("data", [b"", b"a", b"ab" * 4000, bytes(70_000), os.urandom(70_000)])
def test_snappy_is_unpacked_as_it_was_packed(data: bytes) -> None:
    packed = pyarrow.compress(data, "snappy", asbytes=True)
    assert snappy.unpacked(packed, len(data)) == data
    with pytest.raises(Refused):
        snappy.unpacked(packed[:-1], len(data))


@pytest.mark.skipif(TENSORFLOW is None, reason="TENSORFLOW_PYTHON names no Python with TensorFlow")
def test_scores_are_those_of_tensorflow(tmp_path: Path) -> None:
    subprocess.run([str(TENSORFLOW), REFEREE, tmp_path / "tf"], check=True)
    kinds = sorted((tmp_path / "tf").iterdir())
    assert len(kinds) == 8
    for kind in kinds:
        files = [file for file in kind.iterdir() if not file.name.startswith("model-1.")]
        made = locked_readers.convert(read(*files), tmp_path / "ours" / kind.name)
        scores = locked_readers.scores(made, np.load(kind / "ids.npy").tolist())
        wanted = torch.from_numpy(np.load(kind / "logits.npy"))
        torch.testing.assert_close(scores, wanted, atol=1e-4, rtol=0)
