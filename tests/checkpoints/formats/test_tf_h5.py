"""tf_model.h5: the same numbers come out, and no file does harm."""

from __future__ import annotations

import json
import os
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.bounds import refused_soon
from support.foreign_files import (
    CONFIG,
    JSON,
    checked,
    made_of,
    random_tensors,
    scores,
    write_tf,
)
from support.hostile_files.tf_h5 import HOSTILE, PREFIX, QUERY, SPOILT, ZEROS

from gptcli.checkpoints.formats.conversion import convert
from gptcli.checkpoints.formats.locked.readers import flax_msgpack, tf_h5
from gptcli.checkpoints.formats.locked.readers.containers import hdf5
from gptcli.checkpoints.formats.locked.source import Job, Refused, Source
from gptcli.checkpoints.sources import ModelSource
from gptcli.errors import BadModel

REFEREE = Path(__file__).parents[2] / "support" / "transformers4_referee.py"
PYTHON = os.environ.get("TRANSFORMERS4_PYTHON")  # of a Python that CONTRIBUTING describes
TENSORS = random_tensors()


def read(*files: Path, tied: bool = True) -> Source:
    return tf_h5.read(Job(folder=files[0].parent, files=files, options={"tied": tied}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tf_model.h5"


@pytest.mark.parametrize(
    "prefix",
    [
        PREFIX,
        "transformer/tfgpt2_model/transformer/",
        "transformer/tfgpt2lm_head_model_1/transformer/",
        "transformer/",
        "model_weights/transformer/a/b/",
    ],
)
def test_every_number_comes_out_under_its_name(prefix: str, path: Path) -> None:
    assert checked(read(write_tf(path, TENSORS, prefix)), TENSORS, JSON)


def test_layers_count_as_numbers(path: Path) -> None:  # their groups are in the order 0, 1, 10, 2
    tensors = random_tensors(replace(CONFIG, n_layer=11))
    assert checked(read(write_tf(path, tensors)), tensors, JSON | {"n_layer": 11})


@pytest.mark.parametrize("spelling", ["wte/weight:0", "shared/weight:0", "wte/embeddings:0"])
def test_the_embedding_has_several_names(spelling: str, path: Path) -> None:
    def rename(name: str) -> str:
        return spelling if name == "wte/embeddings:0" else name

    assert checked(read(write_tf(path, TENSORS, rename=rename)), TENSORS, JSON)


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
def test_numbers_of_any_size_and_order_are_read(dtype: str, path: Path) -> None:
    tensors = random_tensors(dtype=dtype)
    little = {name: values.astype(dtype.replace(">", "<")) for name, values in tensors.items()}
    assert checked(read(write_tf(path, tensors)), little, JSON)


PLANS: list[dict[str, Any]] = [
    {"chunks": True},
    {"compression": "gzip"},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"fletcher32": True},
    {"shuffle": True},
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: "+".join(plan))
def test_packed_arrays_are_read(plan: dict[str, Any], path: Path) -> None:
    assert checked(read(write_tf(path, TENSORS, **plan)), TENSORS, JSON)


@pytest.mark.parametrize("sides", [(1, 1), (3, 5), (7, 24), (8, 7)])
def test_pieces_of_any_shape_are_put_together(sides: tuple[int, int], path: Path) -> None:
    values = np.arange(7 * 24, dtype="f4").reshape(7, 24)
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=values, chunks=sides, compression="gzip", maxshape=(9, None))
    (found,) = hdf5.datasets(path)
    assert np.array_equal(found.read(), values)


def test_an_array_in_its_header_is_read(path: Path) -> None:
    values = np.arange(6, dtype="f4")
    with h5py.File(path, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(values.shape)
        made = h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F32LE, space, plan)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, values)
    (found,) = hdf5.datasets(path)
    assert np.array_equal(found.read(), values)


def test_heads_of_other_tasks_are_left_out_by_name(path: Path) -> None:
    write_tf(path, TENSORS)
    with h5py.File(path, "a") as file:
        file["score/model/score/kernel:0"] = np.zeros((8, 2), "f4")
        file["multiple_choice_head/model/multiple_choice_head/summary/bias:0"] = np.zeros(1, "f4")
        file["optimizer_weights/iteration:0"] = np.int64(3)
    source = read(path)
    assert checked(source, TENSORS, JSON)
    assert len(source.left_out) == 3
    assert source.left_out["score/model/score/kernel:0"] == "the head of a classifier"


def test_the_head_is_the_embedding_also_where_the_configuration_unties_it(path: Path) -> None:
    source = read(write_tf(path, TENSORS), tied=False)
    wanted = TENSORS | {"lm_head.weight": TENSORS["wte.weight"]}
    assert checked(source, wanted, JSON | {"tie_word_embeddings": False})
    assert "TensorFlow's GPT-2 has the embedding" in source.notices[0]


def test_a_head_of_its_own_counts_where_the_configuration_unties_it(path: Path) -> None:
    write_tf(path, TENSORS)
    head = np.arange(96, dtype="f4").reshape(8, 12)
    with h5py.File(path, "a") as file:
        file["lm_head/model/lm_head/kernel:0"] = head
    assert checked(
        read(path, tied=False),
        TENSORS | {"lm_head.weight": head.T},
        JSON | {"tie_word_embeddings": False},
    )
    assert list(read(path).left_out) == ["lm_head/model/lm_head/kernel:0"]


def test_shards_are_one_model(path: Path) -> None:
    names = list(TENSORS)
    files = [
        write_tf(path.with_name(f"tf_model-0000{part}-of-00002.h5"), {n: TENSORS[n] for n in some})
        for part, some in ((1, names[:15]), (2, names[15:]))
    ]
    assert checked(read(*files), TENSORS, JSON)


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_plain_array_of_a_gpt2_is_refused(case: str, path: Path) -> None:
    change, told = HOSTILE[case]
    write_tf(path, TENSORS)
    with h5py.File(path, "a") as file:
        change(file)
    _assert_refused(path, told)


def _assert_refused(path: Path, told: str) -> None:
    with refused_soon(2**23) as refused:
        checked(read(path), TENSORS, JSON)
    assert told in str(refused.value)


@pytest.mark.parametrize("libver", ["latest", ("v110", "v110")])
def test_later_kinds_of_hdf5_are_refused(libver: Any, path: Path) -> None:
    _assert_refused(write_tf(path, TENSORS, libver=libver), "of another kind than Keras writes")


def test_a_later_kind_of_group_is_refused(path: Path) -> None:
    write_tf(path, TENSORS)
    with h5py.File(path, "a") as file:
        made = file.create_group("a", track_order=True)
        for number in range(20):
            made.create_group(str(number))
    _assert_refused(path, "of another kind than Keras writes")


@pytest.mark.parametrize("case", SPOILT)
def test_spoilt_files_are_refused(case: str, path: Path) -> None:
    spoil, told = SPOILT[case]
    data = bytearray(write_tf(path, TENSORS).read_bytes())
    spoil(data)
    path.write_bytes(data)
    _assert_refused(path, told)


def test_arrays_that_share_bytes_are_refused(path: Path) -> None:
    write_tf(path, TENSORS)
    with h5py.File(path) as file:
        one, other = (
            file[f"{PREFIX}h_._{layer}/attn/c_attn/weight:0"].id.get_offset() for layer in (0, 1)
        )
    data = path.read_bytes()
    assert data.count(other.to_bytes(8, "little")) == 1
    moved = data.replace(other.to_bytes(8, "little"), (one + 4).to_bytes(8, "little"))
    path.write_bytes(moved)
    _assert_refused(path, "shares its bytes with")
    path.write_bytes(data.replace(other.to_bytes(8, "little"), b"\xf0" + b"\xff" * 6 + b"\x7f"))
    _assert_refused(path, "HDF5 cannot read it")


def _packed(path: Path, change: Callable[[bytes], bytes], mask: int = 0, **plan: Any) -> None:
    """An array of one piece, packed, whose bytes are changed."""
    write_tf(path, TENSORS)
    with h5py.File(path, "a") as file:
        del file[QUERY]
        made = file.create_dataset(QUERY, data=ZEROS, chunks=ZEROS.shape, **plan)
        raw = made.id.read_direct_chunk((0, 0))[1]
        made.id.write_direct_chunk((0, 0), change(raw), mask)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "a bomb": lambda _: zlib.compress(bytes(2**24)),
    "a byte more": lambda _: zlib.compress(bytes(769)),
    "a byte less": lambda _: zlib.compress(bytes(767)),
    "nothing packed": lambda _: zlib.compress(b""),
    "half of it": lambda raw: raw[: len(raw) // 2],
    "not packed": lambda _: bytes(768),
    "another checksum": lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
}


@pytest.mark.parametrize("case", PACKED)
def test_a_piece_is_never_unpacked_to_more_than_its_array(case: str, path: Path) -> None:
    _packed(path, PACKED[case], compression="gzip")
    _assert_refused(path, "a piece is damaged")


def test_a_changed_byte_does_not_pass_its_checksum(path: Path) -> None:
    _packed(path, lambda raw: b"\x01" + raw[1:], fletcher32=True)
    _assert_refused(path, "its checksum is another one")
    _packed(path, lambda raw: raw[:3], fletcher32=True)
    _assert_refused(path, "a piece is damaged")


def test_a_piece_that_was_stored_without_its_filter_is_read(path: Path) -> None:
    _packed(path, lambda _: ZEROS.tobytes(), mask=1, compression="gzip")
    assert checked(read(path), TENSORS | {"h.0.attn.c_attn.weight": ZEROS}, JSON)


def test_a_file_that_is_cut_while_it_is_read_is_refused(path: Path) -> None:
    source = read(write_tf(path, TENSORS))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(Refused, match="shorter meanwhile"):
        made_of(source)


def test_memory_is_one_array_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for plan in ({}, {"compression": "gzip", "chunks": (2**16,)}):
            for number in range(6):
                name = f"{len(plan)}{number}"
                file.create_dataset(name, data=np.full(2**20, number, "f4"), **plan)
    tracemalloc.start()
    try:
        for array in hdf5.datasets(path):
            assert array.read()[-1] == int(array.name[-1])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * 2**22


def test_the_reader_works_in_the_process_without_rights(tmp_path: Path) -> None:
    path = write_tf(tmp_path / "tf_model.h5", TENSORS, compression="gzip")
    (tmp_path / "config.json").write_text(json.dumps(JSON))
    (tmp_path / "staging").mkdir()
    source = ModelSource(kind="x", reader="tf_h5", folder=tmp_path, files=(path,), companions=True)
    assert convert(source, tmp_path / "staging").tensors == len(TENSORS)
    with h5py.File(path, "a") as file:
        file["a"] = h5py.ExternalLink("/etc/passwd", "/")
    (tmp_path / "other").mkdir()
    with pytest.raises(BadModel, match="link to another place"):
        convert(source, tmp_path / "other")


@pytest.mark.skipif(PYTHON is None, reason="TRANSFORMERS4_PYTHON names no Python")
def test_scores_are_those_of_tensorflow_and_flax(tmp_path: Path) -> None:
    subprocess.run([str(PYTHON), REFEREE, tmp_path / "them"], check=True)
    kinds = sorted((tmp_path / "them").iterdir())
    assert len(kinds) == 10
    for kind in kinds:
        flax = kind.name.startswith("flax")
        files = sorted(kind.glob("*.msgpack" if flax else "*.h5"))
        job = Job(folder=kind, files=tuple(files), options={"tied": "untied" not in kind.name})
        source = (flax_msgpack if flax else tf_h5).read(job)
        found = scores(source, kind, np.load(kind / "ids.npy"))
        wanted = np.load(kind / "logits.npy")
        assert np.abs(wanted).max() > 0.5
        assert np.abs(found - wanted).max() < 1e-4, kind.name
