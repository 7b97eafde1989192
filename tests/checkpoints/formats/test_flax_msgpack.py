"""flax_model.msgpack: the same numbers come out, and no file does harm."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bounds import refused_soon
from support.foreign_files import (
    JSON,
    array,
    checked,
    flax_tree,
    made_of,
    packed,
    random_tensors,
    write_flax,
)
from support.hostile_files.flax import GOOD, HOSTILE, TENSORS

from gptcli.checkpoints.formats.conversion import convert
from gptcli.checkpoints.formats.locked.readers import flax_msgpack
from gptcli.checkpoints.formats.locked.readers.containers import msgpack
from gptcli.checkpoints.formats.locked.source import Job, Refused, Source
from gptcli.checkpoints.sources import ModelSource

UNTIED = JSON | {"tie_word_embeddings": False}
HEAD = np.arange(96, dtype="f4").reshape(12, 8)


def read(*files: Path, tied: bool = True) -> Source:
    return flax_msgpack.read(Job(folder=files[0].parent, files=files, options={"tied": tied}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flax_model.msgpack"


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_every_number_comes_out_under_its_name(dtype: str, path: Path) -> None:
    tensors = random_tensors(dtype=dtype)
    assert checked(read(write_flax(path, tensors)), tensors, JSON)


@pytest.mark.parametrize("wrap", [lambda tree: tree["transformer"], lambda tree: {"params": tree}])
def test_the_model_may_lie_in_another_one(wrap: Callable[[Any], Any], path: Path) -> None:
    path.write_bytes(packed(wrap(flax_tree(TENSORS))))
    assert checked(read(path), TENSORS, JSON)


@pytest.mark.parametrize("spelling", ["bfloat16", "V2"])
def test_bfloat16_keeps_its_bits(spelling: str, path: Path) -> None:
    words = {name: (values.view("<u4") >> 16).astype("<u2") for name, values in TENSORS.items()}

    def pack(value: Any) -> bytes:
        if isinstance(value, dict):
            items = b"".join(packed(key) + pack(item) for key, item in value.items())
            return bytes([0x80 + len(value)]) + items
        return array(value.shape, spelling, value.tobytes())

    path.write_bytes(pack(flax_tree(words)))
    source = read(path)
    assert {tensor.dtype for tensor in source.tensors} == {"BF16"}
    assert all(np.array_equal(tensor.read(), words[tensor.name]) for tensor in source.tensors)


def test_an_array_in_pieces_is_put_together(path: Path) -> None:
    tree = flax_tree(TENSORS)
    values = tree["transformer"]["wte"]["embedding"]
    pieces = np.split(values.reshape(-1), [7, 50])
    tree["transformer"]["wte"]["embedding"] = {
        msgpack.CHUNKED: True,
        "shape": {str(place): side for place, side in enumerate(values.shape)},
        "chunks": {str(place): piece for place, piece in enumerate(pieces)},
    }
    path.write_bytes(packed(tree))
    assert checked(read(path), TENSORS, JSON)


def test_shards_are_one_model(path: Path) -> None:
    names = list(TENSORS)
    files = [
        write_flax(path.with_name(f"flax_model-0000{part}-of-00002.msgpack"), some)
        for part, some in (
            (1, {name: TENSORS[name] for name in names[:15]}),
            (2, {name: TENSORS[name] for name in names[15:]}),
        )
    ]
    assert checked(read(*files), TENSORS, JSON)
    with pytest.raises(Refused, match="stands in"):
        read(*files, write_flax(path, TENSORS))


def test_a_head_counts_where_the_configuration_unties_it(path: Path) -> None:
    tensors = TENSORS | {"lm_head.weight": HEAD}
    write_flax(path, tensors)
    assert checked(read(path, tied=False), tensors, UNTIED)
    source = read(path)
    assert checked(source, TENSORS, JSON)
    assert source.left_out == {"lm_head/kernel": "config.json ties the head to the embedding"}
    with pytest.raises(Refused, match="missing tensors: lm_head"):
        checked(read(write_flax(path, TENSORS), tied=False), TENSORS, UNTIED)


def test_heads_of_other_tasks_are_left_out_by_name(path: Path) -> None:
    tree = flax_tree(TENSORS) | {"score": {"kernel": np.zeros((8, 2), "f4")}}
    path.write_bytes(packed(tree))
    source = read(path)
    assert checked(source, TENSORS, JSON)
    assert source.left_out == {"score/kernel": "the head of a classifier"}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_plain_array_of_a_gpt2_is_refused(case: str, path: Path) -> None:
    data, told = HOSTILE[case]
    path.write_bytes(data)
    with refused_soon(2**25) as refused:
        checked(read(path), TENSORS, JSON)
    assert told in str(refused.value)


def test_a_file_cut_anywhere_is_refused(path: Path) -> None:
    for size in range(0, len(GOOD), 97):
        path.write_bytes(GOOD[:size])
        with pytest.raises(Refused):
            read(path)


def test_a_file_that_is_cut_while_it_is_read_is_refused(path: Path) -> None:
    source = read(write_flax(path, TENSORS))
    path.write_bytes(GOOD[: len(GOOD) // 2])
    with pytest.raises(Refused, match="shorter meanwhile"):
        made_of(source)


def test_memory_is_one_array_at_a_time(path: Path) -> None:
    path.write_bytes(packed({str(n): np.full(2**20, n, "f4") for n in range(6)}))
    tracemalloc.start()
    try:
        for name, stored in msgpack.arrays(path).items():
            assert stored.read()[-1] == int(name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * 2**22


def test_the_reader_works_in_the_process_without_rights(path: Path, tmp_path: Path) -> None:
    write_flax(path, TENSORS)
    (tmp_path / "config.json").write_text(json.dumps(JSON))
    (tmp_path / "staging").mkdir()
    files = (path,)
    source = ModelSource(
        kind="x", reader="flax_msgpack", folder=tmp_path, files=files, companions=True
    )
    assert convert(source, tmp_path / "staging").tensors == len(TENSORS)
