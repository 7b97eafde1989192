"""Keras Hub's GPT-2: the same numbers come out of folders and archives, and no file does harm."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.bounds import refused_soon
from support.foreign_files import (
    JSON,
    checked,
    keras_variables,
    scores,
    write_h5,
    write_preset,
)
from support.hostile_files.keras import (
    ARCHIVES,
    CONFIGS,
    HEADS,
    TENSORS,
    TEXTS,
    VARIABLES,
    archive,
    preset,
)

from gptcli.checkpoints.formats.conversion import convert
from gptcli.checkpoints.formats.locked.readers import keras_hub
from gptcli.checkpoints.formats.locked.source import Job, Source
from gptcli.checkpoints.sources import ModelSource
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import BadModel

REFEREE = Path(__file__).parents[2] / "support" / "keras_hub_referee.py"
PYTHON = os.environ.get("KERAS_HUB_PYTHON")  # of a Python that CONTRIBUTING describes


def read(*files: Path) -> Source:
    return keras_hub.read(Job(folder=files[0].parent, files=files))


def test_every_number_comes_out_under_its_name(tmp_path: Path) -> None:
    source = read(*write_preset(tmp_path, TENSORS))
    assert checked(source, TENSORS, JSON)
    assert source.config is not None
    assert source.config["n_inner"] == 10
    assert (source.config["bos_token_id"], source.config["eos_token_id"]) == (4, 4)
    for name, text in source.texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "tokenizer.json").unlink()  # Keras' own, of another kind
    assert load_tokenizer(tmp_path).encode("ab<|endoftext|>a") == [2, 4, 0]


@pytest.mark.parametrize(
    "prefix", ["_layer_checkpoint_dependencies/", "layers/gpt2_backbone/layers/"]
)
def test_the_model_may_lie_in_another_one(prefix: str, tmp_path: Path) -> None:
    assert checked(read(*preset(tmp_path, VARIABLES, prefix)), TENSORS, JSON)


def test_older_names_of_layers_are_known(tmp_path: Path) -> None:
    changes = (
        ("reversible_embedding", "token_embedding"),
        ("_layer_norm", "_layernorm"),
        ("_self_attention_layer/", "_self_attention_layer/_"),
        ("transformer_decoder_1", "transformer_layer_1"),
    )
    arrays = {}
    for name, values in VARIABLES.items():
        for new, old in changes:
            name = name.replace(new, old)
        arrays[name] = values
    assert checked(read(*preset(tmp_path, arrays)), TENSORS, JSON)


def test_states_of_training_are_left_out_by_name(tmp_path: Path) -> None:
    files = preset(tmp_path, VARIABLES)
    with h5py.File(files[0], "a") as file:
        file["optimizer/vars/0"] = np.int32(3)
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, "u4")
    source = read(*files)
    assert checked(source, TENSORS, JSON)
    assert sorted(source.left_out.values()) == [
        "the state of a random generator",
        "the state of the optimizer",
    ]


def test_bfloat16_keeps_its_bits(tmp_path: Path) -> None:
    words = {name: (values.view("<u4") >> 16).astype("<u2") for name, values in TENSORS.items()}
    arrays = {name: values.view("V2") for name, values in keras_variables(words).items()}
    source = read(*preset(tmp_path, arrays))
    assert {tensor.dtype for tensor in source.tensors} == {"BF16"}
    assert all(np.array_equal(tensor.read(), words[tensor.name]) for tensor in source.tensors)


def test_shards_are_one_model_and_heads_of_tasks_no_part_of_it(tmp_path: Path) -> None:
    names = list(VARIABLES)
    files = preset(tmp_path, {name: VARIABLES[name] for name in names[:15]})
    more = {name: VARIABLES[name] for name in names[15:]}
    files.append(write_h5(tmp_path / "model_00001.weights.h5", more))
    files.append(write_h5(tmp_path / "task.weights.h5", {"a": np.zeros(1)}))
    assert checked(read(*files), TENSORS, JSON)


def test_an_archive_is_read_as_it_is(tmp_path: Path) -> None:
    source = read(archive(tmp_path / "a.keras"))
    assert checked(source, TENSORS, JSON)
    assert json.loads(source.texts["vocab.json"]) == {"a": 0, "<|endoftext|>": 1}
    assert source.texts["merges.txt"] == "#version: 0.2\n"


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_of_something_else_is_refused(case: str, tmp_path: Path) -> None:
    config, told = CONFIGS[case]
    files = preset(tmp_path, VARIABLES)
    (tmp_path / "config.json").write_text(json.dumps(config))
    _assert_refused(files, told)


def _assert_refused(files: list[Path], told: str) -> None:
    with refused_soon(2**24, also=BadModel) as refused:
        checked(read(*files), TENSORS, JSON)
    assert told in str(refused.value)


@pytest.mark.parametrize("case", HEADS)
def test_weights_of_something_else_are_refused(case: str, tmp_path: Path) -> None:
    changes, told = HEADS[case]
    arrays = {name: values for name, values in (VARIABLES | changes).items() if values is not None}
    _assert_refused(preset(tmp_path, arrays), told)


@pytest.mark.parametrize("case", TEXTS)
def test_small_files_of_something_else_are_refused(case: str, tmp_path: Path) -> None:
    name, data, told = TEXTS[case]
    files = write_preset(tmp_path, TENSORS)
    next(file for file in files if file.name == name).write_bytes(data)
    _assert_refused(files, told)


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives_of_something_else_are_refused(case: str, tmp_path: Path) -> None:
    make, told = ARCHIVES[case]
    make(tmp_path / "a.keras")
    _assert_refused([tmp_path / "a.keras"], told)


def test_the_reader_works_in_the_process_without_rights(tmp_path: Path) -> None:
    for name, files in {
        "a": tuple(write_preset(tmp_path, TENSORS)),
        "b": (archive(tmp_path / "a.keras"),),
    }.items():
        (tmp_path / name).mkdir()
        source = ModelSource(kind="x", reader="keras_hub", folder=tmp_path, files=files)
        assert convert(source, tmp_path / name).tensors == len(TENSORS)


@pytest.mark.skipif(PYTHON is None, reason="KERAS_HUB_PYTHON names no Python")
def test_scores_and_tokens_are_those_of_keras_hub(tmp_path: Path) -> None:
    subprocess.run([str(PYTHON), REFEREE, tmp_path / "them"], check=True)
    texts = json.loads((tmp_path / "them" / "texts.json").read_text())
    kinds = sorted(path for path in (tmp_path / "them").iterdir() if path.is_dir())
    assert len(kinds) == 6
    for kind in kinds:
        archives = list(kind.glob("*.keras"))
        files = archives or [path for path in sorted(kind.rglob("*")) if path.is_file()]
        source = keras_hub.read(Job(folder=kind, files=tuple(files)))
        found = scores(source, kind, np.load(kind / "ids.npy"))
        wanted = np.load(kind / "logits.npy")
        assert np.abs(wanted).max() > 0.5
        assert np.abs(found - wanted).max() < 1e-4, kind.name
        tokenizer = load_tokenizer(kind / "ours")
        for text, ids in texts.items():
            assert tokenizer.encode(text) == ids, text
